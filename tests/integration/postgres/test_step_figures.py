"""Figures of steps stay for weeks, though step jobs are deleted an hour after their end."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from postgres_rows import NAMESPACE, execute
from step_products import EMBED, claim_batch, commit, importing, page, take, waiting

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.figures import Figures, FigureStore
from import_core.adapters.postgres.step_control import StepControl
from import_core.adapters.postgres.step_figures import LONGEST_DAYS, PRUNE, PRUNED_AT_ONCE, QUEUES
from import_core.domain.jobs import JobState
from import_core.domain.steps import StepDone, StepFailed, StepOutcome

STEP_JOB = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, status, queue, namespace, "parentId", "startedAt",
    "completedAt", "failureReason")
SELECT gen_random_uuid()::text, 'acme', %(queue)s, %(status)s, %(queue)s, %(namespace)s, 'parent',
    %(ended)s - interval '1 second' * seconds, %(ended)s, %(reason)s
FROM unnest(%(seconds)s::float8[]) seconds
"""


async def put(
    database: Database,
    *seconds: float | None,
    days_ago: float = 0,
    status: str = "COMPLETED",
    queue: str = "quality-control",
    namespace: str | None = NAMESPACE,
    reason: str | None = None,
) -> None:
    """Step jobs that ended, one for each duration."""
    ended = datetime.now(UTC) - timedelta(days=days_ago)
    values = {"status": status, "queue": queue, "namespace": namespace, "ended": ended}
    await execute(database, STEP_JOB, {**values, "reason": reason, "seconds": list(seconds)})


async def read(database: Database, *, queues: Sequence[str] = QUEUES, days: int = 7) -> Figures:
    return await FigureStore(database).read(namespace=NAMESPACE, queues=queues, days=days)


async def test_swept_step_jobs_stay_in_the_figures(database: Database) -> None:
    await put(database, 1, 2, 4, 300, None, days_ago=3)
    await put(database, 2, days_ago=3, namespace=None)
    await put(database, 9, 9, days_ago=2, status="FAILED", reason="Timeout")
    await put(database, 9, days_ago=2, status="FAILED")
    await put(database, 9, days_ago=2, status="CANCELLED")
    await put(database, 9, days_ago=2, namespace="elsewhere")
    await put(database, 9, days_ago=2, namespace="elsewhere", status="FAILED", reason="Timeout")
    await put(database, 9, days_ago=7.5)
    await put(database, 0, days_ago=1, queue="index-product")
    before = await read(database)
    assert await StepControl(database).sweep() == 14
    await put(database, 2, 2, status="COMPLETED")
    await put(database, 9, status="FAILED", reason="Timeout")
    after = await read(database)
    today = datetime.now(UTC).date()
    counts = {
        ((today - row.day.astimezone(UTC).date()).days, row.queue): (row.completed, row.failed)
        for row in after.days
        if row.completed or row.failed
    }
    assert counts == {
        (3, "quality-control"): (6, 0),
        (2, "quality-control"): (0, 3),
        (1, "index-product"): (1, 0),
        (0, "quality-control"): (2, 1),
    }
    failures = [(row.queue, row.reason, row.jobs, row.products) for row in after.failures]
    assert failures == [("quality-control", "Timeout", 3, 0), ("quality-control", "Unknown", 1, 0)]
    assert [(row.queue, row.jobs) for row in before.durations] == [
        ("index-product", 1),
        ("quality-control", 5),
    ]
    index, quality = after.durations
    assert (index.queue, index.jobs, quality.queue, quality.jobs) == (
        "index-product",
        1,
        "quality-control",
        7,
    )
    assert index.median_seconds == 0.001
    assert 2 <= quality.median_seconds <= 2 * 1.1
    assert 300 <= quality.p95_seconds <= 300 * 1.1


async def test_sweeps_add_to_each_other_and_what_is_too_old_goes(database: Database) -> None:
    for _ in range(2):
        await put(database, 1, 1, days_ago=1)
        await put(database, 1, days_ago=LONGEST_DAYS + 1.5)
        await StepControl(database).sweep()
    assert await execute(database, "SELECT sum(number)::integer FROM imports.step_figure") == [(4,)]
    assert sum(row.completed for row in (await read(database, days=LONGEST_DAYS)).days) == 4


async def test_products_given_up_in_a_batch_that_completes_are_counted_by_reason(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a", "b", "c", "d"))
    bad = await execute(
        database, """SELECT id FROM "Product" WHERE "externalId" IN ('a', 'b', 'c') ORDER BY id"""
    )

    def judge(product_id: str) -> StepOutcome:
        if (product_id,) in bad:
            return StepFailed(product_id, "ImageUnreadable", "no picture", retryable=False)
        return StepDone(product_id)

    ended = await take(database, EMBED, judge)
    assert sorted(str(state) for state in ended) == ["COMPLETED", "FAILED"]
    expected = [(EMBED.value, "ImageUnreadable", 1, 3)]
    for _ in range(2):
        found = await read(database)
        assert [(row.queue, row.reason, row.jobs, row.products) for row in found.failures] == expected
        await execute(
            database,
            """UPDATE "ProductImportJob" SET "completedAt" = now() - interval '2 hours' WHERE queue = %s""",
            (EMBED.value,),
        )
        await execute(database, "DELETE FROM imports.product_step WHERE state = 'Dead'")
        assert await StepControl(database).sweep(limit=1) == 1


async def test_products_given_up_with_their_worker_are_counted(database: Database, claimed: Any) -> None:
    await commit(database, await importing(database, claimed), page("a", "b"))
    (job_id,) = await waiting(database, EMBED)
    await execute(database, """UPDATE "ProductImportJob" SET deaths = 3 WHERE id = %s""", (job_id,))
    await ClaimStore(database).mark_alone(await claim_batch(database, job_id))
    await ClaimStore(database).end_of_workers(["worker-1"])
    found = await read(database)
    assert [(row.reason, row.jobs, row.products) for row in found.failures] == [("WorkerKilled", 1, 2)]


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.IN_PROGRESS])
async def test_what_has_not_ended_is_not_swept(database: Database, state: JobState) -> None:
    await put(database, 1, days_ago=3, status=state.value)
    assert await StepControl(database).sweep() == 0
    assert await execute(database, "SELECT * FROM imports.step_figure") == []


async def test_old_figures_are_found_by_the_key(database: Database) -> None:
    await execute(
        database,
        """INSERT INTO imports.step_figure (queue, day, namespace, outcome, reason, duration_bucket, number)
        SELECT queue, (now() AT TIME ZONE 'UTC')::date - day, 'ns-' || namespace, 'Completed', '', bucket, 1
        FROM unnest(%s::text[]) queue, generate_series(0, 31) day, generate_series(1, 10) namespace,
            generate_series(1, 20) bucket""",
        (list(QUEUES),),
    )
    await execute(database, "ANALYZE imports.step_figure")
    values = {"queues": list(QUEUES), "days": LONGEST_DAYS, "limit": PRUNED_AT_ONCE}
    plan = "\n".join(row[0] for row in await execute(database, f"EXPLAIN {PRUNE}", values))
    assert "step_figure_pkey" in plan
    assert "Seq Scan" not in plan
