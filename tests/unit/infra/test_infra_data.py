"""Network, Redis, PostgreSQL and storage: their exact settings, and what is brought instead of made."""

import ipaddress
import json

import pytest
from infra.connection_budget import DIRECT, SERVICE_POOL, WORKER_POOL, bearable_connections, connection_budget
from infra.network import subnet_blocks
from infra.postgres import database_url, read_secret
from infra.storage import THUMBNAILS
from mocks import run_program

VPC = {
    "vpc_id": "vpc-0abc",
    "private_subnet_ids": ["subnet-0a", "subnet-0b"],
    "cidr_block": None,
    "availability_zones": None,
    "nat_gateways": None,
}
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:platform-AbCdEf"
BOTH = pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])


def test_redis_is_as_the_design_has_it():
    inputs = run_program("production").one("ReplicationGroup").inputs
    assert (
        inputs.items()
        >= {
            "nodeType": "cache.r7g.large",
            "numCacheClusters": 3,
            "multiAzEnabled": True,
            "automaticFailoverEnabled": True,
            "atRestEncryptionEnabled": True,
            "transitEncryptionEnabled": True,
            "snapshotRetentionLimit": 5,
            "snapshotWindow": "03:00-05:00",
            "maintenanceWindow": "mon:05:00-mon:07:00",
            "port": 6379,
        }.items()
    )


@pytest.mark.parametrize(
    ("engine", "version", "family"),
    [("valkey", "8.0", "valkey8"), ("valkey", "7.2", "valkey7"), ("redis", "7.1", "redis7")],
)
def test_redis_never_evicts_whichever_engine_it_is(engine, version, family):
    program = run_program("dev", changes={"redis": {"engine": engine, "engine_version": version}})
    parameters = program.one("aws:elasticache/parameterGroup:ParameterGroup").inputs
    assert parameters["family"] == family
    assert parameters["parameters"] == [{"name": "maxmemory-policy", "value": "noeviction"}]
    assert program.one("ReplicationGroup").inputs["engine"] == engine


def test_only_the_workers_group_reaches_redis():
    program = run_program("production")
    group = program.one("SecurityGroup", "imports-production-redis")
    workers = program.one("SecurityGroup", "imports-production-network-workers")
    rules = [
        each.inputs
        for each in program.of("SecurityGroupIngressRule")
        if each.inputs["securityGroupId"] == program.ids[group.urn]
    ]
    assert [(rule["fromPort"], rule["toPort"], rule["referencedSecurityGroupId"]) for rule in rules] == [
        (6379, 6379, program.ids[workers.urn])
    ]


def test_the_secret_of_redis_has_what_its_token_says():
    program = run_program("production")
    version = program.one("SecretVersion", "imports-production-redis")
    group = program.one("ReplicationGroup")
    values = json.loads(version.inputs["secretString"])
    assert values["token"] == group.inputs["authToken"]
    assert len(values["token"]) == 64
    assert values["url"] == f"rediss://:{values['token']}@{group.outputs['primaryEndpointAddress']}:6379/0"


def test_alarms_watch_each_node_of_redis():
    program = run_program("production")
    nodes = set(program.one("ReplicationGroup").outputs["memberClusters"])
    watched = {each.inputs.get("dimensions", {}).get("CacheClusterId") for each in program.of("MetricAlarm")}
    assert nodes <= watched


@pytest.mark.parametrize("stack", ["dev", "staging", "production"])
def test_the_server_has_room_for_every_connection(stack):
    program = run_program(stack)
    parameters = {
        each["name"]: each["value"]
        for each in program.one("aws:rds/parameterGroup:ParameterGroup").inputs["parameters"]
    }
    instance = program.one("aws:rds/instance:Instance").inputs
    assert parameters["rds.force_ssl"] == "1"
    assert int(parameters["max_connections"]) <= bearable_connections(instance["instanceClass"])


def test_only_a_part_of_the_server_is_the_proxys():
    program = run_program("production")
    pool = program.one("ProxyDefaultTargetGroup").inputs["connectionPoolConfig"]
    budget = connection_budget(workers=50, operators=2, gateways=2, proxy=True)
    free = budget.max_connections * (100 - pool["maxConnectionsPercent"]) / 100
    assert free >= budget.direct
    assert budget.max_connections * pool["maxConnectionsPercent"] / 100 >= budget.proxied


