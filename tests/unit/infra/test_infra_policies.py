"""All resources of all example stacks keep the rules; and each rule finds what breaks it."""

import dataclasses
import functools
import json

import pytest
from mocks import Registered, run_program
from resource_policies import RULES, WILDCARDS, production_is_protected

STACKS = ("dev", "staging", "production")


@functools.cache
def resources(stack, nodes="automatic"):
    return tuple(run_program(stack, changes={"cluster": {"nodes": nodes}}).resources)


@pytest.mark.parametrize("nodes", ["automatic", "groups"])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_stack_keeps_the_rules(rule, stack, nodes):
    assert list(rule(resources(stack, nodes))) == []


def test_production_is_protected():
    assert list(production_is_protected(resources("production"))) == []


def test_no_exception_is_left_over():
    """An exception that nothing needs any more would hide the next wildcard."""
    policies = {
        f"{each.type.rsplit(':', 1)[-1]}/{each.name.split('-', 2)[-1]}"
        for each in resources("production", "groups")
        if any('"Statement"' in str(value) for value in each.inputs.values())
    }
    assert {place.split(" ")[0] for place in WILDCARDS} <= policies


def changed(type_suffix, **inputs):
    """All of production's resources, with the first of a type changed: None removes an input."""
    found = False
    for each in resources("production"):
        if not found and each.type.endswith(f":{type_suffix}"):
            found = True
            kept = {key: value for key, value in {**each.inputs, **inputs}.items() if value is not None}
            yield dataclasses.replace(each, inputs=kept)
        else:
            yield each
    assert found, type_suffix


def without(type_suffix):
    """All of production's resources but those of a type."""
    return [each for each in resources("production") if not each.type.endswith(f":{type_suffix}")]


def planted(type_token, **inputs):
    """One bad resource among production's."""
    return [*resources("production"), registered(type_token, **inputs)]


def registered(type_token, **inputs):
    return Registered(
        urn=f"urn:{type_token}",
        type=type_token,
        name="imports-production-planted",
        parent="urn:pulumi:x::x::import-operator:infra:Network::planted",
        inputs=inputs,
        outputs=inputs,
        protect=False,
        retain=False,
        provider="",
        dependencies=(),
        secret_inputs=frozenset(),
        ignored_changes=(),
        custom=True,
    )


def statement(**values):
    return json.dumps({"Statement": [{"Effect": "Allow", "Resource": "arn:aws:s3:::a/*", **values}]})


