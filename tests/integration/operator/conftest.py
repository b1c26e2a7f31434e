"""An operator of the test's own: a real process under its ServiceAccount, in a namespace of a real cluster."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
import yaml
from eventually import eventually
from lightkube.config.kubeconfig import KubeConfig
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_PROVIDER
from import_core.adapters.postgres import Database
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.errors import ObjectForbiddenError
from import_local.kubectl import run_kubectl
from import_local.parts.control_plane import ControlPlane

ROOT = Path(__file__).parents[3]
RBAC_KINDS = {"ServiceAccount", "Role", "RoleBinding"}


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(control_plane_server: ControlPlane) -> AsyncIterator[Cluster]:
    """Return a new namespace with the ServiceAccounts and Roles of deploy/base."""
    admin = control_plane_server.kubeconfig
    namespace = f"operator-{uuid.uuid4().hex[:8]}"
    await run_kubectl(admin, "create", "namespace", namespace)
    manifests = [
        document
        for file in sorted((ROOT / "deploy" / "base").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
        if document.get("kind") in RBAC_KINDS
    ]
    await run_kubectl(
        admin, "--namespace", namespace, "apply", "-f", "-", stdin=yaml.safe_dump_all(manifests).encode()
    )
    kubeconfigs = {}
    for account in ("import-operator", "import-worker"):
        token = await run_kubectl(admin, "--namespace", namespace, "create", "token", account)
        kubeconfigs[account] = control_plane_server.kubeconfig_with_token(
            f"{namespace}-{account}", token.strip(), namespace=namespace
        )
    await _rights_are_known(kubeconfigs["import-operator"], kubeconfigs["import-worker"], namespace)
    async with KubeClient(KubeConfig.from_file(admin)) as kube:
        yield Cluster(namespace, kube, admin, kubeconfigs["import-operator"], kubeconfigs["import-worker"])
    await run_kubectl(admin, "delete", "namespace", namespace, "--wait=false")


async def _rights_are_known(operator: Path, worker: Path, namespace: str) -> None:
    """Wait for the API server, which learns of new roles a moment after they were written."""
    async with (
        KubeClient(KubeConfig.from_file(operator)) as operator_kube,
        KubeClient(KubeConfig.from_file(worker)) as worker_kube,
    ):

        async def known() -> bool:
            try:
                await operator_kube.count(IMPORT_PROVIDER, namespace)
                await worker_kube.get_provider(namespace, "none")
            except ObjectForbiddenError:
                return False
            return True

        await eventually(known, what=f"the rights of {namespace}")


@pytest_asyncio.fixture(loop_scope="session")
async def operators(
    cluster: Cluster, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Operators]:
    """Start operators in the test's namespace; they are stopped with it."""
    factory = Operators(cluster, database_url, redis_url, tmp_path)
    yield factory
    for operator in factory.started:
        await operator.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    """Return a pool on the test's database."""
    pool = Database(database_url, application="tests", maximum=4)
    await pool.open(wait_seconds=10)
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def queue(redis_url: str) -> AsyncIterator[JobQueue]:
    """Return the queue as a worker sees it."""
    client = connect(redis_url, client_name="tests")
    yield JobQueue(client)
    await client.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def worker(database: Database, redis_url: str) -> AsyncIterator[TakingWorker]:
    """Return the test's hands on the queue."""
    taking = TakingWorker(database, redis_url)
    yield taking
    await taking.close()
