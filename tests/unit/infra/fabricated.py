"""Outputs and answers as AWS would give them: ARNs, names with random ends, endpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

ACCOUNT = "123456789012"
REGION = "eu-central-1"

Outputs = dict[str, Any]


def _suffix(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:7]


def _hex(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:17]


def _by_prefix(
    prefix: str, service: str = "ec2", kind: str = ""
) -> Callable[[str, Mapping[str, Any]], tuple[str, Outputs]]:
    """Resources that AWS numbers: `vpc-0a1b…`."""

    def make(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
        identifier = f"{prefix}-{_hex(prefix + name)}"
        return identifier, {"arn": f"arn:aws:{service}:{REGION}:{ACCOUNT}:{kind or prefix}/{identifier}"}

    return make


def _named(
    service: str, resource: str, *, key: str = "name", region: str = REGION, **extra: str
) -> Callable[[str, Mapping[str, Any]], tuple[str, Outputs]]:
    """Resources with a name; without one, Pulumi makes it out of ours with a random end."""

    def make(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
        given = inputs.get(key) or f"{name}-{_suffix(name)}"
        arn = f"arn:aws:{service}:{region}:{ACCOUNT}:{resource.format(name=given)}"
        outputs: Outputs = {key: given, "arn": arn}
        outputs.update({field: text.format(name=given, arn=arn) for field, text in extra.items()})
        return str(given), outputs

    return make


def _key(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    identifier = f"{_hex(name)[:8]}-0000-4000-8000-000000000000"
    return identifier, {"keyId": identifier, "arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{identifier}"}


def _secret(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    given = inputs.get("name") or f"{name}-{_suffix(name)}"
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{given}-AbCdEf"
    return arn, {"name": given, "arn": arn}


def _secret_version(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    return f"{inputs['secretId']}|{_suffix(name)}", {"arn": inputs["secretId"], "versionId": _suffix(name)}


def _bucket(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    given = inputs.get("bucket") or f"{name}-{_suffix(name)}"
    domain = f"{given}.s3.{REGION}.amazonaws.com"
    return given, {"bucket": given, "arn": f"arn:aws:s3:::{given}", "bucketRegionalDomainName": domain}


def _replication_group(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    given = inputs.get("replicationGroupId") or f"{name}-{_suffix(name)}"
    members = [f"{given}-{number + 1:03}" for number in range(inputs.get("numCacheClusters", 1))]
    return given, {
        "replicationGroupId": given,
        "arn": f"arn:aws:elasticache:{REGION}:{ACCOUNT}:replicationgroup:{given}",
        "primaryEndpointAddress": f"master.{given}.abc123.euc1.cache.amazonaws.com",
        "readerEndpointAddress": f"replica.{given}.abc123.euc1.cache.amazonaws.com",
        "memberClusters": members,
        "port": inputs.get("port", 6379),
    }


def _database(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    given = inputs.get("identifier") or f"{name}-{_suffix(name)}"
    host = f"{given}.abc123.{REGION}.rds.amazonaws.com"
    return "db-ABCDEFGHIJKL", {
        "identifier": given,
        "arn": f"arn:aws:rds:{REGION}:{ACCOUNT}:db:{given}",
        "address": host,
        "endpoint": f"{host}:5432",
        "port": 5432,
        "resourceId": "db-ABCDEFGHIJKL",
    }


def _cluster(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    given = inputs.get("name") or f"{name}-{_suffix(name)}"
    return given, {
        "name": given,
        "arn": f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{given}",
        "endpoint": f"https://{_hex(name).upper()}.gr7.{REGION}.eks.amazonaws.com",
        "certificateAuthority": {"data": "LS0tLS1CRUdJTg=="},
        "certificateAuthorities": [{"data": "LS0tLS1CRUdJTg=="}],
        "identities": [{"oidcs": [{"issuer": f"https://oidc.eks.{REGION}.amazonaws.com/id/ABC"}]}],
        "vpcConfig": {**inputs.get("vpcConfig", {}), "clusterSecurityGroupId": f"sg-{_hex(name)}"},
    }


def _distribution(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    return "E1ABCDEFGHIJKL", {
        "arn": f"arn:aws:cloudfront::{ACCOUNT}:distribution/E1ABCDEFGHIJKL",
        "domainName": "d111111abcdef8.cloudfront.net",
    }


def _password(name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    return "none", {"result": (_hex(name) * 8)[: inputs["length"]]}


FABRICATED: dict[str, Callable[[str, Mapping[str, Any]], tuple[str, Outputs]]] = {
    "aws:cloudfront/distribution:Distribution": _distribution,
    "aws:cloudwatch/logGroup:LogGroup": _named("logs", "log-group:{name}"),
    "aws:cloudwatch/metricAlarm:MetricAlarm": _named("cloudwatch", "alarm:{name}"),
    "aws:ec2/eip:Eip": _by_prefix("eipalloc", kind="elastic-ip"),
    "aws:ec2/internetGateway:InternetGateway": _by_prefix("igw", kind="internet-gateway"),
    "aws:ec2/natGateway:NatGateway": _by_prefix("nat", kind="natgateway"),
    "aws:ec2/routeTable:RouteTable": _by_prefix("rtb", kind="route-table"),
    "aws:ec2/securityGroup:SecurityGroup": _by_prefix("sg", kind="security-group"),
    "aws:ec2/subnet:Subnet": _by_prefix("subnet"),
    "aws:ec2/vpc:Vpc": _by_prefix("vpc"),
    "aws:ecr/repository:Repository": _named(
        "ecr", "repository/{name}", repositoryUrl=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{{name}}"
    ),
    "aws:eks/cluster:Cluster": _cluster,
    "aws:elasticache/replicationGroup:ReplicationGroup": _replication_group,
    "aws:iam/policy:Policy": _named("iam", "policy/{name}", region=""),
    "aws:iam/role:Role": _named("iam", "role/{name}", region=""),
    "aws:kms/key:Key": _key,
    "aws:rds/instance:Instance": _database,
    "aws:rds/proxy:Proxy": _named(
        "rds", "db-proxy:prx-{name}", endpoint=f"{{name}}.proxy-abc123.{REGION}.rds.amazonaws.com"
    ),
    "aws:s3/bucket:Bucket": _bucket,
    "aws:secretsmanager/secret:Secret": _secret,
    "aws:secretsmanager/secretVersion:SecretVersion": _secret_version,
    "aws:sns/topic:Topic": _named("sns", "{name}"),
    "random:index/randomPassword:RandomPassword": _password,
}
"""Outputs of each type that components read; other types get a name with a random end and an ARN."""


def fabricate(type_token: str, name: str, inputs: Mapping[str, Any]) -> tuple[str, Outputs]:
    """Id and outputs of a resource after an update, its inputs included."""
    make = FABRICATED.get(type_token)
    if make is None:
        package, module, _ = type_token.split(":", 2)
        if package != "aws":
            return f"{name}-{_suffix(name)}", dict(inputs)
        make = _named(module.split("/")[0], f"{module.split('/')[-1]}/{{name}}")
    identifier, outputs = make(name, inputs)
    return identifier, {**inputs, **outputs}


def answer(token: str, arguments: Mapping[str, Any]) -> Outputs:
    """What a data source says; one that is not known here fails the test."""
    known: dict[str, Outputs] = {
        "aws:ec2/getVpc:getVpc": {
            "id": arguments.get("id"),
            "cidrBlock": "10.50.0.0/16",
            "arn": f"arn:aws:ec2:{REGION}:{ACCOUNT}:vpc/{arguments.get('id')}",
        },
        "aws:eks/getCluster:getCluster": {
            "name": arguments.get("name"),
            "arn": f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{arguments.get('name')}",
            "endpoint": f"https://ABC.gr7.{REGION}.eks.amazonaws.com",
            "certificateAuthorities": [{"data": "LS0tLS1CRUdJTg=="}],
            "kubernetesNetworkConfigs": [{"serviceIpv4Cidr": "10.100.0.0/16", "ipFamily": "ipv4"}],
            "vpcConfig": {"clusterSecurityGroupId": "sg-0c", "vpcId": "vpc-0a"},
            "id": arguments.get("name"),
        },
        "aws:index/getCallerIdentity:getCallerIdentity": {
            "accountId": ACCOUNT,
            "arn": f"arn:aws:iam::{ACCOUNT}:user/someone",
            "id": ACCOUNT,
            "userId": "AIDA",
        },
        "aws:index/getRegion:getRegion": {
            "region": REGION,
            "name": REGION,
            "id": REGION,
            "description": "",
            "endpoint": "",
        },
        "aws:index/getPartition:getPartition": {
            "partition": "aws",
            "dnsSuffix": "amazonaws.com",
            "id": "aws",
        },
        "aws:secretsmanager/getSecretVersion:getSecretVersion": {
            "arn": arguments.get("secretId"),
            "secretString": json.dumps(
                {"username": "platform", "password": "p@ss/word", "host": "db.platform", "dbname": "platform"}
            ),
        },
        "aws:index/getAvailabilityZones:getAvailabilityZones": {
            "names": [f"{REGION}{letter}" for letter in "abcd"],
            "zoneIds": [],
            "groupNames": [],
            "id": REGION,
            "region": REGION,
        },
    }
    if token not in known:
        raise AssertionError(f"{token} is asked for; say in tests/unit/infra/fabricated.py what AWS answers")
    return known[token]
