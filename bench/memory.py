"""Peak memory of a worker with five jobs of 2,000 products and 5 images each at once, beside one such job.

The worker is a process of its own, with real PostgreSQL, Valkey and S3 and sample shops beside it. Also judged: how its
memory grows over the pages after a warm-up. Run with `python -m bench memory`; MEMORY_PRODUCTS and MEMORY_IMAGES make
the catalogues smaller; with MEMORY_SHOP=generated images have the size of photographs, not of 32 to 64 pixels.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog

from bench.places import state_folder
from bench.reimport import HAND_OVER, NAMESPACE, Shops, lift_limit, serve
from bench.table import print_table
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.jobs import JobRequest, JobState, Message
from import_local.load.judging import WARM_UP_SHARE, median_slope
from import_local.load.timeline import MEBIBYTE
from import_local.parts.objectstore import ObjectStoreServer
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer
from import_worker.runner import StopSignal, Worker
from import_worker.settings import WorkerSettings

PRODUCTS = int(os.environ.get("MEMORY_PRODUCTS") or 2_000)
IMAGES = int(os.environ.get("MEMORY_IMAGES") or 5)
SHOP = os.environ.get("MEMORY_SHOP") or "tiny"
AT_ONCE = (1, 5)
LOOK_SECONDS = 0.25
MOST_BYTES = 1.5 * 2**30
PAGES = "SELECT coalesce(sum(pages), 0) FROM imports.checkpoint WHERE job_id = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Measured:
    """One course of jobs at once; bytes."""

    jobs: int
    before: int
    peak: int
    pages: int
    growth: float
    """By the trend over the pages after the warm-up, from the first of them to the last."""
    seconds: float


def work(values: dict[str, Any], address: str) -> None:
    """Be a worker until the process is stopped."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    settings = WorkerSettings.model_validate(values)
    asyncio.run(Worker(settings, Shops(address), StopSignal()).run())


async def measure(
    database: Database, queue: JobQueue, worker: psutil.Process, shops: Sequence[str]
) -> Measured:
    """Import the shops at the same time, and look at the worker meanwhile."""
    jobs, before, started = JobStore(database), worker.memory_info().rss, asyncio.get_running_loop().time()
    await jobs.record(
        [
            JobRequest(shop, shop, shop, NAMESPACE, {"companyId": shop, "providerRef": {"name": shop}})
            for shop in shops
        ]
    )
    async with database.connection() as connection:
        for shop in shops:
            await connection.execute(HAND_OVER, (shop,))
    await queue.add([Message(shop, 1) for shop in shops])
    seen: list[tuple[float, float]] = []
    peak = before
    while True:
        peak = max(peak, used := worker.memory_info().rss)
        async with database.connection() as connection:
            row = await (await connection.execute(PAGES, (list(shops),))).fetchone()
        pages = int(row[0]) if row is not None else 0
        seen.append((float(pages), float(used)))
        states = [job.state for job in (await jobs.read(list(shops))).values()]
        if all(state.is_final for state in states):
            break
        await asyncio.sleep(LOOK_SECONDS)
    if set(states) != {JobState.COMPLETED}:
        raise RuntimeError(f"the jobs ended as {states}")
    steady = [point for point in seen if point[0] >= WARM_UP_SHARE * pages]
    growth = median_slope(steady) * (steady[-1][0] - steady[0][0])
    return Measured(len(shops), before, peak, pages, growth, asyncio.get_running_loop().time() - started)


async def in_turn(folder: Path, address: str) -> list[Measured]:
    """Start PostgreSQL, Valkey, the object store; for each course a worker of its own."""
    postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
    valkey = ValkeyServer(folder / "valkey", log_path=folder / "valkey.log")
    store = ObjectStoreServer(folder / "store", log_path=folder / "store.log")
    await asyncio.gather(postgres.start(), valkey.start(), store.start())
    try:
        bucket = await store.create_bucket("bench")
        os.environ["AWS_ACCESS_KEY_ID"] = bucket.access_key_id
        os.environ["AWS_SECRET_ACCESS_KEY"] = bucket.secret_access_key
        url = await postgres.create_database("bench")
        await migrate(url)
        values = {
            "database_url": url,
            "redis_url": valkey.url,
            "s3_bucket": bucket.name,
            "s3_endpoint_url": bucket.endpoint_url,
            "aws_region": bucket.region,
            "image_allow": address.removeprefix("http://"),
            "provider_allow": "127.0.0.1",
            "health_port": 0,
            "pod_ip": "127.0.0.1",
            "pod_namespace": NAMESPACE,
        }
        return [await _course(values, address, at_once) for at_once in AT_ONCE]
    finally:
        await asyncio.gather(postgres.stop(), valkey.stop(), store.stop())


async def _course(values: dict[str, Any], address: str, at_once: int) -> Measured:
    shops = [f"{SHOP}-{PRODUCTS}-{IMAGES}-at{at_once}n{number}" for number in range(at_once)]
    for shop in shops:
        await lift_limit(address, shop)
    database = Database(values["database_url"], application="bench", maximum=2)
    redis = connect(values["redis_url"], client_name="bench")
    await database.open(wait_seconds=10)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(values, address), daemon=True)
    process.start()
    try:
        return await measure(database, JobQueue(redis), psutil.Process(process.pid), shops)
    finally:
        process.terminate()
        await asyncio.to_thread(process.join, 30)
        await redis.aclose()
        await database.close()


async def main() -> None:
    """Start everything, measure one job and five at once, print."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    samples = context.Process(target=serve, args=(theirs,), daemon=True)
    samples.start()
    try:
        address = await asyncio.to_thread(ours.recv)
        with state_folder() as folder:
            folder.mkdir(mode=0o711)
            found = await in_turn(folder, address)
    finally:
        samples.terminate()
        samples.join()
    print(
        f"{PRODUCTS:,} products with {IMAGES} images each ({SHOP}) a job, a worker of its own for each row\n"
    )
    print_table(
        ("jobs at once", "peak", "÷ 1 job", "pages", "growth over the pages after the warm-up", "seconds"),
        [
            (
                str(each.jobs),
                f"{each.peak / MEBIBYTE:.0f} MiB",
                f"{each.peak / found[0].peak:.2f}",
                str(each.pages),
                f"{each.growth / MEBIBYTE:+.1f} MiB",
                f"{each.seconds:.0f}",
            )
            for each in found
        ],
    )
    met = "met" if max(each.peak for each in found) < MOST_BYTES else "missed"
    print(f"peak below {MOST_BYTES / 2**30} GiB: {met}")


if __name__ == "__main__":
    asyncio.run(main())
