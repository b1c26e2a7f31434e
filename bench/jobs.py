"""Jobs per second through the worker with an empty pipeline, beside a bare BullMQ worker loop.

The worker's way of a job: fetched from BullMQ, claimed in PostgreSQL, "imported", finished in PostgreSQL,
acknowledged; the bare loop only fetches and acknowledges. Each run is a process of its own, with uvloop for both, as
the worker has it. A job carries a payload of 1 KiB: ours in its row, the bare loop's in its message. WARM_UP jobs more
go before, in which connections are opened and statements prepared: a worker does that once in its life. Run with
`python -m bench jobs`; JOBS_NUMBER and JOBS_ROUNDS set the size.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import structlog
from bullmq import Queue, Worker  # type: ignore[import-untyped]

from bench.measuring import Clock, Figures, cpu_of_tree, in_process
from bench.places import state_folder
from bench.table import median_of, print_table, ratios_of
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.redis.queue import MESSAGE_OPTIONS, QUEUE_PREFIX, JobQueue, connect
from import_core.domain.jobs import JobRequest, Message
from import_core.observability.metrics import WorkerMetrics
from import_local.parts.postgres import SUPERUSER, PostgresServer
from import_local.parts.valkey import ValkeyServer
from import_worker.consumer import QueueConsumer
from import_worker.jobs import JobRunner, Run
from import_worker.leases import LeaseKeeper
from import_worker.progress import ProgressNotifier

JOBS = int(os.environ.get("JOBS_NUMBER", "2000"))
ROUNDS = int(os.environ.get("JOBS_ROUNDS", "5"))
CONCURRENCIES = (5, 20)
WARM_UP = 300
PAYLOAD = "x" * 1024


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of a run, and their processes, whose CPU is counted too."""

    postgres_url: str
    superuser_url: str
    redis_url: str
    postgres_pid: int
    redis_pid: int

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far of PostgreSQL and of Valkey."""
        return cpu_of_tree(self.postgres_pid), cpu_of_tree(self.redis_pid)


class EmptyImporter:
    """A pipeline that has nothing to do."""

    retry_delays: Sequence[float] | None = None

    async def run(self, run: Run, *, on_commit: Callable[[], None]) -> str | None:
        """Import nothing."""
        return None

    def deadline(self, run: Run, now: datetime) -> float | None:
        """No limit."""
        return None


class Countdown:
    """Tells when the warm-up is over, and when all jobs after it are done."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._left = WARM_UP + jobs
        self.warm, self.done = asyncio.Event(), asyncio.Event()

    def count(self) -> None:
        """One more is done."""
        self._left -= 1
        if self._left == self._jobs:
            self.warm.set()
        if not self._left:
            self.done.set()


async def bare_jobs(clock: Clock, servers: Servers, concurrency: int, jobs: int) -> tuple[float, float]:
    """A BullMQ worker whose processor does nothing; returns the servers' CPU seconds."""
    name, countdown = uuid.uuid4().hex, Countdown(jobs)
    queue = Queue(name, {"connection": servers.redis_url, "prefix": QUEUE_PREFIX})
    number = WARM_UP + jobs
    for start in range(0, number, 500):
        numbers = range(start, min(start + 500, number))
        await queue.addBulk(
            [
                {
                    "name": "import",
                    "data": {"payload": PAYLOAD},
                    "opts": {**MESSAGE_OPTIONS, "jobId": f"m-{n}"},
                }
                for n in numbers
            ]
        )

    async def process(_job: object, _token: str) -> None:
        countdown.count()

    options = {"connection": servers.redis_url, "prefix": QUEUE_PREFIX, "concurrency": concurrency}
    worker = Worker(name, process, {**options, "autorun": False})
    running = asyncio.create_task(worker.run())
    await countdown.warm.wait()
    before = servers.cpu()
    clock.start()
    await countdown.done.wait()
    clock.stop()
    after = servers.cpu()
    await worker.close()
    await running
    await queue.close()
    return after[0] - before[0], after[1] - before[1]


