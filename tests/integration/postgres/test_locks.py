"""Rows that somebody else holds: locks are waited for in one order, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.domain.jobs import JobRequest, JobState, Message, ObjectReference
from import_core.domain.worker_ends import WorkerEnd
from import_operator.loops.reap import ReapLoop
from import_operator.state import OperatorState

QUEUE = "product-imports"
JOB = """SELECT 1 FROM "ProductImportJob" WHERE id = %s FOR UPDATE"""
CLAIM = "SELECT 1 FROM imports.claim WHERE job_id = %s FOR UPDATE"


def request(job_id: str, **values: Any) -> JobRequest:
    origin = ObjectReference("imports", job_id, job_id)
    return JobRequest(job_id, "acme", "p", "imports", {}, origin, **{"generation": 1, **values})


@asynccontextmanager
async def held(database: Database, statement: str, job_id: str) -> AsyncIterator[None]:
    """Hold a row as somebody's open transaction does."""
    async with database.transaction() as connection:
        await connection.execute(statement, (job_id,))
        yield


async def waiting_for_locks(database: Database, count: int = 1) -> None:
    """Wait until so many wait for a lock."""
    async with database.connection() as connection, asyncio.timeout(10):
        while True:
            cursor = await connection.execute(
                """SELECT FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND datname = current_database()"""
            )
            if len(await cursor.fetchall()) >= count:
                return
            await asyncio.sleep(0.02)


async def free_rows(database: Database) -> list[str]:
    async with database.transaction() as connection:
        cursor = await connection.execute(
            'SELECT id FROM "ProductImportJob" ORDER BY id FOR UPDATE SKIP LOCKED'
        )
        return [row[0] for row in await cursor.fetchall()]


async def cancel(database: Database) -> None:
    await JobStore(database).cancel(["c", "a", "b"], message="deleted")


async def record(database: Database) -> None:
    await JobStore(database).record([request(job_id, generation=2) for job_id in ("c", "a", "b")])


async def suspend(database: Database) -> None:
    requests = [request(job_id, generation=2, suspended=True) for job_id in ("c", "a", "b")]
    await JobStore(database).record(requests)


@pytest.mark.parametrize("change", [cancel, record, suspend])
async def test_locks_are_taken_in_the_order_of_the_ids(
    database: Database, change: Callable[[Database], Awaitable[None]]
) -> None:
    for job_id in ("c", "b", "a"):
        await JobStore(database).record([request(job_id)])
    async with held(database, JOB, "b"):
        task = asyncio.create_task(change(database))
        await waiting_for_locks(database)
        assert await free_rows(database) == ["c"]
    await task
    assert await free_rows(database) == ["a", "b", "c"]


async def test_a_row_that_is_held_does_not_keep_the_others_from_being_handed_over(database: Database) -> None:
    await JobStore(database).record([request(job_id) for job_id in ("a", "b", "c")])
    store = DispatchStore(database)
    async with held(database, JOB, "b"), asyncio.timeout(5):
        async with store.transaction() as hand_over:
            messages = await hand_over.hand_over(["a", "b", "c"])
        assert messages == [Message("a", 1), Message("c", 1)]
    async with held(database, JOB, "a"), asyncio.timeout(5):
        assert await store.hand_over_again(messages) == [Message("c", 2)]


async def test_a_claim_that_is_held_does_not_keep_its_workers_other_jobs(
    database: Database, claimed: Any
) -> None:
    for job_id in ("a", "b"):
        await claimed(job_id, worker_id="w")
    workers, state = WorkerStore(database), OperatorState("imports")
    await workers.register(WorkerProcess("w", QUEUE, "imports", "pod", "uid", 5))
    state.worker_ends["uid"] = WorkerEnd("uid", None)
    reaper = ReapLoop(state, ClaimStore(database), workers, RepairStore(database))
    async with held(database, CLAIM, "a"), asyncio.timeout(5):
        await reaper.round()
    rows = await JobStore(database).read(["a", "b"])
    assert {job_id: row.claimed_by for job_id, row in rows.items()} == {"a": "w", "b": None}
    assert list(state.worker_ends) == ["uid"], "the rest is left for the next round"
    await reaper.round()
    assert (await JobStore(database).read(["a"]))["a"].claimed_by is None
    assert state.worker_ends == {}
    assert await workers.of_pods(["uid"]) == []


async def test_a_job_that_goes_back_by_itself_meanwhile_is_held_too(database: Database, claimed: Any) -> None:
    claim = await claimed("a")
    store, suspended = JobStore(database), request("a", generation=2, suspended=True)
    async with held(database, JOB, "a"):
        release = asyncio.create_task(
            ClaimStore(database).release(claim, delay_seconds=0, tries=0, waiting_reason=None, message=None)
        )
        await waiting_for_locks(database)
        hold = asyncio.create_task(store.record([suspended]))
        await waiting_for_locks(database, 2)
    await asyncio.gather(release, hold)
    job = (await store.read(["a"]))["a"]
    assert (job.state, job.suspended, job.claimed_by) == (JobState.PENDING, True, None)
