"""Each of the operator's three neighbours goes away and comes back; the rest goes on, and nothing is lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.resources import DEPLOYMENT, IMPORT_JOB, WORKER_POOL
from import_core.adapters.postgres import Database
from import_local.faults.proxy import TcpProxy


@asynccontextmanager
async def door(url: str) -> AsyncIterator[TcpProxy]:
    port = urlsplit(url).port
    assert port is not None
    proxy = TcpProxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


def kubeconfig_through(kubeconfig: Path, proxy: TcpProxy, folder: Path) -> Path:
    document = yaml.safe_load(kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    cluster["server"] = proxy.through(cluster["server"])
    path = folder / "kubeconfig-through-the-door"
    path.write_text(yaml.safe_dump(document))
    return path


async def test_database_away(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database_url: str
) -> None:
    async with door(database_url) as proxy:
        await operators.leading(DATABASE_URL=proxy.through(database_url))
        await cluster.provider()
        resources = {"requests": {"cpu": "100m"}}
        worker_container = {"name": "worker", "image": "import-worker:dev", "resources": resources}
        template = {"spec": {"containers": [worker_container]}}
        await cluster.pool("steady", scaling={"minReplicas": 3, "maxReplicas": 5}, template=template)
        await cluster.condition(WORKER_POOL, "steady", "DepthKnown", "True")
        await proxy.cut()

        await cluster.job("patient")
        await cluster.condition(IMPORT_JOB, "patient", "Accepted", "False", reason="DatabaseUnavailable")

        async def held() -> bool:
            condition = await cluster.condition(WORKER_POOL, "steady", "DepthKnown", "False")
            return bool(
                condition["message"].endswith("held, as the cluster has no metrics API (metrics.k8s.io)")
            )

        # A slow API server is first said not to answer, and asked again after 15 s.
        await eventually(held, seconds=60, what="held, as there is no metrics API")
        assert (await cluster.get(DEPLOYMENT, "steady-workers"))["spec"]["replicas"] == 3
        status = await cluster.status("steady", WORKER_POOL)
        assert "queueDepth" not in status, "unknown is not zero"

        await proxy.heal()
        await worker.finish(await worker.take())
        done = await cluster.phase("patient", "Succeeded")
        assert {c["type"]: c["status"] for c in done["conditions"]}["Accepted"] == "True"
        await cluster.condition(WORKER_POOL, "steady", "DepthKnown", "True")


async def test_redis_away(
    cluster: Cluster, operators: Operators, worker: TakingWorker, redis_url: str
) -> None:
    async with door(redis_url) as proxy:
        await operators.leading(REDIS_URL=proxy.through(redis_url))
        await cluster.provider()
        await cluster.pool()
        await proxy.cut()
        await cluster.job("patient")
        await cluster.phase("patient", "Queued")
        await proxy.heal()
        await worker.finish(await worker.take())
        await cluster.phase("patient", "Succeeded")


async def test_api_server_away(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database, tmp_path: Path
) -> None:
    server = yaml.safe_load(cluster.operator_kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    async with door(server) as proxy:
        kubeconfig = kubeconfig_through(cluster.operator_kubeconfig, proxy, tmp_path)
        operator = await operators.leading(KUBECONFIG=str(kubeconfig))
        await cluster.provider()
        await cluster.pool("steady")
        await cluster.condition(WORKER_POOL, "steady", "ScalingActive", "True")
        await proxy.cut()

        async with database.connection() as connection:
            await connection.execute(
                """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('row', 'acme', 'p')"""
            )
        claim = await worker.take(lease_seconds=0.1)
        assert claim.job.id == "row"
        again = await worker.take()
        assert (again.job.id, again.job.deaths) == ("row", 0), "the reaper and the dispatcher go on"

        await eventually(lambda: _tells(operator, "lease.unreachable"), what="the Lease out of reach")
        await cluster.job("meanwhile")
        await proxy.heal()
        claim = await worker.take()
        await worker.finish(claim)
        await cluster.phase("meanwhile", "Succeeded")
        assert operator.process.returncode is None
        assert len(operator.logged("lease.acquired")) == 1


async def _tells(operator: object, event: str) -> bool:
    return bool(operator.logged(event))  # type: ignore[attr-defined]
