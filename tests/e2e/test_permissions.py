"""Operator, worker and gateway may do what they use, and nothing else."""

from __future__ import annotations

import pytest

from e2e.world import World

SELF_REVIEWS = {
    ("selfsubjectreviews.authentication.k8s.io", "create"),
    ("selfsubjectaccessreviews.authorization.k8s.io", "create"),
    ("selfsubjectrulesreviews.authorization.k8s.io", "create"),
}
ALLOWED = {
    "import-operator": {
        "importjobs.imports.avnz.io": {"create", "delete", "get", "list", "watch"},
        "importjobs.imports.avnz.io/status": {"patch"},
        "importproviders.imports.avnz.io": {"get", "list", "watch"},
        "importproviders.imports.avnz.io/status": {"patch"},
        "importschedules.imports.avnz.io": {"list", "watch"},
        "importschedules.imports.avnz.io/status": {"patch"},
        "workerpools.imports.avnz.io": {"get", "list", "watch"},
        "workerpools.imports.avnz.io/status": {"patch"},
        "deployments.apps": {"create", "delete", "get", "list", "patch", "watch"},
        "deployments.apps/scale": {"patch"},
        "controllerrevisions.apps": {"create", "delete", "get"},
        "pods": {"list", "patch", "watch"},
        "pods.metrics.k8s.io": {"list"},
        "namespaces": {"get"},
        "leases.coordination.k8s.io": {"create", "get", "patch", "update"},
        "events.events.k8s.io": {"create", "patch"},
        "events": {"create", "patch"},
    },
    "import-gateway": {
        "importjobs.imports.avnz.io": {"create", "delete", "get", "list", "patch"},
        "workerpools.imports.avnz.io": {"list"},
        "secrets": {"get", "update"},
        "validatingwebhookconfigurations.admissionregistration.k8s.io": {"get", "patch"},
        "tokenreviews.authentication.k8s.io": {"create"},
        "subjectaccessreviews.authorization.k8s.io": {"create"},
    },
    "import-worker": {
        "importproviders.imports.avnz.io": {"get"},
        "secrets": {"get"},
    },
}
API = "/apis/imports.avnz.io/v1alpha1/namespaces/imports"
WEBHOOK = "validatingwebhookconfiguration/import-gateway"
REFUSE_WHEN_AWAY = '[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}]'
"""RBAC allows it; the policy of deploy/base does not."""


async def rules(world: World, account: str) -> dict[str, set[str]]:
    """What `kubectl auth can-i --list` says with the account's own token."""
    kubeconfig = await world.service_account(account)
    outcome = await world.kubectl(
        "auth", "can-i", "--list", "--no-headers", "-n", "imports", kubeconfig=kubeconfig
    )
    assert outcome.code == 0, outcome.err
    found: dict[str, set[str]] = {}
    for line in outcome.out.splitlines():
        if line.startswith((" ", "[")):
            continue  # non-resource URLs, which every authenticated user may read
        resource, verbs = line.split()[0], line[line.rindex("[") + 1 : -1].split()
        found.setdefault(resource, set()).update(verbs)
    return {
        resource: verbs
        for resource, verbs in found.items()
        if not all((resource, verb) in SELF_REVIEWS for verb in verbs)
    }


@pytest.mark.parametrize("account", ["import-operator", "import-worker", "import-gateway"])
async def test_nothing_is_allowed_that_is_not_used(world: World, account: str) -> None:
    granted = await rules(world, account)
    assert granted, "the account can do nothing at all: the test looks at the wrong one"
    for resource, verbs in granted.items():
        assert verbs <= ALLOWED[account].get(resource, set()), (resource, verbs)


@pytest.mark.parametrize(
    ("account", "arguments"),
    [
        ("import-operator", ("get", "secrets", "-n", "imports")),
        ("import-operator", ("get", "secrets", "-n", "kube-system")),
        ("import-operator", ("get", "nodes")),
        # Without a list before it, which the operator may make, and which may be empty.
        ("import-operator", ("delete", "--raw", f"{API}/importproviders/any")),
        ("import-operator", ("get", "namespace", "default")),
        ("import-gateway", ("get", "secrets", "-n", "imports")),
        ("import-gateway", ("get", "secret", "import-connections", "-n", "imports")),
        ("import-gateway", ("get", "validatingwebhookconfigurations")),
        ("import-gateway", ("patch", WEBHOOK, "--type=json", "-p", REFUSE_WHEN_AWAY)),
        ("import-worker", ("get", "importjobs", "-n", "imports")),
        ("import-worker", ("get", "secrets", "-n", "imports")),
        ("import-worker", ("get", "pods", "-n", "imports")),
        ("import-worker", ("delete", "--raw", "/api/v1/namespaces/imports/pods/any")),
        ("import-worker", ("get", "secret", "any", "-n", "default")),
    ],
)
async def test_what_is_forbidden_is_refused(world: World, account: str, arguments: tuple[str, ...]) -> None:
    kubeconfig = await world.service_account(account)
    outcome = await world.kubectl(*arguments, kubeconfig=kubeconfig)
    assert outcome.code != 0
    assert "orbidden" in outcome.err