POLICY = "aws:iam/rolePolicy:RolePolicy"
RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
PLANTED = {
    "nothing_is_public": [
        lambda: without("BucketPublicAccessBlock"),
        lambda: changed("BucketPublicAccessBlock", blockPublicPolicy=False),
        lambda: changed("Subnet", mapPublicIpOnLaunch=True),
        lambda: changed("rds/instance:Instance", publiclyAccessible=None),
        lambda: changed("eks/cluster:Cluster", vpcConfig={"endpointPublicAccess": True}),
        lambda: changed(
            "eks/cluster:Cluster",
            vpcConfig={"endpointPublicAccess": True, "publicAccessCidrs": ["0.0.0.0/0"]},
        ),
        lambda: planted("aws:lb/loadBalancer:LoadBalancer", internal=False),
        lambda: planted("aws:sns/topicPolicy:TopicPolicy", policy=statement(Principal="*", Action="a:B")),
        lambda: planted(
            "aws:sns/topicPolicy:TopicPolicy", policy=statement(Principal={"AWS": "*"}, Action="a:B")
        ),
    ],
    "no_ingress_from_everywhere": [
        lambda: planted(RULE, cidrIpv4="0.0.0.0/0"),
        lambda: planted(RULE, cidrIpv6="::/0"),
        lambda: planted(GROUP, ingress=[{"cidrBlocks": ["0.0.0.0/0"]}]),
        lambda: planted(
            "aws:ec2/securityGroupRule:SecurityGroupRule", type="ingress", cidrBlocks=["0.0.0.0/0"]
        ),
    ],
    "everything_is_encrypted": [
        lambda: changed("rds/instance:Instance", storageEncrypted=False),
        lambda: changed("rds/instance:Instance", parameterGroupName="default.postgres18"),
        lambda: changed("ReplicationGroup", transitEncryptionEnabled=False),
        lambda: changed("ReplicationGroup", transitEncryptionMode="preferred"),
        lambda: changed("ReplicationGroup", kmsKeyId=None),
        lambda: changed("ReplicationGroup", authToken=None),
        lambda: changed("LogGroup", kmsKeyId=None),
        lambda: changed("Secret", kmsKeyId=None),
        lambda: changed("Topic", kmsMasterKeyId=None),
        lambda: changed("Repository", encryptionConfigurations=None),
        lambda: changed("eks/cluster:Cluster", encryptionConfig=None),
        lambda: changed("Proxy", requireTls=False),
        lambda: changed("Distribution", defaultCacheBehavior={"viewerProtocolPolicy": "allow-all"}),
        lambda: without("BucketServerSideEncryptionConfiguration"),
        lambda: without("BucketPolicy"),
        lambda: changed("StorageClass", parameters={"type": "gp3"}),
        lambda: planted("aws:ec2/launchTemplate:LaunchTemplate", blockDeviceMappings=[{"ebs": {}}]),
    ],
    "everything_is_tagged": [
        lambda: changed("ec2/vpc:Vpc", tags=None),
        lambda: changed("ec2/vpc:Vpc", tags={"Name": "a"}),
    ],
    "no_wildcard_rights": [
        lambda: planted(POLICY, policy=statement(Action="s3:*")),
        lambda: planted(POLICY, policy=statement(Action=["s3:GetObject", "*"])),
        lambda: planted(POLICY, policy=statement(Action="s3:GetObject", Resource="*")),
        lambda: planted(POLICY, policy=statement(Action="s3:GetObject", Resource=["*"])),
        lambda: planted(POLICY, policy=statement(NotAction="s3:GetObject")),
        lambda: [
            dataclasses.replace(
                registered(POLICY, policy=statement(Action="ec2:RunInstances", Resource="*")),
                name="imports-production-nodes-autoscaler",
            )
        ],
    ],
    "logs_are_kept_for_a_time": [
        lambda: changed("LogGroup", retentionInDays=None),
        lambda: without("LogGroup"),
    ],
    "secrets_are_marked": [
        lambda: planted("aws:rds/instance:Instance", password="open"),
        lambda: planted("aws:secretsmanager/secretVersion:SecretVersion", secretString="open"),
    ],
    "everything_has_a_component": [
        lambda: [dataclasses.replace(each, parent="") for each in resources("production")],
    ],
}


@pytest.mark.parametrize(
    ("name", "make"), [(name, make) for name, makes in PLANTED.items() for make in makes]
)
def test_every_rule_finds_what_breaks_it(name, make):
    assert list(RULES[name](list(make())))


def test_every_rule_has_something_planted():
    assert set(PLANTED) == set(RULES)


@pytest.mark.parametrize(
    ("type_suffix", "inputs"),
    [
        ("rds/instance:Instance", {"deletionProtection": False}),
        ("rds/instance:Instance", {"skipFinalSnapshot": True}),
        ("rds/instance:Instance", {"multiAz": False}),
        ("rds/instance:Instance", {"backupRetentionPeriod": 1}),
        ("ReplicationGroup", {"multiAzEnabled": False}),
        ("ReplicationGroup", {"snapshotRetentionLimit": 0}),
        ("s3/bucket:Bucket", {"forceDestroy": True}),
        ("eks/cluster:Cluster", {"deletionProtection": False}),
        ("Secret", {"recoveryWindowInDays": 0}),
        ("kms/key:Key", {"deletionWindowInDays": 1}),
        ("Repository", {"forceDelete": True}),
    ],
)
def test_the_protection_of_production_can_be_missed(type_suffix, inputs):
    assert list(production_is_protected(list(changed(type_suffix, **inputs))))
