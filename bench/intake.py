"""ImportJobs applied → recorded and due, per second, beside raw creates of the same objects per second."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from typing import Any

import psycopg
from lightkube.config.kubeconfig import KubeConfig

from bench.places import state_folder
from bench.table import median_of, print_table
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER
from import_local.demo.manifests import NAMESPACE, get_connection, get_import_job
from import_local.installation import Installation
from import_local.kubectl import run_kubectl

JOBS = 500
CLIENTS = 16
RUNS = 5
BARE_NAMESPACE = "bare"
RECORDED = 'SELECT count(*) FROM "ProductImportJob" WHERE "objectName" LIKE %s'


async def main() -> None:
    """Run and print."""
    with state_folder() as folder:
        async with Installation(folder) as installation:
            bare, ours = await _measure(installation)
    ratios = [mine / theirs for mine, theirs in zip(ours, bare, strict=True)]
    print_table(
        ("what", "per second, median (range)"),
        [
            (f"raw creates of an ImportJob, {CLIENTS} clients", median_of(bare)),
            ("ImportJobs created → recorded and due", median_of(ours)),
            ("ratio", median_of(ratios)),
        ],
    )
    print(
        f"{RUNS} interleaved runs of {JOBS} objects; ratio of the medians "
        f"{statistics.median(ours) / statistics.median(bare):.2f}"
    )


async def _measure(installation: Installation) -> tuple[list[float], list[float]]:
    kubeconfig = installation.kubeconfig
    await run_kubectl(kubeconfig, "create", "namespace", BARE_NAMESPACE)
    bare: list[float] = []
    ours: list[float] = []
    async with KubeClient(KubeConfig.from_file(kubeconfig)) as kube:
        for item in get_connection(
            name="bench",
            company_id="bench",
            provider_type="shopify",
            base_url=f"{installation.shopify_url}/tiny-1-0",
            credentials={"accessToken": "shpat_example"},
        )[1:]:
            await kube.create(IMPORT_PROVIDER, NAMESPACE, item)
        for _ in range(RUNS):
            bare.append(await _creates_per_second(kube, BARE_NAMESPACE))
            ours.append(await _recorded_per_second(kube, installation.database_url))
            for namespace in (BARE_NAMESPACE, NAMESPACE):
                # One call for all: kubectl deletes one by one, which takes longer than the measurement.
                path = f"/apis/{IMPORT_JOB.group}/{IMPORT_JOB.version}/namespaces/{namespace}/importjobs"
                await run_kubectl(kubeconfig, "delete", "--raw", path, timeout=60)
    return bare, ours


async def _creates_per_second(kube: KubeClient, namespace: str) -> float:
    started = time.perf_counter()
    await _create_all(kube, namespace, f"run-{uuid.uuid4().hex[:8]}")
    return JOBS / (time.perf_counter() - started)


async def _recorded_per_second(kube: KubeClient, database_url: str) -> float:
    prefix = f"run-{uuid.uuid4().hex[:8]}"
    started = time.perf_counter()
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        creating = asyncio.create_task(_create_all(kube, NAMESPACE, prefix))
        while True:
            cursor = await connection.execute(RECORDED, (f"{prefix}-%",))
            row = await cursor.fetchone()
            if row is not None and row[0] >= JOBS:
                break
            await asyncio.sleep(0.02)
        elapsed = time.perf_counter() - started
        await creating
    return JOBS / elapsed


async def _create_all(kube: KubeClient, namespace: str, prefix: str) -> None:
    numbers = iter(range(JOBS))

    async def client() -> None:
        for number in numbers:
            body: dict[str, Any] = get_import_job(
                name=f"{prefix}-{number}", company_id="bench", provider="bench"
            )
            await kube.create(IMPORT_JOB, namespace, body)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main())
