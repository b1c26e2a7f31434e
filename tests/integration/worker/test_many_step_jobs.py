"""A thousand step jobs of all kinds at once: each completes, and each product takes its step once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import marking_step
from eventually import eventually
from marking_step import MarkingStep

from import_core.adapters.postgres.step_rows import StepWrite, write_rows
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.jobs import Message
from import_core.domain.steps import STEPS_IN_ORDER, KnownStep, StepKind, StepState
from import_worker.runner import StopSignal, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from import_worker.steps.registry import StepContext

JOBS = 1_000
COMPANIES = 20
PRODUCT = """
INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, "contentHash")
SELECT 'p-' || n, 'company-' || n %% %s, n::text, 'shopify', 'Tea', 'h' FROM generate_series(0, %s - 1) n
"""
HAND_OVER = """
UPDATE "ProductImportJob" SET dispatch = dispatch + 1, "dispatchedAt" = now()
WHERE "parentId" IS NOT NULL AND status = 'PENDING' AND "dispatchedAt" IS NULL RETURNING id, dispatch, queue
"""
BY_STATE = """SELECT status, count(*) FROM "ProductImportJob" WHERE "parentId" IS NOT NULL GROUP BY status"""
MARKS = "SELECT count(*), count(DISTINCT product_id), count(DISTINCT step) FROM marked"
OPEN = "SELECT count(*) FROM imports.product_step WHERE state = 'Due'"


async def make(kind: StepKind, _context: StepContext) -> MarkingStep:
    return MarkingStep(kind)


@asynccontextmanager
async def working(stage: Any, kind: StepKind) -> AsyncIterator[None]:
    """A worker of the kind's queue."""
    stop = StopSignal()
    values = stage.settings.model_copy(update={"queue": kind.value})
    task = asyncio.create_task(Worker(values, stage.directory, stop, make_step=make).run())
    try:
        yield
    finally:
        stop.ask()
        stop.ask()
        assert await asyncio.wait_for(task, 30) == 0


async def test_a_thousand_step_jobs_of_all_kinds_complete(stage: Any, redis_url: str) -> None:
    await stage.rows(marking_step.TABLE)
    await stage.rows(PRODUCT, COMPANIES, JOBS)
    due = [
        StepWrite(
            KnownStep(
                f"p-{number}",
                STEPS_IN_ORDER[number % len(STEPS_IN_ORDER)],
                "h",
                StepState.DUE,
                company_id=f"company-{number % COMPANIES}",
            )
        )
        for number in range(JOBS)
    ]
    async with stage.database.transaction() as connection:
        made = await write_rows(connection, due, owned=False, sizes=dict.fromkeys(StepKind, 1))
    assert len(made) == JOBS
    redis = connect(redis_url, client_name="tests")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        for kind in STEPS_IN_ORDER:
            await stack.enter_async_context(working(stage, kind))
        handed_over = await stage.rows(HAND_OVER)
        for kind in STEPS_IN_ORDER:
            messages = [Message(job, dispatch) for job, dispatch, queue in handed_over if queue == kind.value]
            await JobQueue(redis, kind.value).add(messages)

        async def none_due() -> bool:
            return bool(await stage.rows(OPEN) == [(0,)])

        await eventually(none_due, seconds=90, what="the end of the last job")
    assert await stage.rows(BY_STATE) == [("COMPLETED", JOBS)]
    assert await stage.rows(MARKS) == [(JOBS, JOBS, len(STEPS_IN_ORDER))]
