"""One look of `bench rows` in a process of its own: `python -m bench.rows_look OBJECTS SHARE`, JSON on its output."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.counting import CountStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.repairs import RepairKind
from import_operator.loops.dispatch import Capacity, DispatchLoop
from import_operator.loops.repair import RepairLoop
from import_operator.loops.tell import TellLoop
from import_operator.settings import OperatorSettings
from import_operator.state import OperatorState
from import_operator.vanishing import VanishedJobs

NAMESPACE = "imports"
WORKERS_JOBS = 250
"""What 50 workers take at once: a dispatch round fills the window with so many."""
GONE_SHARE = 100
REPEATS = 5
CLEAN = """UPDATE "ProductImportJob" SET "dispatchedAt" = NULL
WHERE coalesce(queue, 'product-imports') = 'product-imports' AND status = 'PENDING' AND "dispatchedAt" IS NOT NULL"""


class Look:
    """The operator's loops on one database, turned by hand."""

    def __init__(self, database: Database, redis: Redis, settings: OperatorSettings) -> None:
        self.database, self.redis = database, redis
        self.state = OperatorState(NAMESPACE)
        self.jobs, self.counts = JobStore(database), CountStore(database)
        self.store, self.origins = DispatchStore(database), OriginStore(database)
        self.queue = JobQueue(redis)
        kube = KubeClient.__new__(KubeClient)  # Events are not posted
        self.vanished = VanishedJobs(
            self.state,
            self.origins,
            self.jobs,
            GuardStore(database),
            TellLoop(kube, namespace=NAMESPACE, instance="bench"),
        )
        self.repair = RepairLoop(
            self.state,
            RepairStore(database),
            self.store,
            queue=lambda _: self.queue,
            capacities=self.capacities,
            settings=settings,
        )

    def capacities(self) -> dict[str, Capacity]:
        """Of the one queue."""
        return {DEFAULT_QUEUE: Capacity(WORKERS_JOBS)}

    async def depth(self) -> None:
        """As scaling and the guard measure it."""
        await self.jobs.depth([DEFAULT_QUEUE])

    async def count(self) -> None:
        """Jobs by state, as Prometheus is told."""
        await self.counts.counts(DEFAULT_QUEUE)

    async def walk(self) -> None:
        """All pages of hand-overs that nobody has claimed."""
        async for _ in self.store.overdue(DEFAULT_QUEUE, older_than_seconds=15.0):
            pass

    async def reconcile(self, objects: dict[str, bool]) -> None:
        """All objects beside all rows, all hand-overs beside Redis, all claims beside their jobs."""
        before = await self.origins.now()
        await self.vanished.compare(objects, recorded_before=before, cluster_uid="bench")
        await self.repair.repair_hand_overs()
        await self.repair.end_stalled()

    async def dispatch(self) -> None:
        """A round of an operator that has just taken over, so the hand-overs of the one before are checked as well."""
        loop = DispatchLoop(self.state, self.store, queue=lambda _: self.queue, capacities=self.capacities)
        await loop.round()

    async def clean(self) -> None:
        """Forget what was handed over."""
        async with self.database.connection() as connection:
            await connection.execute(CLEAN)
        await self.redis.flushdb()
        await self.queue.check_epoch()


async def milliseconds(work: Callable[[], Awaitable[None]]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1000


def memory_mib(name: str) -> float:
    """`VmHWM`, the peak of this process's resident memory, or `VmRSS`, what it is now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def repaired() -> float:
    """How many rows were put right."""
    numbers = (
        REGISTRY.get_sample_value("imports_repairs_total", {"kind": kind.value}) for kind in RepairKind
    )
    return sum(number or 0.0 for number in numbers)


async def measure(look: Look, objects: dict[str, bool]) -> dict[str, float]:
    """Milliseconds of each; the first of each is not counted, as it opens connections and plans."""
    found: dict[str, float] = {}
    for name, work in {
        "depth, ms": look.depth,
        "jobs by state, ms": look.count,
        "walk of hand-overs, ms": look.walk,
    }.items():
        times = [await milliseconds(work) for _ in range(REPEATS + 1)]
        found[name] = statistics.median(times[1:])
    found["reconcile pass, ms"] = await milliseconds(lambda: look.reconcile(objects))
    times = []
    for _ in range(REPEATS + 1):
        await look.clean()
        times.append(await milliseconds(look.dispatch))
        if await look.store.unclaimed(DEFAULT_QUEUE) != WORKERS_JOBS:
            raise RuntimeError("A round of dispatch did not fill the window")
    found["dispatch round, ms"] = statistics.median(times[1:])
    return found


async def main() -> None:
    """Measure and tell."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    settings = OperatorSettings()
    number, share = map(int, sys.argv[1:])
    # A few of the objects are gone.
    objects = {f"object-{n * share:08}": False for n in range(1, number + 1) if n % GONE_SHARE}
    redis = connect(settings.redis_url.get_secret_value(), client_name="bench")
    await redis.flushdb()
    database = Database(settings.database_url.get_secret_value(), application="bench", maximum=4)
    await database.open(wait_seconds=10)
    try:
        look = Look(database, redis, settings)
        before = memory_mib("VmRSS")
        found = await measure(look, objects)
        peak = memory_mib("VmHWM")
    finally:
        await database.close()
        await redis.aclose()
    print(
        json.dumps(
            {**found, "peak memory, MiB": peak, "of it grown, MiB": peak - before, "repaired": repaired()}
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
