"""Seconds from a change of the depth to the patch of a pool's replicas, in one step to the full need, with 20 pools.

First one pool after another, while the others stand as they are; then all 20 at the same moment. Their pods find no
node, so that nothing else than scaling is measured. At the end one pool has workers that run: how long it takes from
the commit of jobs until a worker that there was not before has taken its first.

Run with `python -m bench scaling`; BENCH_SCALING_ROUNDS=1 makes it short.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from lightkube.config.kubeconfig import KubeConfig

from bench.places import state_folder
from bench.table import percentile, print_table
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import DEPLOYMENT, IMPORT_PROVIDER, SECRET, WORKER_POOL
from import_local.demo.manifests import NAMESPACE, get_connection, get_worker_pool
from import_local.installation import Installation
from import_local.samples.settings import SHOPIFY_TOKEN

POOLS = 20
ROUNDS = int(os.environ.get("BENCH_SCALING_ROUNDS", "10"))
DEPTH = 500
FULL_NEED = 50
TARGET_SECONDS = 0.5
LONGEST_SECONDS = 120.0
STARTS = max(1, min(5, ROUNDS))
STARTING = "bench-starting"
SHOP = "tiny-1-0-bench"
# What was there before is not new.
FIRST_JOB = """
SELECT extract(epoch FROM min(w.first_job_at) - min(j."createdAt"))::float8
FROM imports.worker w, "ProductImportJob" j WHERE w.queue = %s AND j.queue = w.queue AND w.first_job_at > j."createdAt"
"""
UNFINISHED = """
SELECT count(*) FROM "ProductImportJob" WHERE queue = %s AND status IN ('PENDING', 'IN_PROGRESS')
"""
FORGET = "DELETE FROM imports.worker WHERE queue = %s"
INSERT_REAL = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, queue)
SELECT 'bench-' || gen_random_uuid(), %(shop)s, %(shop)s, %(queue)s FROM generate_series(1, 5)
"""
INSERT = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, queue)
SELECT 'bench-' || gen_random_uuid(), 'bench', 'bench', queue
FROM unnest(%s::text[]) queue, generate_series(1, %s)
"""
DELETE = """DELETE FROM "ProductImportJob" WHERE queue = ANY(%s)"""

Connection = psycopg.AsyncConnection[Any]


@dataclass
class Pool:
    """A pool, and the numbers of workers that were asked for since the last change."""

    name: str
    numbers: list[tuple[float, int]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self, kube: KubeClient) -> None:
        """Note every number with the moment at which it was seen."""
        async for deployment in kube.watch_one(DEPLOYMENT, NAMESPACE, f"{self.name}-workers"):
            number = None if deployment is None else int(deployment["spec"].get("replicas", 0))
            if number is not None and (not self.numbers or self.numbers[-1][1] != number):
                self.numbers.append((time.perf_counter(), number))
                self.changed.set()

    async def reach(self, wanted: int) -> tuple[float, int]:
        """When the pool was asked for so many, and in how many steps."""
        async with asyncio.timeout(LONGEST_SECONDS):
            while not self.numbers or self.numbers[-1][1] != wanted:
                self.changed.clear()
                await self.changed.wait()
        seen_at, steps = self.numbers[-1][0], len(self.numbers) - 1
        self.numbers = self.numbers[-1:]
        return seen_at, steps


@dataclass
class Measured:
    """Seconds until the full need was asked for, and how many took one step to it."""

    seconds: list[float] = field(default_factory=list)
    in_one_step: int = 0

    def row(self, name: str) -> tuple[str, ...]:
        """A line of the table."""
        values = (percentile(self.seconds, 0.5), percentile(self.seconds, 0.95), max(self.seconds))
        return (name, *(f"{value:.3f}" for value in values), f"{self.in_one_step} of {len(self.seconds)}")


async def main() -> None:
    """Run and print."""
    with state_folder() as folder:
        async with Installation(folder) as installation:
            begun = time.perf_counter()
            one, all_at_once = await _measure(installation)
            started = await _start_workers(installation)
            took = time.perf_counter() - begun
    print_table(
        (
            "depth 0 → 500, 20 pools: replica patch to the full need",
            "p50, s",
            "p95, s",
            "max, s",
            "in one step",
        ),
        [one.row("one pool after another"), all_at_once.row("all 20 at the same moment")],
    )
    print_table(
        ("no worker → its first job", "p50, s", "max, s", "workers"),
        [
            (
                "from the commit of 5 jobs",
                f"{percentile(started, 0.5):.2f}",
                f"{max(started):.2f}",
                str(len(started)),
            )
        ],
    )
    print(f"{len(one.seconds)} changes one after another and {ROUNDS} of all at once, in {took:.0f} s")
    met = "met" if percentile(one.seconds, 0.95) <= TARGET_SECONDS else "missed"
    print(
        f"from the commit of the rows to the watch event of the Deployment; p95 ≤ {TARGET_SECONDS} s: {met}"
    )


def _pool(name: str) -> dict[str, Any]:
    pool = get_worker_pool(minimum=0, maximum=FULL_NEED, image="import-worker:dev", cooldown_seconds=0)
    pool["metadata"]["name"] = pool["spec"]["queue"] = name
    pool["spec"]["scaling"]["targetJobsPerWorker"] = DEPTH // FULL_NEED
    # No node has it: the depth is what the benchmark says, until it says otherwise.
    pool["spec"]["template"]["spec"]["nodeSelector"] = {"bench": "none"}
    return pool


async def _measure(installation: Installation) -> tuple[Measured, Measured]:
    pools = [Pool(f"bench-{number:02}") for number in range(POOLS)]
    configuration = KubeConfig.from_file(installation.kubeconfig)
    one, all_at_once = Measured(), Measured()
    async with (
        KubeClient(configuration) as kube,
        await psycopg.AsyncConnection.connect(installation.database_url, autocommit=True) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        for pool in pools:
            await kube.create(WORKER_POOL, NAMESPACE, _pool(pool.name))
        watches = [tasks.create_task(pool.watch(kube)) for pool in pools]
        await _settle(pools)
        for _ in range(ROUNDS):
            for pool in pools:
                await _fill(connection, [pool], one)
            await _empty(connection, pools)
        for _ in range(ROUNDS):
            await _fill(connection, pools, all_at_once)
            await _empty(connection, pools)
        for watch in watches:
            watch.cancel()
    return one, all_at_once


async def _fill(connection: Connection, pools: Sequence[Pool], measured: Measured) -> None:
    """Fill the queues of these pools at once, and wait for their workers to be asked for."""
    queues = [pool.name for pool in pools]
    await connection.execute(INSERT, (queues, DEPTH))
    changed = time.perf_counter()
    for seen_at, steps in await asyncio.gather(*(pool.reach(FULL_NEED) for pool in pools)):
        measured.seconds.append(seen_at - changed)
        measured.in_one_step += steps == 1


async def _empty(connection: Connection, pools: Sequence[Pool]) -> None:
    await connection.execute(DELETE, ([pool.name for pool in pools],))
    await _settle(pools)


async def _start_workers(installation: Installation) -> list[float]:
    """A pool without workers is given jobs, as often as STARTS says; it has none again each time."""
    pool, seconds = Pool(STARTING), []
    body = get_worker_pool(minimum=0, maximum=1, image="import-worker:dev", cooldown_seconds=0)
    body["metadata"]["name"] = body["spec"]["queue"] = STARTING
    async with (
        KubeClient(KubeConfig.from_file(installation.kubeconfig)) as kube,
        await psycopg.AsyncConnection.connect(installation.database_url, autocommit=True) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        secret, provider = get_connection(
            name=SHOP,
            company_id=SHOP,
            provider_type="shopify",
            base_url=f"{installation.shopify_url}/{SHOP}",
            credentials={"accessToken": SHOPIFY_TOKEN},
        )
        await kube.create(SECRET, NAMESPACE, secret)
        await kube.create(IMPORT_PROVIDER, NAMESPACE, provider)
        await kube.create(WORKER_POOL, NAMESPACE, body)
        watching = tasks.create_task(pool.watch(kube))
        await _settle([pool])
        for _ in range(STARTS):
            await connection.execute(FORGET, (STARTING,))
            await connection.execute(INSERT_REAL, {"shop": SHOP, "queue": STARTING})
            await _until_none(connection, UNFINISHED)
            row = await (await connection.execute(FIRST_JOB, (STARTING,))).fetchone()
            if row is None or row[0] is None:
                raise RuntimeError("no new worker took a job")
            seconds.append(float(row[0]))
            await connection.execute(DELETE, ([STARTING],))
            await _settle([pool])
            await _until_none(connection, "SELECT count(*) FROM imports.worker WHERE queue = %s")
        watching.cancel()
    return seconds


async def _until_none(connection: Connection, count: str) -> None:
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            row = await (await connection.execute(count.encode(), (STARTING,))).fetchone()
            if row is not None and not row[0]:
                return
            await asyncio.sleep(0.1)


async def _settle(pools: Sequence[Pool]) -> None:
    await asyncio.gather(*(pool.reach(0) for pool in pools))


if __name__ == "__main__":
    asyncio.run(main())
