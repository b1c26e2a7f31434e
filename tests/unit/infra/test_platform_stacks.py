"""The whole program with each alternative, as an update and as a preview: it runs, and its parts meet."""

import json

import pytest
from mocks import run_program

DIGEST = "@sha256:" + "a" * 64
IMAGES = {name: f"registry.example.com/import-{name}{DIGEST}" for name in ("operator", "worker", "gateway")}
EXISTING_NETWORK = {
    "vpc_id": "vpc-0a",
    "private_subnet_ids": ["subnet-0a", "subnet-0b"],
    "workers_security_group_id": "sg-0a",
}
ALTERNATIVES = {
    "with images": {"application": {"images": IMAGES}},
    "node groups, spot": {"cluster": {"nodes": "groups", "spot_workers": True}},
    "existing cluster": {"cluster": {"existing_name": "platform"}, "network": EXISTING_NETWORK},
    "existing Prometheus": {"monitoring": {"prometheus": "existing", "namespace": "observability"}},
    "no Prometheus": {"monitoring": {"prometheus": "none", "log_shipper": False, "metrics_server": False}},
    "applied by kubectl": {"application": {"deploy": False}},
    "images from elsewhere": {"registry": {"create": False}},
}


@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_every_alternative_runs(alternative, preview):
    program = run_program("staging", changes=ALTERNATIVES[alternative], preview=preview)
    assert {"kubeconfig", "alarm_arns", "redis_secret_arn", "database_secret_arn"} <= set(program.exports)


def test_pods_find_what_the_program_made():
    program = run_program("production", changes={"application": {"images": IMAGES}})
    connections = program.one(
        "kubernetes:core/v1:Secret", "imports-production-application-connections"
    ).inputs
    values = connections["stringData"]
    assert values["S3_BUCKET"] == program.exports["bucket"]
    assert values["REDIS_URL"].startswith("rediss://")
    assert program.exports["redis_primary_endpoint"] in values["REDIS_URL"]
    assert program.exports["database_endpoint"] in values["DATABASE_DIRECT_URL"]


def test_pods_start_after_nodes_identities_and_prometheus():
    program = run_program("production", changes={"application": {"images": IMAGES}})
    overlay = program.one("kubernetes:kustomize/v2:Directory")
    associations = {each.urn for each in program.of("PodIdentityAssociation")}
    stack = next(each for each in program.of("kubernetes:helm.sh/v3:Release") if "prometheus" in each.name)
    pools = {each.urn for each in program.of("kubernetes:karpenter.sh/v1:NodePool")}
    assert associations | {stack.urn} | pools <= set(overlay.dependencies)


def test_databases_and_nodes_share_the_workers_group():
    program = run_program("production")
    group = program.exports["workers_security_group_id"]
    node_class = program.one("kubernetes:eks.amazonaws.com/v1:NodeClass").inputs["spec"]
    assert {"id": group} in node_class["securityGroupSelectorTerms"]
    ports = {
        each.inputs["fromPort"]
        for each in program.of("SecurityGroupIngressRule")
        if each.inputs.get("referencedSecurityGroupId") == group and "fromPort" in each.inputs
    }
    assert {5432, 6379} <= ports


def test_an_existing_cluster_gets_no_nodes_and_workers_no_place():
    program = run_program("staging", changes=ALTERNATIVES["existing cluster"])
    assert not program.of("aws:eks/cluster:Cluster")
    assert not program.of("kubernetes:karpenter.sh/v1:NodePool")
    assert all(each.inputs["clusterName"] == "platform" for each in program.of("PodIdentityAssociation"))


def test_every_node_of_redis_and_the_database_is_watched():
    program = run_program("production")
    group = program.one("ReplicationGroup").outputs
    watched = {json.dumps(each.inputs["dimensions"]) for each in program.of("MetricAlarm")}
    for node in group["memberClusters"]:
        assert json.dumps({"CacheClusterId": node}) in watched
    assert (
        json.dumps({"DBInstanceIdentifier": program.one("aws:rds/instance:Instance").outputs["identifier"]})
        in watched
    )


def test_no_secret_is_exported():
    program = run_program("production", changes={"application": {"images": IMAGES}})
    connections = program.one(
        "kubernetes:core/v1:Secret", "imports-production-application-connections"
    ).inputs
    exported = json.dumps(program.exports)
    for name in ("DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL"):
        assert connections["stringData"][name] not in exported
