"""What RBAC lets the gateway do for the webhook: what it uses, on the objects that it uses."""

import json

import pytest
from admission_world import SECRET, World

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
    found = {each for each in await rights(world) if each[0] in {"secrets", WEBHOOKS}}
    assert found == {
        ("secrets", SECRET, "get"),
        ("secrets", SECRET, "update"),
        (WEBHOOKS, world.configuration, "get"),
        (WEBHOOKS, world.configuration, "patch"),
    }


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
