"""Seconds from a change of the depth to the patch of a pool's replicas, in one step to the full need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from lightkube.config.kubeconfig import KubeConfig

from bench.places import state_folder
from bench.table import percentile, print_table
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import DEPLOYMENT, WORKER_POOL
from import_local.demo.manifests import NAMESPACE, WORKERS, get_worker_pool
from import_local.installation import Installation

CHANGES = 100
DEPTH = 500
FULL_NEED = 5
INSERT = """
INSERT INTO "ProductImportJob" (id, "companyId", provider)
SELECT 'bench-' || gen_random_uuid(), 'bench', 'bench' FROM generate_series(1, %s)
"""
DELETE = "DELETE FROM \"ProductImportJob\" WHERE id LIKE 'bench-%%'"


async def main() -> None:
    """Run and print."""
    with state_folder() as folder:
        async with Installation(folder) as installation:
            seconds = await _measure(installation)
    print_table(
        ("depth 0 → 500: replica patch to the full need", "seconds"),
        [
            ("p50", f"{percentile(seconds, 0.5):.3f}"),
            ("p95", f"{percentile(seconds, 0.95):.3f}"),
            ("max", f"{max(seconds):.3f}"),
        ],
    )
    print(f"{len(seconds)} changes; from the commit of the rows to the watch event of the Deployment")


def _pool() -> dict[str, Any]:
    pool = get_worker_pool(minimum=0, maximum=FULL_NEED, image="import-worker:dev", cooldown_seconds=0)
    pool["spec"]["scaling"]["targetJobsPerWorker"] = DEPTH // FULL_NEED
    # Workers that take nothing: the depth is what the benchmark says, until it says otherwise.
    pool["spec"]["template"]["spec"]["containers"][0]["command"] = ["sleep", "infinity"]
    return pool


async def _measure(installation: Installation) -> list[float]:
    seconds: list[float] = []
    configuration = KubeConfig.from_file(installation.kubeconfig)
    async with (
        KubeClient(configuration) as kube,
        await psycopg.AsyncConnection.connect(installation.database_url, autocommit=True) as connection,
    ):
        await kube.create(WORKER_POOL, NAMESPACE, _pool())
        replicas = _replicas(kube)
        await _until(replicas, 0)
        for _ in range(CHANGES):
            await connection.execute(INSERT, (DEPTH,))
            changed = time.perf_counter()
            await _until(replicas, FULL_NEED)
            seconds.append(time.perf_counter() - changed)
            await connection.execute(DELETE)
            await _until(replicas, 0)
        await replicas.aclose()  # type: ignore[attr-defined]
    return seconds


async def _replicas(kube: KubeClient) -> AsyncIterator[int]:
    async for deployment in kube.watch_one(DEPLOYMENT, NAMESPACE, WORKERS):
        if deployment is not None:
            yield int(deployment["spec"].get("replicas", 0))


async def _until(replicas: AsyncIterator[int], wanted: int) -> None:
    async with asyncio.timeout(60):
        async for count in replicas:
            if count == wanted:
                return


if __name__ == "__main__":
    asyncio.run(main())
