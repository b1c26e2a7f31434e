"""Jobs per second through the worker with an empty pipeline, beside a bare BullMQ worker loop.

The worker's way of a job: fetched from BullMQ, claimed in PostgreSQL, "imported", finished in PostgreSQL,
acknowledged; the bare loop only fetches and acknowledges. Run with `python -m bench jobs`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog
from bullmq import Queue, Worker  # type: ignore[import-untyped]

from bench.places import state_folder
from bench.table import median_of, print_table
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.redis.queue import MESSAGE_OPTIONS, QUEUE_PREFIX, JobQueue, connect
from import_core.domain.jobs import JobRequest, Message
from import_core.observability.metrics import WorkerMetrics
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer
from import_worker.consumer import QueueConsumer
from import_worker.jobs import JobRunner, Run
from import_worker.leases import LeaseKeeper
from import_worker.progress import ProgressNotifier

JOBS = 500
ROUNDS = 5
CONCURRENCIES = (5, 20)


class EmptyImporter:
    """A pipeline that has nothing to do."""

    async def run(self, run: Run, *, on_commit: Callable[[], None]) -> str | None:
        """Import nothing."""
        return None

    def deadline(self, run: Run, now: datetime) -> float | None:
        """No limit."""
        return None


async def bare_rate(redis_url: str, concurrency: int) -> float:
    """Messages per second of a BullMQ worker whose processor does nothing."""
    name, done, seen = uuid.uuid4().hex, asyncio.Event(), 0
    queue = Queue(name, {"connection": redis_url, "prefix": QUEUE_PREFIX})
    await queue.addBulk(
        [{"name": "import", "data": {}, "opts": {**MESSAGE_OPTIONS, "jobId": f"m-{n}"}} for n in range(JOBS)]
    )

    async def process(_job: object, _token: str) -> None:
        nonlocal seen
        seen += 1
        if seen == JOBS:
            done.set()

    options = {"connection": redis_url, "prefix": QUEUE_PREFIX, "concurrency": concurrency, "autorun": False}
    worker = Worker(name, process, options)
    start = time.perf_counter()
    running = asyncio.create_task(worker.run())
    await done.wait()
    rate = JOBS / (time.perf_counter() - start)
    await worker.close()
    await running
    await queue.close()
    return rate


async def our_rate(database: Database, redis_url: str, concurrency: int) -> float:
    """Jobs per second of the worker's own loop, from the first fetch to the last finished row."""
    name, metrics = uuid.uuid4().hex, WorkerMetrics()
    redis = connect(redis_url, client_name="bench")
    await _dispatch(database, JobQueue(redis, name), name)
    notifier, claims = ProgressNotifier(database), ClaimStore(database)
    runner = JobRunner(
        worker_id="bench",
        claims=claims,
        leases=LeaseKeeper(claims, metrics, on_news=notifier.changed),
        notifier=notifier,
        importer=EmptyImporter(),
        metrics=metrics,
    )
    done, seen = asyncio.Event(), 0

    async def handle(message: Message) -> None:
        nonlocal seen
        await runner.handle(message)
        seen += 1
        if seen == JOBS:
            done.set()

    consumer = QueueConsumer(redis_url, queue=name, concurrency=concurrency, handle=handle, metrics=metrics)
    notifying = asyncio.create_task(notifier.run())
    start = time.perf_counter()
    consuming = asyncio.create_task(consumer.run())
    await done.wait()
    rate = JOBS / (time.perf_counter() - start)
    consumer.stop()
    await consuming
    await consumer.close()
    notifying.cancel()
    with suppress(asyncio.CancelledError):
        await notifying
    await redis.aclose()
    completed = metrics.registry.get_sample_value(
        "imports_jobs_total", {"outcome": "completed", "provider": "unknown"}
    )
    if completed != JOBS:
        raise RuntimeError(f"{completed} of {JOBS} jobs were completed")
    return rate


async def _dispatch(database: Database, queue: JobQueue, name: str) -> None:
    ids = [uuid.uuid4().hex for _ in range(JOBS)]
    await JobStore(database).record([JobRequest(i, "bench", "bench", "bench", {}, queue=name) for i in ids])
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() WHERE id = ANY(%s)""",
            (ids,),
        )
    await queue.add([Message(job_id, 1) for job_id in ids])


async def main() -> None:
    """Start PostgreSQL and Valkey, measure in turns, print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
        valkey = ValkeyServer(folder / "valkey", log_path=folder / "valkey.log")
        await asyncio.gather(postgres.start(), valkey.start())
        try:
            url = await postgres.create_database("bench")
            await migrate(url)
            database = Database(url, application="bench", maximum=max(CONCURRENCIES) + 4)
            await database.open(wait_seconds=10)
            rows = []
            for concurrency in CONCURRENCIES:
                rows += await _measure(database, valkey.url, concurrency)
            await database.close()
        finally:
            await asyncio.gather(postgres.stop(), valkey.stop())
    print(f"{JOBS} jobs a round, {ROUNDS} interleaved rounds, one process; PostgreSQL with durable commits\n")
    print_table(("jobs", "per second", "÷ bare loop"), rows)


async def _measure(database: Database, redis_url: str, concurrency: int) -> list[tuple[str, str, str]]:
    bare, ours = [], []
    for turn in range(ROUNDS + 1):
        pair = await bare_rate(redis_url, concurrency), await our_rate(database, redis_url, concurrency)
        if turn:  # the first round warms up
            bare.append(pair[0])
            ours.append(pair[1])
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return [
        (f"bare BullMQ worker, concurrency {concurrency}", median_of(bare), "1"),
        (f"the worker with an empty pipeline, concurrency {concurrency}", median_of(ours), median_of(ratios)),
    ]
