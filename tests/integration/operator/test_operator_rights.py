"""What RBAC lets the operator and the worker do: what they use, and nothing else."""

import asyncio
from pathlib import Path

import pytest
from operator_world import Cluster

from import_local.kubectl import KubectlError, run_kubectl

OPERATOR = {
    "controllerrevisions.apps": {"create", "delete", "get"},
    "deployments.apps": {"create", "delete", "list", "patch", "watch"},
    "deployments.apps/scale": {"patch"},
    "events.events.k8s.io": {"create", "patch"},
    "importjobs.imports.avnz.io": {"create", "delete", "list", "watch"},
    "importjobs.imports.avnz.io/status": {"patch"},
    "importproviders.imports.avnz.io": {"list", "watch"},
    "importproviders.imports.avnz.io/status": {"patch"},
    "importschedules.imports.avnz.io": {"list", "watch"},
    "importschedules.imports.avnz.io/status": {"patch"},
    "leases.coordination.k8s.io": {"create", "get", "update"},
    "namespaces": {"get"},
    "pods": {"list", "patch", "watch"},
    "pods.metrics.k8s.io": {"list"},
    "workerpools.imports.avnz.io": {"list", "watch"},
    "workerpools.imports.avnz.io/status": {"patch"},
}
FORBIDDEN = r"(?i)forbidden"
WORKER = {"importproviders.imports.avnz.io": {"get"}, "secrets": {"get"}}


async def rights(kubeconfig: Path, namespace: str) -> dict[str, set[str]]:
    """Rights on resources, without those that every account has to ask for its own."""
    table = await run_kubectl(kubeconfig, "--namespace", namespace, "auth", "can-i", "--list", "--no-headers")
    found: dict[str, set[str]] = {}
    for line in table.splitlines():
        resource = line.split(maxsplit=1)[0]
        if resource.startswith("[") or resource.startswith("self"):
            continue
        verbs = line.rsplit("[", 1)[1].rstrip("]").split()
        found.setdefault(resource, set()).update(verbs)
    return found


async def test_operator_has_exactly_the_rights_it_uses(cluster: Cluster) -> None:
    assert await rights(cluster.operator_kubeconfig, cluster.namespace) == OPERATOR
    assert await rights(cluster.operator_kubeconfig, "default") == {}


async def test_worker_has_exactly_the_rights_it_uses(cluster: Cluster) -> None:
    assert await rights(cluster.worker_kubeconfig, cluster.namespace) == WORKER
    assert await rights(cluster.worker_kubeconfig, "default") == {}


@pytest.mark.parametrize(
    "words",
    [
        ("get", "secrets"),
        ("get", "configmaps"),
        ("delete", "importprovider", "any"),
        ("get", "namespace", "default"),
        ("get", "namespaces"),
        ("delete", "pod", "any"),
        ("create", "token", "import-worker"),
        ("get", "importjobs", "--all-namespaces"),
        ("create", "rolebinding", "more", "--role=import-worker", "--user=me"),
    ],
)
async def test_operator_is_refused_the_rest(cluster: Cluster, words: tuple[str, ...]) -> None:
    with pytest.raises(KubectlError, match=FORBIDDEN):
        await run_kubectl(cluster.operator_kubeconfig, "--namespace", cluster.namespace, *words)


async def test_worker_is_refused_the_rest(cluster: Cluster) -> None:
    for words in (
        ("get", "secrets"),
        ("get", "importjobs"),
        ("get", "secret", "any", "--namespace=kube-system"),
        ("delete", "secret", "any"),
    ):
        with pytest.raises(KubectlError, match=FORBIDDEN):
            await asyncio.wait_for(
                run_kubectl(cluster.worker_kubeconfig, "--namespace", cluster.namespace, *words), 30
            )