def test_the_database_lets_in_workers_for_listen_and_the_proxy():
    program = run_program("production")
    group = program.ids[program.one("SecurityGroup", "imports-production-postgres").urn]
    sources = {
        each.inputs["referencedSecurityGroupId"]
        for each in program.of("SecurityGroupIngressRule")
        if each.inputs["securityGroupId"] == group
    }
    assert sources == {
        program.ids[program.one("SecurityGroup", name).urn]
        for name in ("imports-production-network-workers", "imports-production-postgres-proxy")
    }


def test_processes_have_two_ways_to_the_database():
    program = run_program("production")
    connections = program.one("Secret", "imports-production-application-connections").inputs["stringData"]
    assert "imports-production-postgres-proxy.proxy-" in connections["DATABASE_URL"]
    assert "@imports-production-postgres." in connections["DATABASE_DIRECT_URL"]
    assert all(url.endswith("?sslmode=require") for name, url in connections.items() if "DATABASE" in name)


def test_without_a_proxy_both_ways_are_one():
    connections = run_program("dev").one("Secret", "imports-dev-application-connections").inputs["stringData"]
    assert connections["DATABASE_URL"] == connections["DATABASE_DIRECT_URL"]


@BOTH
def test_an_existing_network_is_used_and_not_changed(preview):
    program = run_program("dev", changes={"network": VPC}, preview=preview)
    assert not [each for kind in ("Vpc", "Subnet", "NatGateway", "VpcEndpoint") for each in program.of(kind)]
    assert program.one("aws:elasticache/subnetGroup:SubnetGroup").inputs["subnetIds"] == [
        "subnet-0a",
        "subnet-0b",
    ]
    assert program.one("SecurityGroup", "imports-dev-redis").inputs["vpcId"] == "vpc-0abc"


@BOTH
def test_an_existing_group_of_workers_is_let_in(preview):
    program = run_program(
        "dev", changes={"network": {**VPC, "workers_security_group_id": "sg-0fff"}}, preview=preview
    )
    rule = program.one("SecurityGroupIngressRule", "imports-dev-redis-from-workers")
    assert rule.inputs["referencedSecurityGroupId"] == "sg-0fff"


@BOTH
def test_an_existing_database_is_used_by_its_secret(preview):
    program = run_program(
        "dev",
        changes={"postgres": {"existing_secret_arn": SECRET, "existing_security_group_id": "sg-0dad"}},
        preview=preview,
    )
    assert not program.of("aws:rds/instance:Instance")
    assert (
        program.one("SecurityGroupIngressRule", "imports-dev-postgres-from-workers").inputs["securityGroupId"]
        == "sg-0dad"
    )
    assert not [each for each in program.of("MetricAlarm") if "database" in each.name]
    connections = program.one("Secret", "imports-dev-application-connections")
    assert "stringData" in connections.secret_inputs
    if not preview:
        assert connections.inputs["stringData"]["DATABASE_URL"] == (
            "postgresql://platform:p%40ss%2Fword@db.platform:5432/platform?sslmode=require"
        )


@BOTH
def test_an_existing_bucket_is_used_and_not_changed(preview):
    program = run_program(
        "staging",
        changes={"storage": {"existing_bucket": "platform-images", "cloudfront": False}},
        preview=preview,
    )
    assert not [each for each in program.resources if each.type.startswith(("aws:s3/", "aws:cloudfront/"))]
    assert program.exports["bucket"] == "platform-images"


@BOTH
def test_an_existing_key_encrypts_everything(preview):
    key = "arn:aws:kms:eu-central-1:123456789012:key/22222222-0000-4000-8000-000000000000"
    program = run_program("dev", changes={"encryption": {"kms_key_arn": key}}, preview=preview)
    assert not program.of("Key")
    assert program.one("ReplicationGroup").inputs["kmsKeyId"] == key


@BOTH
def test_everything_may_be_brought(preview):
    program = run_program(
        "dev",
        changes={
            "network": {**VPC, "workers_security_group_id": "sg-0fff"},
            "postgres": {"existing_secret_arn": SECRET},
            "storage": {"existing_bucket": "platform-images"},
            "cluster": {"existing_name": "platform"},
        },
        preview=preview,
    )
    assert not [each for kind in ("Vpc", "Instance", "Bucket") for each in program.of(kind) if each.custom]
    assert program.of("aws:eks/cluster:Cluster") == []
    assert program.one("ReplicationGroup")


