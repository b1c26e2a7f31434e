"""Backpressure at full size: 12,000 ImportJobs against the default thresholds, through the operator's own loops.

The webhook is taken to be dead, so the operator holds what there is no room for. All that is held is taken
and completes; a look at the full queue is measured beside one at an almost empty one. Ends of jobs are
written by hand, 500 at a time, since workers are not what is measured. Run with `python -m bench backpressure`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from bench.places import state_folder
from bench.table import median_of, print_table
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.evidence import EvidenceStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.domain.backpressure import HealthLevel, Thresholds
from import_core.domain.jobs import DEFAULT_QUEUE
from import_local.parts.postgres import PostgresServer
from import_operator.holding import Holding
from import_operator.loops.guard import GuardLoop
from import_operator.loops.record import RecordLoop
from import_operator.loops.tell import TellLoop
from import_operator.policies import QueuePolicy
from import_operator.state import OperatorState, SeenDepth

BASIC_JOBS = 6_000
LARGE_JOBS = 6_000
COMPANIES = 100
LOOKS = 20
END = """
UPDATE "ProductImportJob" SET status = 'COMPLETED', "completedAt" = now()
WHERE id IN (SELECT id FROM "ProductImportJob" WHERE status = 'PENDING' LIMIT 500)
"""


class Bench:
    """The operator's loops on one database, turned by hand."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.state = OperatorState("imports")
        self.jobs = JobStore(database)
        self.queues = QueueStateStore(database)
        holding = Holding(self.state, self.queues, OriginStore(database))
        self.record = RecordLoop(self.state, self.jobs, holding)
        kube = KubeClient.__new__(KubeClient)  # Events are not posted
        # The wait for lasting improvement is no work to be measured.
        policy = QueuePolicy(Thresholds(improved_seconds=0.0))
        self.guard = GuardLoop(
            self.state,
            self.queues,
            EvidenceStore(database),
            TellLoop(kube, namespace="imports", instance="bench"),
            holding=holding,
            policies=lambda: {DEFAULT_QUEUE: policy},
        )

    async def look(self) -> QueueState:
        """Measure and judge."""
        seen_at = datetime.now(UTC)
        depth = (await self.jobs.depth([DEFAULT_QUEUE]))[DEFAULT_QUEUE]
        self.state.depths[DEFAULT_QUEUE] = SeenDepth(depth.due, depth.claimed, seen_at)
        await self.guard.round()
        return await self.queues.health(DEFAULT_QUEUE)

    def apply(self, kind: str, number: int) -> None:
        """An ImportJob appears, of one of the companies of a tier."""
        company = f"{kind}-{number % COMPANIES}"
        name = f"{kind}-job-{number}"
        self.state.jobs.put(_job(name, company))
        self.state.to_record.add(name)

    async def settle(self) -> None:
        """Record or hold all that waits, looking at the queue as often as the operator does meanwhile."""
        while len(self.state.to_record):
            await self.record.round()
            await self.look()

    async def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(statement)
            return await cursor.fetchall() if cursor.description else []


async def main() -> None:
    """Run and print."""
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        server = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
        await server.start()
        try:
            url = await server.create_database("bench")
            await migrate(url)
            database = Database(url, application="bench", maximum=4)
            await database.open(wait_seconds=10)
            try:
                await _run(Bench(database))
            finally:
                await database.close()
        finally:
            await server.stop()


async def _run(bench: Bench) -> None:
    await bench.sql(
        f"""INSERT INTO "Company" (id, tier)
        SELECT 'large-' || n, 'ENTERPRISE' FROM generate_series(0, {COMPANIES - 1}) n"""
    )
    for kind in ("basic", "large"):
        for number in range(COMPANIES):
            bench.state.providers.put(_provider(f"{kind}-{number}"))
    bench.apply("basic", 0)
    await bench.settle()
    empty = await _times(bench.look)
    for number in range(1, BASIC_JOBS):
        bench.apply("basic", number)
    await bench.settle()
    critical, held_basic = await bench.look(), len(bench.state.held)
    for number in range(LARGE_JOBS):
        bench.apply("large", number)
    await bench.settle()
    # One more than overload allows, as a row that the platform inserts by itself: none is refused.
    await bench.sql(
        """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('own', 'own', 'own')"""
    )
    overload, held_all = await bench.look(), len(bench.state.held)
    full = await _times(bench.look)
    await _drain(bench)
    ((completed,),) = await bench.sql(
        """SELECT count(*) FROM "ProductImportJob" WHERE status = 'COMPLETED'"""
    )
    if completed != BASIC_JOBS + LARGE_JOBS + 1 or bench.state.held:
        raise RuntimeError(f"{completed} completed, {len(bench.state.held)} held")
    print_table(
        ("what", "depth", "level", "held", "a look, ms"),
        [
            ("one job", "1", HealthLevel.HEALTHY.value, "0", median_of(empty)),
            ("6,000 of BASIC", f"{critical.intake.depth:,}", critical.level.value, f"{held_basic:,}", "–"),
            (
                "6,000 of ENTERPRISE more, and a row without object",
                *(f"{overload.intake.depth:,}", overload.level.value, f"{held_all:,}", median_of(full)),
            ),
        ],
    )
    print(f"\nintake stopped: {overload.intake.intake.stopped}; all {completed:,} completed, none is held")


async def _drain(bench: Bench) -> None:
    """End jobs until none is left; what is held comes in meanwhile."""
    while True:
        await bench.sql(END)
        state = await bench.look()
        await bench.settle()
        if not bench.state.held and not state.intake.depth:
            return


async def _times(work: Callable[[], Awaitable[object]]) -> list[float]:
    """Milliseconds of each of some runs."""
    times = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        await work()
        times.append((time.perf_counter() - started) * 1000)
    return times


def _job(name: str, company: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "imports", "uid": name, "generation": 1, "resourceVersion": "1"}
    return {
        "metadata": {**metadata, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"companyId": company, "providerRef": {"name": company}},
    }


def _provider(company: str) -> dict[str, Any]:
    return {
        "metadata": {"name": company, "namespace": "imports", "uid": company, "resourceVersion": "1"},
        "spec": {
            "companyId": company,
            "type": "shopify",
            "baseUrl": "https://example.com",
            "credentialsSecretRef": {"name": company},
        },
    }
