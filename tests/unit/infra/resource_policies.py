"""Rules that all resources of every stack keep; each gives one line for each resource that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from input_types import accepts
from mocks import Registered

Resources = Sequence[Registered]
Rule = Callable[[Resources], Iterator[str]]
EVERYWHERE = {"0.0.0.0/0", "::/0"}
OUR_TAGS = ("Name", "Project", "Environment", "ManagedBy")

WILDCARDS = {
    "Key/encryption": "in a key's own policy `*` is this key, which has no other name there",
    "RolePolicy/nodes-autoscaler": "what the autoscaler describes (groups, machines, types) AWS takes no names for",
    "Key/encryption kms:*": "the account decides by its IAM policies, else nobody could ever change the key",
}
"""`*` in Allow statements that cannot be avoided, by type and name, and why."""


def _of(resources: Resources, *kinds: str) -> Iterator[Registered]:
    for resource in resources:
        if resource.type.rsplit(":", 1)[-1] in kinds and resource.type.startswith("aws:"):
            yield resource


def nothing_is_public(resources: Resources) -> Iterator[str]:
    """No public addresses, buckets, databases or API servers for everybody."""
    blocked = {
        each.inputs.get("bucket")
        for each in _of(resources, "BucketPublicAccessBlock")
        if all(
            each.inputs.get(key) is True
            for key in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
        )
    }
    for each in _of(resources, "Bucket"):
        if each.outputs.get("bucket") not in blocked:
            yield f"{each.name}: the bucket has no public access block"
    for each in _of(resources, "Subnet"):
        if each.inputs.get("mapPublicIpOnLaunch"):
            yield f"{each.name}: machines get public addresses"
    for each in _of(resources, "Instance"):
        if each.inputs.get("publiclyAccessible") is not False:
            yield f"{each.name}: publiclyAccessible is not false"
    for each in _of(resources, "Cluster"):
        network = each.inputs.get("vpcConfig", {})
        if network.get("endpointPublicAccess") is not False and (
            not network.get("publicAccessCidrs") or EVERYWHERE & set(network["publicAccessCidrs"])
        ):
            yield f"{each.name}: everybody reaches the API server"
    for each in _of(resources, "LoadBalancer"):
        if each.inputs.get("internal") is not True:
            yield f"{each.name}: the load balancer is public"
    for each, statement in _statements(resources):
        if statement["Effect"] == "Allow" and _is_anybody(statement.get("Principal")):
            yield f"{each.name}: a policy lets in anybody"


def no_ingress_from_everywhere(resources: Resources) -> Iterator[str]:
    """No security group lets in the whole internet."""
    for each in _of(resources, "SecurityGroupIngressRule"):
        if EVERYWHERE & {each.inputs.get("cidrIpv4"), each.inputs.get("cidrIpv6")}:
            yield f"{each.name}: lets in everybody"
    for each in _of(resources, "SecurityGroup", "DefaultSecurityGroup"):
        for rule in each.inputs.get("ingress") or ():
            if EVERYWHERE & {*(rule.get("cidrBlocks") or ()), *(rule.get("ipv6CidrBlocks") or ())}:
                yield f"{each.name}: lets in everybody"
    for each in _of(resources, "SecurityGroupRule"):
        if each.inputs.get("type") == "ingress" and EVERYWHERE & set(each.inputs.get("cidrBlocks") or ()):
            yield f"{each.name}: lets in everybody"


_ENCRYPTED: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "Instance": lambda inputs: inputs.get("storageEncrypted") is True and bool(inputs.get("kmsKeyId")),
    "ReplicationGroup": lambda inputs: (
        inputs.get("atRestEncryptionEnabled") is True
        and inputs.get("transitEncryptionEnabled") is True
        and inputs.get("transitEncryptionMode") == "required"
        and bool(inputs.get("kmsKeyId"))
        and bool(inputs.get("authToken"))
    ),
    "LogGroup": lambda inputs: bool(inputs.get("kmsKeyId")),
    "Secret": lambda inputs: bool(inputs.get("kmsKeyId")),
    "Topic": lambda inputs: bool(inputs.get("kmsMasterKeyId")),
    "Repository": lambda inputs: any(
        each.get("encryptionType") == "KMS" for each in inputs.get("encryptionConfigurations") or ()
    ),
    "Cluster": lambda inputs: "secrets" in (inputs.get("encryptionConfig") or {}).get("resources", ()),
    "Proxy": lambda inputs: inputs.get("requireTls") is True,
    "Distribution": lambda inputs: inputs["defaultCacheBehavior"].get("viewerProtocolPolicy") == "https-only",
    "LaunchTemplate": lambda inputs: all(
        str((each.get("ebs") or {}).get("encrypted")).lower() == "true"
        for each in inputs.get("blockDeviceMappings") or ({},)
    ),
}


def everything_is_encrypted(resources: Resources) -> Iterator[str]:
    """Everything at rest with a key of the installation, everything on its way by TLS."""
    for each in _of(resources, *_ENCRYPTED):
        if not _ENCRYPTED[each.type.rsplit(":", 1)[-1]](each.inputs):
            yield f"{each.name}: not encrypted, or not by our key"
    by_key = {
        each.inputs.get("bucket")
        for each in _of(resources, "BucketServerSideEncryptionConfiguration")
        if all(
            (rule.get("applyServerSideEncryptionByDefault") or {}).get("kmsMasterKeyId")
            for rule in each.inputs["rules"]
        )
    }
    tls_only = {
        each.inputs.get("bucket")
        for each, statement in _statements(resources)
        if statement["Effect"] == "Deny"
        and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
    }
    for each in _of(resources, "Bucket"):
        if each.outputs["bucket"] not in by_key:
            yield f"{each.name}: the bucket is not encrypted by our key"
        if each.outputs["bucket"] not in tls_only:
            yield f"{each.name}: the bucket answers without TLS"
    forced = {
        each.outputs.get("name")
        for each in _of(resources, "ParameterGroup")
        for parameter in each.inputs.get("parameters") or ()
        if (parameter["name"], parameter["value"]) == ("rds.force_ssl", "1")
    }
    for each in _of(resources, "Instance"):
        if each.inputs.get("parameterGroupName") not in forced:
            yield f"{each.name}: TLS is not forced"
    for each in resources:
        if (
            each.type.endswith(":StorageClass")
            and each.inputs.get("parameters", {}).get("encrypted") != "true"
        ):
            yield f"{each.name}: volumes are not encrypted"


def everything_is_tagged(resources: Resources) -> Iterator[str]:
    """Whatever AWS can tag says whose it is."""
    for each in resources:
        if not each.type.startswith("aws:") or not accepts(each.type, "tags"):
            continue
        missing = [tag for tag in OUR_TAGS if not (each.inputs.get("tags") or {}).get(tag)]
        if missing:
            yield f"{each.type} {each.name}: no tag {', '.join(missing)}"


def no_wildcard_rights(resources: Resources) -> Iterator[str]:
    """Allow statements name their actions and resources, but for the listed exceptions."""
    for each, statement in _statements(resources):
        if statement["Effect"] != "Allow":
            continue
        place = f"{each.type.rsplit(':', 1)[-1]}/{each.name.split('-', 2)[-1]}"
        for action in _listed(statement.get("Action", "*")):
            if "*" in action and f"{place} {action}" not in WILDCARDS:
                yield f"{place}: the action {action}"
        if "*" in _listed(statement.get("Resource", ())) and not (
            place in WILDCARDS and (place.startswith("Key/") or _only_looks(statement))
        ):
            yield f"{place}: any resource"


def production_is_protected(resources: Resources) -> Iterator[str]:
    """What holds data is not deleted by one wrong command."""
    checks: Mapping[str, Callable[[Registered], bool]] = {
        "Instance": lambda each: (
            each.inputs.get("deletionProtection") is True
            and each.inputs.get("skipFinalSnapshot") is False
            and each.inputs.get("multiAz") is True
            and each.inputs.get("backupRetentionPeriod", 0) >= 7
            and each.protect
        ),
        "ReplicationGroup": lambda each: (
            each.protect
            and each.inputs.get("multiAzEnabled") is True
            and each.inputs.get("automaticFailoverEnabled") is True
            and each.inputs.get("snapshotRetentionLimit", 0) >= 1
        ),
        "Bucket": lambda each: each.protect and not each.inputs.get("forceDestroy"),
        "Cluster": lambda each: each.inputs.get("deletionProtection") is True,
        "Secret": lambda each: each.inputs.get("recoveryWindowInDays", 30) >= 7,
        "Key": lambda each: each.inputs.get("deletionWindowInDays", 30) >= 7,
        "Repository": lambda each: not each.inputs.get("forceDelete"),
    }
    for each in _of(resources, *checks):
        if not checks[each.type.rsplit(":", 1)[-1]](each):
            yield f"{each.name}: not protected from deletion"


def logs_are_kept_for_a_time(resources: Resources) -> Iterator[str]:
    """No group of logs is kept for ever, none is made by AWS behind our back."""
    for each in _of(resources, "LogGroup"):
        if not each.inputs.get("retentionInDays"):
            yield f"{each.name}: kept for ever"
    names = {each.outputs.get("name") for each in _of(resources, "LogGroup")}
    for each in _of(resources, "Instance"):
        for log in each.inputs.get("enabledCloudwatchLogsExports") or ():
            if f"/aws/rds/instance/{each.outputs['identifier']}/{log}" not in names:
                yield f"{each.name}: RDS makes the group of {log} itself, and keeps it for ever"
    for each in _of(resources, "Cluster"):
        if (
            each.inputs.get("enabledClusterLogTypes")
            and f"/aws/eks/{each.outputs['name']}/cluster" not in names
        ):
            yield f"{each.name}: EKS makes its group of logs itself, and keeps it for ever"


_SECRET_INPUTS = {"authToken", "password", "secretString", "stringData"}


def secrets_are_marked(resources: Resources) -> Iterator[str]:
    """Passwords are encrypted in the state and hidden in Pulumi's output."""
    for each in resources:
        for name in sorted(_SECRET_INPUTS & set(each.inputs)):
            if name not in each.secret_inputs:
                yield f"{each.name}: {name} is not a secret"


