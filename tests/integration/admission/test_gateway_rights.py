"""What RBAC lets the gateway do for the webhook: what it uses, on the objects that it uses."""

import base64
import json

import pytest
from admission_world import SECRET, World
from eventually import eventually

from import_local.kubectl import KubectlError, run_kubectl

FORBIDDEN = r"(?i)forbidden"


async def rights(world: World) -> set[tuple[str, str, str]]:
    """Resource, the names it is bound to, and verb; without what every account may."""
    table = await run_kubectl(
        world.gateway_kubeconfig, "--namespace", world.namespace, "auth", "can-i", "--list", "--no-headers"
    )
    found = set()
    for line in table.splitlines():
        resource = line.split(maxsplit=1)[0]
        if resource.startswith(("[", "self")):
            continue
        _, names, verbs = (part.rstrip("] ") for part in line.rsplit("[", 2)[0:3])
        found |= {(resource, names, verb) for verb in verbs.split()}
    return found


async def test_certificate_rights_are_bound_to_names(world: World) -> None:
    expected = {
        ("secrets", SECRET, "get"),
        ("secrets", SECRET, "update"),
        (WEBHOOKS, world.configuration, "get"),
        (WEBHOOKS, world.configuration, "patch"),
    }

    async def known() -> set[tuple[str, str, str]] | None:
        found = await rights(world)
        return found if found >= expected else None

    # The API server learns of new roles a moment after they were written.
    found = await eventually(known, what="the gateway's rights")
    assert {each for each in found if each[0] in {"secrets", WEBHOOKS}} == expected


WEBHOOKS = "validatingwebhookconfigurations.admissionregistration.k8s.io"


async def test_gateway_is_refused_the_rest(world: World) -> None:
    for words in (
        ("get", "secrets"),
        ("get", "secret", "import-connections"),
        ("delete", "secret", SECRET),
        ("create", "secret", "generic", "another"),
        ("get", WEBHOOKS),
        ("delete", WEBHOOKS, world.configuration),
        ("get", WEBHOOKS, "another"),
        ("get", "importproviders"),
        ("get", "pods"),
    ):
        with pytest.raises(KubectlError, match=FORBIDDEN):
            await run_kubectl(world.gateway_kubeconfig, "--namespace", world.namespace, *words)


async def test_configuration_asks_about_creations_only(world: World) -> None:
    """The rest of the cluster never waits for the gateway."""
    body = json.loads(
        await world.kubectl("get", "validatingwebhookconfiguration", world.configuration, "-o", "json")
    )
    (webhook,) = body["webhooks"]
    assert webhook["failurePolicy"] == "Ignore"
    assert webhook["sideEffects"] == "None"
    assert webhook["timeoutSeconds"] <= 3
    assert webhook["rules"] == [
        {
            "apiGroups": ["imports.avnz.io"],
            "apiVersions": ["*"],
            "operations": ["CREATE"],
            "resources": ["importjobs"],
            "scope": "Namespaced",
        }
    ]


async def patch(world: World, *operations: dict[str, object]) -> None:
    """As the gateway, without keeping what is allowed."""
    await run_kubectl(
        world.gateway_kubeconfig,
        *("patch", WEBHOOKS, world.configuration, "--dry-run=server", "--type=json"),
        *("-p", json.dumps(operations)),
    )


REPLACED = {
    "rules/0/resources": ["*"],
    "rules/0/operations": ["*"],
    "failurePolicy": "Fail",
    "timeoutSeconds": 30,
    "matchPolicy": "Exact",
    "namespaceSelector": {},
    "objectSelector": {"matchLabels": {"a": "b"}},
    "admissionReviewVersions": ["v1", "v1beta1"],
    "sideEffects": "NoneOnDryRun",
    "clientConfig/url": "https://elsewhere.example/admission",
    "name": "other.imports.avnz.io",
    "matchConditions": [{"name": "never", "expression": "false"}],
}
OWNER = {"apiVersion": "v1", "kind": "Namespace", "name": "gone", "uid": "gone"}


async def test_gateway_may_change_nothing_but_whom_the_api_server_trusts(world: World) -> None:
    """RBAC lets it patch all of its configuration; the policy of deploy/base does not."""
    refused = "(?i)nothing but"

    async def is_in_force() -> bool:
        try:
            await patch(world, {"op": "add", "path": "/webhooks/0/failurePolicy", "value": "Fail"})
        except KubectlError as error:
            return "nothing but" in str(error)
        return False

    await eventually(is_in_force, what="the policy")
    webhook = json.loads(await world.kubectl("get", WEBHOOKS, world.configuration, "-o", "json"))["webhooks"][
        0
    ]
    for field, value in REPLACED.items():
        with pytest.raises(KubectlError, match=refused):
            await patch(world, {"op": "add", "path": f"/webhooks/0/{field}", "value": value})
    service = {"name": "elsewhere", "namespace": "default", "path": "/", "port": 443}
    for operations in (
        [{"op": "add", "path": "/webhooks/-", "value": {**webhook, "name": "second.imports.avnz.io"}}],
        [{"op": "remove", "path": "/webhooks/0"}],
        [{"op": "replace", "path": "/webhooks/0/clientConfig", "value": {"service": service}}],
        [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}],
        [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}],
        [{"op": "add", "path": "/metadata/finalizers", "value": ["imports.avnz.io/kept"]}],
        [{"op": "add", "path": "/metadata/ownerReferences", "value": [OWNER]}],
    ):
        with pytest.raises(KubectlError, match=refused):
            await patch(world, *operations)
    gateway = await world.start()
    bundle = base64.b64encode(await world.bundle()).decode()
    assert bundle, gateway.log.read_text()
    await patch(world, {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"})
    await patch(world, {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle})