def test_cloudfront_reads_thumbnails_only():
    program = run_program("production")
    document = json.loads(program.one("BucketPolicy").inputs["policy"])
    allowed = [each for each in document["Statement"] if each["Effect"] == "Allow"]
    assert [each["Resource"] for each in allowed] == [
        [f"{program.one('aws:s3/bucket:Bucket').outputs['arn']}/{THUMBNAILS}"]
    ]


def test_thumbnails_and_no_originals_have_the_keys_that_cloudfront_reads():
    from fnmatch import fnmatchcase

    from import_core.domain.images import object_key, thumbnail_key

    digest = "ab" * 32
    assert fnmatchcase(thumbnail_key("com_pany", digest, 512), THUMBNAILS)
    assert not fnmatchcase(object_key("com_pany", digest, "webp"), THUMBNAILS)


def test_the_budget_knows_what_processes_open():
    from import_gateway.process import DATABASE_CONNECTIONS as GATEWAY
    from import_operator.replica import DATABASE_CONNECTIONS as OPERATOR
    from import_worker.runner import SPARE_CONNECTIONS
    from import_worker.settings import WorkerSettings

    concurrency = WorkerSettings.model_fields["concurrency"].default
    assert concurrency + SPARE_CONNECTIONS == WORKER_POOL
    assert {GATEWAY, OPERATOR} == {SERVICE_POOL}


def test_the_budget_counts_all_pods_of_a_rollout():
    without = connection_budget(workers=50, operators=2, gateways=2, proxy=False)
    # 63 pods of workers and 6 of services.
    assert without.pooled == 63 * WORKER_POOL + 6 * SERVICE_POOL
    assert without.direct == 69 * DIRECT
    assert without.at_server == without.pooled + without.direct + 25
    assert (
        connection_budget(workers=50, operators=2, gateways=2, proxy=True).at_server < without.at_server / 2
    )


@pytest.mark.parametrize(
    ("instance_class", "connections"),
    [
        ("db.t4g.medium", 450),
        ("db.m7g.large", 901),
        ("db.r7g.large", 1802),
        ("db.m7g.2xlarge", 3604),
        ("db.r7g.16xlarge", 5000),
        ("db.x2g.large", None),
    ],
)
def test_memory_bounds_connections(instance_class, connections):
    assert bearable_connections(instance_class) == connections


@pytest.mark.parametrize("zones", [2, 3, 4])
@pytest.mark.parametrize("block", ["10.40.0.0/16", "172.31.0.0/20"])
def test_subnets_share_the_network_without_overlap(block, zones):
    blocks = subnet_blocks(block, zones)
    networks = [ipaddress.ip_network(each) for each in (*blocks.private, *blocks.public)]
    assert len(networks) == 2 * zones
    assert all(each.subnet_of(ipaddress.ip_network(block)) for each in networks)
    assert not any(
        one.overlaps(other) for index, one in enumerate(networks) for other in networks[index + 1 :]
    )
    # AWS keeps five addresses of each subnet, and makes none smaller than /28.
    assert all(each.prefixlen <= 28 for each in networks)


@pytest.mark.parametrize("gateways", ["none", "one", "per-zone"])
def test_every_private_subnet_has_the_way_out_that_was_asked_for(gateways):
    program = run_program("production", changes={"network": {"nat_gateways": gateways}})
    count = {"none": 0, "one": 1, "per-zone": 3}[gateways]
    assert len(program.of("NatGateway")) == count
    routes = [each for each in program.of("Route") if "natGatewayId" in each.inputs]
    assert len(routes) == (3 if count else 0)
    assert len({each.inputs["natGatewayId"] for each in routes}) == count


def test_a_database_url_escapes_what_passwords_may_hold():
    values = {"username": "a@b", "password": "p:/?#", "dbname": "x y", "port": 6000}
    assert database_url(values, host="h") == "postgresql://a%40b:p%3A%2F%3F%23@h:6000/x%20y?sslmode=require"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("secret-text", "no JSON object"),
        ("[1]", "no JSON object"),
        ('{"username": "u", "host": "h"}', "no password, dbname"),
    ],
)
def test_a_database_secret_that_lacks_something_says_so_without_showing_it(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_secret(text)
    assert "secret-text" not in str(raised.value)
