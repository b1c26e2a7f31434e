"""The sizing of a stack out of its configuration (infra/configuration), as the components build it."""

from __future__ import annotations

from pathlib import Path

import yaml

from infra.capacity import workers_per_node
from infra.configuration import Configuration, read_stack_file
from infra.cost.sizing import Sizing
from infra.cost.units import CostError

NAT_GATEWAYS = {"none": 0, "one": 1}
# Where EKS Auto Mode chooses types itself, an estimate takes these: with 2 GiB for each vCPU, as workers have, and
# neither the cheapest nor the dearest.
AUTOMATIC_TYPES = {"amd64": "c7i.4xlarge", "arm64": "c7g.4xlarge"}
# Operator, gateway, Prometheus, Alertmanager, log shipper and the cluster's own parts, one node for each zone.
SYSTEM_TYPES = {"amd64": "m7i.large", "arm64": "m7g.large"}
NODE_DISK_GIGABYTES = 100
MINIMUM_WORKERS = 2
ALARMS = 16
SECRETS = 3
IMAGE_GIGABYTES = 5


def get_sizing(stack: str, region: str, configuration: Configuration) -> Sizing:
    """What the stack's components cost money for; what you bring yourself counts as nothing."""
    network, redis, postgres = configuration.network, configuration.redis, configuration.postgres
    cluster, monitoring = configuration.cluster, configuration.monitoring
    made_network = network.vpc_id is None
    zones = network.availability_zones if made_network else 3
    made_database = postgres.existing_secret_arn is None
    made_cluster = cluster.existing_name is None
    automatic = cluster.nodes == "automatic"
    worker_type = AUTOMATIC_TYPES[cluster.architecture] if automatic else cluster.worker_instance_types[0]
    system_type = SYSTEM_TYPES[cluster.architecture] if automatic else cluster.service_instance_types[0]
    most = configuration.application.max_workers
    prometheus = monitoring.replicas * monitoring.storage_gib if monitoring.prometheus == "install" else 0
    return Sizing(
        stack=stack,
        region=region,
        zones=zones,
        nat_gateways=NAT_GATEWAYS.get(network.nat_gateways, zones) if made_network else 0,
        interface_endpoints=len(network.interface_endpoints) if made_network else 0,
        control_planes=1 if made_cluster else 0,
        automatic_nodes=automatic,
        worker_instance_type=worker_type,
        workers_per_node=workers_per_node(worker_type),
        minimum_workers=min(MINIMUM_WORKERS, most),
        maximum_workers=most,
        spot_workers=cluster.spot_workers,
        system_instance_type=system_type,
        system_nodes=0 if not made_cluster else zones if automatic else cluster.service_nodes,
        node_disk_gigabytes=NODE_DISK_GIGABYTES,
        prometheus_gigabytes=prometheus,
        redis_engine=redis.engine,
        redis_node_type=redis.node_type,
        redis_nodes=1 + redis.replicas,
        postgres_class=postgres.instance_class if made_database else None,
        postgres_vcpus=vcpus_of(postgres.instance_class),
        postgres_zones=2 if postgres.multi_az else 1,
        postgres_storage_gigabytes=postgres.allocated_storage_gib,
        postgres_proxy=made_database and postgres.proxy,
        own_bucket=configuration.storage.existing_bucket is None,
        alarms=ALARMS,
        secrets=SECRETS,
        keys=1 if configuration.encryption.kms_key_arn is None else 0,
        image_gigabytes=IMAGE_GIGABYTES if configuration.registry.create else 0,
    )


def vcpus_of(instance_class: str) -> int:
    """The vCPUs of a class of RDS, by the rule that all families of AWS follow from `large` on."""
    size = instance_class.rsplit(".", 1)[-1]
    if size in {"micro", "small", "medium", "large"}:
        return 2
    times = size.removesuffix("xlarge")
    if size == times or not (times == "" or times.isdigit()):
        raise CostError(
            f"{instance_class} has a size that this estimate does not know; use one such as db.m7g.large"
        )
    return 4 * int(times or 1)


def read_sizing(stack: str, folder: Path, *, region: str | None = None) -> Sizing:
    """Read Pulumi.<stack>.yaml of a folder; raise CostError where there is none."""
    path = folder / f"Pulumi.{stack}.yaml"
    if not path.exists():
        known = ", ".join(sorted(each.name.split(".")[1] for each in folder.glob("Pulumi.*.yaml")))
        raise CostError(
            f"there is no {path.name}; the stacks here are {known or 'none'}: name one with STACK=…"
        )
    own = (yaml.safe_load(path.read_text(encoding="utf-8")).get("config") or {}).get("aws:region")
    priced = region or own
    if not isinstance(priced, str):
        raise CostError(f"{path.name} names no aws:region; set it there, or give --region")
    return get_sizing(stack, priced, read_stack_file(path))
