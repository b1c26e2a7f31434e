"""The operator and the steps of imports that have ended: held, cancelled, kept from the sweep, swept themselves."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from postgres_rows import NAMESPACE, execute, request
from step_products import claim_batch

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.adapters.postgres.step_control import CANCELLED_AT_ONCE, StepControl, hold_all_steps
from import_core.domain.steps import StepKind
from import_core.domain.sweeping import may_go
from import_operator.handlers.handle_record_import_job import handle_record_import_job
from import_operator.loops.steps import StepLoop
from import_operator.state import OperatorState

STEP_JOB = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, queue, "parentId", status, "completedAt")
VALUES (%s, 'acme', %s, %s, %s, %s, %s)
"""


def body(version: int, *, suspended: bool = False, **status: Any) -> dict[str, Any]:
    """An ImportJob whose import has ended and whose steps have not."""
    return {
        "metadata": {
            **{"name": "object-job-1", "namespace": NAMESPACE, "uid": "job-1"},
            **{"generation": version, "resourceVersion": str(version)},
        },
        "spec": {
            **{"companyId": "acme", "providerRef": {"name": "p"}},
            **{"enrich": {"index": True}, "suspend": suspended},
        },
        "status": {"phase": "Succeeded", "completedAt": "2026-01-01T00:00:00Z", **status},
    }


async def ended_import(database: Database, state: str = "COMPLETED") -> None:
    """A finished job with one step job that waits."""
    await JobStore(database).record([request("job-1")])
    await execute(database, """UPDATE "ProductImportJob" SET status = %s WHERE id = 'job-1'""", (state,))
    await step_job(database, "batch-1", "job-1")


async def step_job(
    database: Database, job_id: str, parent: str, state: str = "PENDING", ended_at: datetime | None = None
) -> None:
    kind = StepKind.INDEX.value
    await execute(database, STEP_JOB, (job_id, kind, kind, parent, state, ended_at))


async def state_of(database: Database, job_id: str) -> tuple[Any, ...]:
    (row,) = await execute(
        database, """SELECT status, suspended IS TRUE FROM "ProductImportJob" WHERE id = %s""", (job_id,)
    )
    return row


async def test_suspending_a_finished_import_holds_its_steps_and_resuming_frees_them(
    database: Database,
) -> None:
    await ended_import(database)
    state = OperatorState(NAMESPACE)
    loop = StepLoop(state, StepControl(database))
    for version, suspended in ((1, False), (2, True), (3, False)):
        handle_record_import_job(state, body(version, suspended=suspended))
        await loop.round()
        assert await state_of(database, "batch-1") == ("PENDING", suspended)


async def test_all_batches_of_an_import_are_held_and_freed_however_many_there_are(database: Database) -> None:
    many = 2 * CANCELLED_AT_ONCE + 100
    store = JobStore(database)
    await store.record([request("job-1")])
    await execute(
        database,
        """INSERT INTO "ProductImportJob"
            (id, "companyId", provider, queue, "parentId", status, attempt, deaths, dispatch)
        SELECT 'batch-' || to_char(n, 'FM00000'), 'acme', 'index-product', 'index-product', 'job-1', 'PENDING', 0, 0, 0
        FROM generate_series(1, %s) n""",
        (many,),
    )
    await claim_batch(database, f"batch-{many:05}")
    for generation, suspended in ((2, True), (3, False)):
        recorded = await store.record([request("job-1", generation=generation, suspended=suspended)])
        assert (recorded.new, recorded.steps_left) == ([], {"job-1": suspended})
        await StepControl(database).hold(recorded.steps_left)
        assert await execute(
            database,
            """SELECT suspended IS TRUE, status, count(*) FROM "ProductImportJob"
            WHERE "parentId" = 'job-1' GROUP BY 1, 2""",
        ) == [(suspended, "PENDING", many)]
        assert await execute(database, "SELECT job_id FROM imports.claim") == []


