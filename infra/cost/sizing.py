"""What of a stack costs money, in the sizes that prices are for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizing:
    """The billed parts of one stack. What you bring yourself has no price here: it is paid already."""

    stack: str
    region: str
    # network: 0 gateways and endpoints in a network of your own
    zones: int
    nat_gateways: int
    interface_endpoints: int
    # cluster
    control_planes: int
    automatic_nodes: bool
    worker_instance_type: str
    workers_per_node: int
    minimum_workers: int
    maximum_workers: int
    spot_workers: bool
    system_instance_type: str
    system_nodes: int
    node_disk_gigabytes: int
    prometheus_gigabytes: int
    # Redis
    redis_engine: str
    redis_node_type: str
    redis_nodes: int
    # PostgreSQL: no class means a database of yours
    postgres_class: str | None
    postgres_vcpus: int
    postgres_zones: int
    postgres_storage_gigabytes: int
    postgres_proxy: bool
    # the rest
    own_bucket: bool
    alarms: int
    secrets: int
    keys: int
    image_gigabytes: int