async def our_jobs(clock: Clock, servers: Servers, concurrency: int, jobs: int) -> tuple[float, float]:
    """The worker's own loop, from the first fetch to the last finished row; returns the servers' CPU seconds."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), cache_logger_on_first_use=True
    )
    name, metrics, countdown = uuid.uuid4().hex, WorkerMetrics(), Countdown(jobs)
    database = Database(servers.postgres_url, application="bench", maximum=concurrency + 4)
    await database.open(wait_seconds=10)
    redis = connect(servers.redis_url, client_name="bench")
    await _dispatch(database, JobQueue(redis, name), name, WARM_UP + jobs)
    notifier, claims = ProgressNotifier(database), ClaimStore(database)
    runner = JobRunner(
        worker_id="bench",
        claims=claims,
        leases=LeaseKeeper(claims, metrics, on_news=notifier.changed),
        notifier=notifier,
        importer=EmptyImporter(),
        metrics=metrics,
    )

    async def handle(message: Message) -> None:
        await runner.handle(message)
        countdown.count()

    consumer = QueueConsumer(
        servers.redis_url, queue=name, concurrency=concurrency, handle=handle, metrics=metrics
    )
    notifying = asyncio.create_task(notifier.run())
    consuming = asyncio.create_task(consumer.run())
    await countdown.warm.wait()
    before = servers.cpu()
    clock.start()
    await countdown.done.wait()
    clock.stop()
    after = servers.cpu()
    consumer.stop()
    await consuming
    await consumer.close()
    notifying.cancel()
    with suppress(asyncio.CancelledError):
        await notifying
    await redis.aclose()
    await database.close()
    labels = {"outcome": "completed", "provider": "unknown", "tier": "BASIC"}
    completed = metrics.registry.get_sample_value("imports_jobs_total", labels)
    if completed != WARM_UP + jobs:
        raise RuntimeError(f"{completed} of {WARM_UP + jobs} jobs were completed")
    return after[0] - before[0], after[1] - before[1]


async def _dispatch(database: Database, queue: JobQueue, name: str, jobs: int) -> None:
    ids = [uuid.uuid4().hex for _ in range(jobs)]
    spec = {"payload": PAYLOAD}
    await JobStore(database).record([JobRequest(i, "bench", "bench", "bench", spec, queue=name) for i in ids])
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() WHERE id = ANY(%s)""",
            (ids,),
        )
    await queue.add([Message(job_id, 1) for job_id in ids])


@asynccontextmanager
async def with_servers(*, redis_sync: str | None = None) -> AsyncIterator[Servers]:
    """PostgreSQL with durable commits and our tables, and Valkey, which is volatile as in an installation.

    With `redis_sync` (Valkey's `appendfsync`) it writes what it is told to a file and syncs that so often: what a peer
    needs that has nothing but Redis.
    """
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
        valkey = ValkeyServer(folder / "valkey", log_path=folder / "valkey.log")
        await asyncio.gather(postgres.start(), valkey.start())
        try:
            url = await postgres.create_database("bench")
            await migrate(url)
            if redis_sync is not None:
                client = connect(valkey.url, client_name="bench")
                await client.config_set("appendfsync", redis_sync)
                await client.config_set("appendonly", "yes")
                await client.aclose()
            pids = postgres.processes()[0].pid, valkey.processes()[0].pid
            yield Servers(url, postgres.url(user=SUPERUSER), valkey.url, *pids)
        finally:
            await asyncio.gather(postgres.stop(), valkey.stop())


async def main() -> None:
    """Measure in turns, print."""
    rows: list[tuple[str, ...]] = []
    async with with_servers() as servers:
        for concurrency in CONCURRENCIES:
            rounds = [await _round(servers, concurrency, turn) for turn in range(ROUNDS)]
            for name, title in (
                ("bare", "bare BullMQ worker"),
                ("ours", "the worker with an empty pipeline"),
            ):
                rows.append(
                    row_of(
                        f"{title}, concurrency {concurrency}",
                        [each[name] for each in rounds],
                        [each["bare"] for each in rounds],
                    )
                )
    print(
        f"{JOBS} jobs of 1 KiB a run after {WARM_UP} others, {ROUNDS} interleaved rounds, durable commits\n"
    )
    print_table(HEADER, rows)


HEADER = (
    "jobs",
    "per second",
    "÷ bare loop",
    "CPU-ms per job",
    "PostgreSQL's",
    "Valkey's",
    "peak MiB",
)


async def _round(servers: Servers, concurrency: int, turn: int) -> Mapping[str, Figures]:
    """Each way once; the order is turned round every second time."""
    figures = {}
    for name, work in (("bare", bare_jobs), ("ours", our_jobs))[:: -1 if turn % 2 else 1]:
        figures[name] = await in_process(
            f"jobs-{name}-{turn}", work, servers, concurrency, JOBS, on_uvloop=True
        )
    return figures


def row_of(title: str, runs: Sequence[Figures], reference: Sequence[Figures]) -> tuple[str, ...]:
    """A line of the table: medians with ranges."""
    seconds = [run.seconds for run in runs]
    return (
        title,
        median_of([JOBS / one for one in seconds]),
        median_of(ratios_of([one.seconds for one in reference], seconds)),
        median_of([1000 * run.cpu_seconds / JOBS for run in runs]),
        *(median_of([1000 * run.said[server] / JOBS for run in runs]) for server in (0, 1)),
        median_of([run.peak_mib for run in runs]),
    )