async def test_steps_of_an_import_that_somebody_has_resumed_since_are_not_held(database: Database) -> None:
    await JobStore(database).record([request("job-1"), request("job-2", suspended=True)])
    for job_id in ("job-1", "job-2"):
        await step_job(database, f"batch-of-{job_id}", job_id)
    await hold_all_steps(database, ["job-1", "job-2"], suspended=True)
    assert await state_of(database, "batch-of-job-1") == ("PENDING", False)
    assert await state_of(database, "batch-of-job-2") == ("PENDING", True)


async def test_only_imports_with_batches_to_hold_are_waited_for(database: Database) -> None:
    ids = ["job-1", "job-2", "job-3"]
    await JobStore(database).record([request(job_id, suspended=True) for job_id in ids])
    for job_id in ids[:2]:
        await step_job(database, f"batch-of-{job_id}", job_id)
    await hold_all_steps(database, ["job-2"], suspended=True)
    async with database.transaction() as connection, asyncio.timeout(10):
        # As a batch that ends does, and as a foreign key of the platform's would.
        for job_id, lock in (("job-1", "KEY SHARE"), ("job-2", "SHARE"), ("job-3", "SHARE")):
            await connection.execute(
                f"""SELECT FROM "ProductImportJob" WHERE id = %s FOR {lock}""", (job_id,)
            )
        await hold_all_steps(database, ids, suspended=True)
    assert await state_of(database, "batch-of-job-1") == ("PENDING", True)


async def test_a_change_that_nobody_watched_is_heeded_while_steps_are_to_come(database: Database) -> None:
    await ended_import(database)
    state = OperatorState(NAMESPACE)
    handle_record_import_job(state, body(2, suspended=True))
    await StepLoop(state, StepControl(database)).round()
    assert await state_of(database, "batch-1") == ("PENDING", True)
    through = [{"type": "Enriched", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    other = OperatorState(NAMESPACE)
    handle_record_import_job(other, body(2, suspended=True, conditions=through))
    assert not other.steps_to_hold


async def test_steps_are_held_as_the_object_says_by_then(database: Database) -> None:
    await ended_import(database)
    state = OperatorState(NAMESPACE)
    state.keep_job(body(1, suspended=True))
    state.hold_steps("job-1")
    state.hold_steps("gone")
    state.keep_job(body(2))
    await StepLoop(state, StepControl(database)).round()
    assert await state_of(database, "batch-1") == ("PENDING", False)
    assert not state.steps_to_hold


async def test_what_is_left_of_cancelled_imports_is_cancelled(database: Database) -> None:
    await ended_import(database, "CANCELLED")
    await step_job(database, "nobody-s", "nobody-s")
    await StepLoop(OperatorState(NAMESPACE), StepControl(database)).round()
    assert await state_of(database, "batch-1") == ("CANCELLED", False)
    assert await state_of(database, "nobody-s") == ("PENDING", False)


async def test_finished_step_jobs_leave_the_platform_s_table(database: Database) -> None:
    await ended_import(database)
    old = datetime.now(UTC) - timedelta(hours=2)
    for state in ("COMPLETED", "FAILED", "CANCELLED"):
        await step_job(database, f"old-{state}", "job-1", state, old)
        await step_job(database, f"new-{state}", "job-1", state, datetime.now(UTC))
    await StepLoop(OperatorState(NAMESPACE), StepControl(database)).round()
    left = await execute(database, """SELECT id FROM "ProductImportJob" WHERE id LIKE 'old-%'""")
    kept = await execute(database, """SELECT id FROM "ProductImportJob" WHERE id LIKE 'new-%'""")
    assert (left, len(kept)) == ([], 3)


async def test_an_object_stays_until_its_steps_are_through(database: Database) -> None:
    await ended_import(database)
    store = ReopeningStore(database)
    assert not may_go(body(1), (await store.honoured(["job-1"]))["job-1"])
    await execute(database, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id = 'batch-1'""")
    assert may_go(body(1), (await store.honoured(["job-1"]))["job-1"])
