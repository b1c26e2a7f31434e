"""The client on a real API server: what it reads and writes, and what each refusal becomes."""

from pathlib import Path

import pytest
import yaml
from lightkube.config.kubeconfig import KubeConfig
from operator_world import Cluster

from import_core.adapters.kube.client import LIST_PAGE, KubeClient, load_configuration
from import_core.adapters.kube.resources import IMPORT_JOB, LEASE, SECRET
from import_core.domain.errors import (
    KubernetesUnavailableError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
)


async def test_worker_reads_its_provider_and_secret(cluster: Cluster) -> None:
    await cluster.provider()
    await cluster.kube.create(
        SECRET,
        cluster.namespace,
        {
            "metadata": {"name": "acme-shopify"},
            "data": {"accessToken": "c2hwYXRfw6k=", "binary": "//79"},
        },
    )
    async with KubeClient(KubeConfig.from_file(cluster.worker_kubeconfig)) as worker:
        provider = await worker.get_provider(cluster.namespace, "acme-shopify")
        assert provider is not None
        assert provider["spec"]["companyId"] == "acme"
        assert await worker.get_secret(cluster.namespace, "acme-shopify") == {"accessToken": "shpat_é"}
        assert await worker.get_provider(cluster.namespace, "nowhere") is None
        assert await worker.get_secret(cluster.namespace, "nowhere") is None
        with pytest.raises(ObjectForbiddenError, match="cannot get resource"):
            await worker.get_secret("kube-system", "any")


async def test_status_patch_is_guarded_by_the_version(cluster: Cluster) -> None:
    first = await cluster.job("autumn")
    version = first["metadata"]["resourceVersion"]
    await cluster.kube.patch_status(
        IMPORT_JOB, cluster.namespace, "autumn", {"phase": "Queued"}, resource_version=version
    )
    with pytest.raises(ObjectConflictError):
        await cluster.kube.patch_status(
            IMPORT_JOB, cluster.namespace, "autumn", {"phase": "Running"}, resource_version=version
        )
    assert (await cluster.status("autumn"))["phase"] == "Queued"
    with pytest.raises(ObjectNotFoundError):
        await cluster.kube.patch_status(
            IMPORT_JOB, cluster.namespace, "nowhere", {"phase": "Queued"}, resource_version=None
        )


async def test_refusals_are_told_apart(cluster: Cluster) -> None:
    await cluster.job("autumn")
    with pytest.raises(ObjectConflictError, match="already exists"):
        await cluster.job("autumn")
    with pytest.raises(ObjectRefusedError, match="companyId"):
        await cluster.job("broken", companyId="")
    lease = await cluster.create(LEASE, "lease", {"holderIdentity": "a"})
    await cluster.kube.replace(LEASE, cluster.namespace, lease)
    stale = {**lease, "metadata": {**lease["metadata"], "resourceVersion": "1"}}
    with pytest.raises(ObjectConflictError):
        await cluster.kube.replace(LEASE, cluster.namespace, stale)


async def test_long_list_is_complete(cluster: Cluster) -> None:
    for number in range(LIST_PAGE + 1):
        await cluster.create(LEASE, f"lease-{number}", {})
    names = {body["metadata"]["name"] async for body in cluster.kube.list(LEASE, cluster.namespace)}
    assert len(names) == LIST_PAGE + 1


async def test_server_that_does_not_answer(cluster: Cluster, tmp_path: Path) -> None:
    path = changed(cluster.operator_kubeconfig, tmp_path, server="https://127.0.0.1:1")
    async with KubeClient(KubeConfig.from_file(path)) as client:
        with pytest.raises(KubernetesUnavailableError, match="does not answer"):
            await client.get(IMPORT_JOB, cluster.namespace, "any")


async def test_missing_configuration_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(KubernetesUnavailableError, match="No usable Kubernetes configuration"):
        load_configuration()


async def test_token_file_is_read_again_when_the_token_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("an expired one")
    fresh = yaml.safe_load(cluster.worker_kubeconfig.read_text())["users"][0]["user"]["token"]
    path = changed(cluster.worker_kubeconfig, tmp_path, user={"tokenFile": str(token)})
    await cluster.provider()
    async with KubeClient(KubeConfig.from_file(path)) as client:
        with pytest.raises(ObjectForbiddenError):
            await client.get_provider(cluster.namespace, "acme-shopify")
        token.write_text(fresh)
        assert await client.get_provider(cluster.namespace, "acme-shopify") is not None


def changed(
    kubeconfig: Path, folder: Path, *, server: str | None = None, user: dict[str, str] | None = None
) -> Path:
    document = yaml.safe_load(kubeconfig.read_text())
    if server is not None:
        document["clusters"][0]["cluster"]["server"] = server
    if user is not None:
        document["users"][0]["user"] = user
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path