def everything_has_a_component(resources: Resources) -> Iterator[str]:
    """Each resource is a child of the component that made it."""
    for each in resources:
        if each.custom and ":infra:" not in each.parent:
            yield f"{each.type} {each.name}: no parent"


RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (
        nothing_is_public,
        no_ingress_from_everywhere,
        everything_is_encrypted,
        everything_is_tagged,
        no_wildcard_rights,
        logs_are_kept_for_a_time,
        secrets_are_marked,
        everything_has_a_component,
    )
}
"""Rules of all stacks; production_is_protected is production's alone."""


def _statements(resources: Resources) -> Iterator[tuple[Registered, Mapping[str, Any]]]:
    """Every statement of every policy document, wherever an input holds one."""
    for each in resources:
        for value in each.inputs.values():
            if not isinstance(value, str) or '"Statement"' not in value:
                continue
            for statement in _listed(json.loads(value)["Statement"]):
                yield each, statement


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value != () else []


def _is_anybody(principal: Any) -> bool:
    return principal == "*" or (isinstance(principal, Mapping) and "*" in _listed(principal.get("AWS", ())))


def _only_looks(statement: Mapping[str, Any]) -> bool:
    """Whether all actions are of those that change and reveal nothing."""
    return all(
        action.partition(":")[2].startswith(("Describe", "GetInstanceTypes"))
        for action in _listed(statement["Action"])
    )
