"""Rows and claims that disagree, jobs that stalled, and paused queues, in SQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from postgres_rows import execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore, lock_claim
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications import CONTROL_CHANNEL, Notification, listen
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import ClaimLostError
from import_core.domain.failures import Fail, Retry
from import_core.domain.jobs import Claim, JobRequest, JobState, Message
from import_core.domain.repairs import StalledClaim

QUEUE = "product-imports"
RETRY = Retry(5.0, 1, "Retry", "no checkpoint")


@asynccontextmanager
async def heard(database: Database) -> AsyncIterator[asyncio.Queue[Notification]]:
    """What a worker hears meanwhile."""
    hints: asyncio.Queue[Notification] = asyncio.Queue()

    async def hear() -> None:
        async for notification in listen(database, [CONTROL_CHANNEL]):
            hints.put_nowait(notification)

    task = asyncio.create_task(hear())
    assert (await asyncio.wait_for(hints.get(), 10)).channel is None
    yield hints
    await end_tasks([task])


@pytest.mark.parametrize(
    "change",
    [
        """UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = 'a'""",
        """UPDATE "ProductImportJob" SET status = 'PENDING' WHERE id = 'a'""",
        """DELETE FROM "ProductImportJob" WHERE id = 'a'""",
    ],
)
async def test_claims_whose_jobs_the_platform_ended_end(
    database: Database, claimed: Any, change: str
) -> None:
    stopped, goes_on = await claimed("a"), await claimed("b")
    await execute(database, change)
    async with heard(database) as hints:
        assert await RepairStore(database).end_claims_without_job() == ["a"]
        assert (await asyncio.wait_for(hints.get(), 10)).payload == "a"
    store = ClaimStore(database)
    with pytest.raises(ClaimLostError):
        await store.finish(stopped, JobState.COMPLETED, reason=None, message=None)
    await store.finish(goes_on, JobState.COMPLETED, reason=None, message=None)
    assert await RepairStore(database).end_claims_without_job() == []


async def test_rows_in_progress_that_nobody_holds_are_due_again(database: Database, claimed: Any) -> None:
    claim = await claimed("a")
    await claimed("b")
    await execute(database, "DELETE FROM imports.claim WHERE job_id = 'a'")
    store = RepairStore(database)
    assert await store.free_jobs_without_claim() == ["a"]
    row = (await JobStore(database).read(["a"]))["a"]
    assert (row.state, row.dispatch, row.dispatched_at) == (JobState.PENDING, claim.job.dispatch + 1, None)
    assert (row.attempt, row.deaths) == (0, 0)
    assert await store.free_jobs_without_claim() == []


async def test_rows_that_we_never_handed_over_are_none_of_ours(database: Database) -> None:
    await execute(
        database,
        """INSERT INTO "ProductImportJob" (id, "companyId", provider, status, queue)
        VALUES ('a', 'acme', 'p', 'IN_PROGRESS', NULL), ('b', 'acme', 'p', 'IN_PROGRESS', 'other')""",
    )
    assert await RepairStore(database).free_jobs_without_claim() == []


async def test_messages_are_outdated_when_their_row_has_moved_on(
    database: Database, dispatched: Any, claimed: Any
) -> None:
    waiting = await dispatched("waiting")
    held = await dispatched("held")
    await execute(database, """UPDATE "ProductImportJob" SET suspended = true WHERE id = 'held'""")
    back = await dispatched("back")
    await execute(database, """UPDATE "ProductImportJob" SET "dispatchedAt" = NULL WHERE id = 'back'""")
    running = await claimed("running")
    await claimed("done")
    await execute(database, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id = 'done'""")
    old = [
        held,
        back,
        Message("running", running.job.dispatch),
        Message("done", 1),
        Message("waiting", waiting.dispatch - 1),
        Message("nobody", 1),
    ]
    assert await RepairStore(database).outdated([waiting, *old]) == old


async def checkpoint(database: Database, job_id: str, *, seconds_ago: float) -> None:
    await execute(
        database,
        """INSERT INTO imports.checkpoint (job_id, version, progress, pages, updated_at)
        VALUES (%s, 1, '{}', 1, clock_timestamp() - %s * interval '1 second')
        ON CONFLICT (job_id) DO UPDATE SET updated_at = excluded.updated_at""",
        (job_id, seconds_ago),
    )


async def age(database: Database, job_id: str, *, claimed_ago: float, started_ago: float) -> None:
    await execute(
        database,
        "UPDATE imports.claim SET claimed_at = clock_timestamp() - %s * interval '1 second' WHERE job_id = %s",
        (claimed_ago, job_id),
    )
    await execute(
        database,
        """UPDATE "ProductImportJob" SET "startedAt" = clock_timestamp() - %s * interval '1 second'
        WHERE id = %s""",
        (started_ago, job_id),
    )


async def found(database: Database, quiet_seconds: float = 1800) -> dict[str, StalledClaim]:
    stalled = await RepairStore(database).stalled(quiet_seconds=quiet_seconds)
    return {claim.job_id: claim for claim in stalled}


async def test_stalled_is_without_checkpoint_since_the_claim_or_the_last_one(
    database: Database, claimed: Any
) -> None:
    for job_id in ("fresh", "quiet", "never", "again"):
        await claimed(job_id)
    for job_id in ("quiet", "never"):
        await age(database, job_id, claimed_ago=4000, started_ago=5000)
    await checkpoint(database, "quiet", seconds_ago=2000)
    await execute(database, """UPDATE "ProductImportJob" SET "parentId" = 'quiet' WHERE id = 'never'""")
    await age(database, "again", claimed_ago=10, started_ago=9000)
    await checkpoint(database, "again", seconds_ago=8000)
    stalled = await found(database)
    assert set(stalled) == {"quiet", "never"}
    assert 2000 <= stalled["quiet"].quiet_seconds < 2100
    assert 4000 <= stalled["never"].quiet_seconds < 4100
    assert 5000 <= stalled["never"].started_seconds < 5100
    assert [stalled[job_id].is_step for job_id in ("quiet", "never")] == [False, True]


async def test_a_suspect_that_waits_to_be_alone_is_not_stalled(database: Database, dispatched: Any) -> None:
    message = await dispatched("suspect")
    await execute(database, 'UPDATE "ProductImportJob" SET deaths = 3')
    store = ClaimStore(database)
    claim = await store.claim(message, worker_id="w")
    assert claim is not None
    await age(database, "suspect", claimed_ago=4000, started_ago=5000)
    assert await found(database) == {}
    await store.mark_alone(claim)
    assert await found(database) == {}, "its time counts from now"
    await age(database, "suspect", claimed_ago=4000, started_ago=5000)
    assert set(await found(database)) == {"suspect"}


async def test_stalled_jobs_are_ended_as_decided_and_their_workers_told(
    database: Database, claimed: Any
) -> None:
    claims = {job_id: await claimed(job_id) for job_id in ("retried", "failed", "untouched")}
    for job_id in ("retried", "failed"):
        await age(database, job_id, claimed_ago=4000, started_ago=5000)
    stalled = await found(database)
    decisions = {stalled["retried"]: RETRY, stalled["failed"]: Fail("Stalled", "too long")}
    async with heard(database) as hints:
        assert await RepairStore(database).end_stalled(decisions, quiet_seconds=1800) == {
            "retried",
            "failed",
        }
        assert set((await asyncio.wait_for(hints.get(), 10)).payload.split(",")) == {"retried", "failed"}
    rows = await JobStore(database).read(list(claims))
    retried, failed = rows["retried"], rows["failed"]
    assert (retried.state, retried.attempt, retried.message) == (JobState.PENDING, 1, "no checkpoint")
    assert (retried.waiting_reason, retried.dispatched_at) == ("Retry", None)
    assert retried.dispatch == claims["retried"].job.dispatch + 1
    assert retried.not_before is not None
    assert (failed.state, failed.failure_reason, failed.message) == (JobState.FAILED, "Stalled", "too long")
    assert failed.completed_at is not None
    assert rows["untouched"].state is JobState.IN_PROGRESS
    for job_id in ("retried", "failed"):
        with pytest.raises(ClaimLostError):
            await ClaimStore(database).finish(claims[job_id], JobState.COMPLETED, reason=None, message=None)


async def stalled_claim(database: Database, claimed: Any) -> tuple[Claim, StalledClaim]:
    claim = await claimed("job")
    await age(database, "job", claimed_ago=4000, started_ago=5000)
    return claim, (await found(database))["job"]


async def test_what_a_stalled_job_saw_stays_for_its_next_try_alone(database: Database, claimed: Any) -> None:
    for job_id in ("retried", "failed"):
        await claimed(job_id)
        await age(database, job_id, claimed_ago=4000, started_ago=5000)
        await execute(database, "INSERT INTO imports.seen_product VALUES (%s, '1')", (job_id,))
    stalled = await found(database)
    decisions = {stalled["retried"]: RETRY, stalled["failed"]: Fail("Stalled", "too long")}
    await RepairStore(database).end_stalled(decisions, quiet_seconds=1800)
    assert await execute(database, "SELECT job_id FROM imports.seen_product") == [("retried",)]


async def test_a_checkpoint_made_meanwhile_saves_the_try(database: Database, claimed: Any) -> None:
    _, stalled = await stalled_claim(database, claimed)
    await checkpoint(database, "job", seconds_ago=0)
    assert await RepairStore(database).end_stalled({stalled: RETRY}, quiet_seconds=1800) == set()
    assert (await JobStore(database).read(["job"]))["job"].state is JobState.IN_PROGRESS


async def test_a_page_being_committed_saves_the_try(database: Database, claimed: Any) -> None:
    claim, stalled = await stalled_claim(database, claimed)
    async with database.transaction() as page:
        await lock_claim(page, claim)
        assert await RepairStore(database).end_stalled({stalled: RETRY}, quiet_seconds=1800) == set()


async def test_another_claim_of_the_same_job_is_left_alone(database: Database, claimed: Any) -> None:
    _, stalled = await stalled_claim(database, claimed)
    await execute(database, "UPDATE imports.claim SET claim_id = gen_random_uuid()")
    assert await RepairStore(database).end_stalled({stalled: RETRY}, quiet_seconds=1800) == set()


async def lease_left(database: Database, job_id: str) -> float:
    rows = await execute(
        database,
        "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM imports.claim WHERE job_id = %s",
        (job_id,),
    )
    return float(rows[0][0])


async def test_doubtful_leases_are_shortened_and_never_prolonged(database: Database, claimed: Any) -> None:
    await claimed("long", worker_id="doubtful")
    await claimed("short", worker_id="doubtful", lease_seconds=5)
    await claimed("other", worker_id="other")
    assert await ClaimStore(database).shorten(["doubtful"], lease_seconds=14) == 1
    assert await lease_left(database, "long") < 15
    assert await lease_left(database, "short") < 6
    assert await lease_left(database, "other") > 30


async def test_cancelling_and_suspending_tell_the_workers_that_hold_the_jobs(
    database: Database, claimed: Any, dispatched: Any
) -> None:
    for job_id in ("cancelled", "suspended"):
        await claimed(job_id)
    await dispatched("waiting")
    jobs = JobStore(database)
    async with heard(database) as hints:
        await jobs.cancel(["waiting", "cancelled"], message="deleted")
        assert (await asyncio.wait_for(hints.get(), 10)).payload == "cancelled"
        await jobs.record(
            [
                JobRequest(job_id, "acme", "p", "imports", {}, generation=2, suspended=True)
                for job_id in ("waiting", "suspended")
            ]
        )
        assert (await asyncio.wait_for(hints.get(), 10)).payload == "suspended"


async def test_pausing_is_remembered_with_its_reason(database: Database) -> None:
    store = QueueStateStore(database)
    assert await store.read([QUEUE]) == {QUEUE: QueueState()}
    await store.set_paused(QUEUE, True, reason="maintenance", changed_by="ann")
    first = (await store.read([QUEUE, "other"]))[QUEUE]
    assert (first.paused, first.reason, first.changed_by) == (True, "maintenance", "ann")
    await store.set_paused(QUEUE, True, reason="still", changed_by="bob")
    again = (await store.read([QUEUE]))[QUEUE]
    assert (again.reason, again.changed_by, again.changed_at) == ("still", "bob", first.changed_at)
    await store.set_paused(QUEUE, False, reason=None, changed_by="ann")
    resumed = (await store.read([QUEUE]))[QUEUE]
    assert not resumed.paused
    assert resumed.changed_at is not None
    assert first.changed_at is not None
    assert resumed.changed_at > first.changed_at


async def test_rows_tell_that_their_queue_is_paused(database: Database, dispatched: Any) -> None:
    message = await dispatched("here")
    await dispatched("there", queue="other")
    await QueueStateStore(database).set_paused(QUEUE, True, reason=None, changed_by="ann")
    rows = await JobStore(database).read(["here", "there"])
    assert {job_id: row.queue_paused for job_id, row in rows.items()} == {"here": True, "there": False}
    async with DispatchStore(database).transaction() as hand_over:
        assert (await hand_over.state(QUEUE)).dispatch_paused
        assert not (await hand_over.state("other")).dispatch_paused
        assert await hand_over.take_back(QUEUE) == ["here"]
        assert await hand_over.take_back(QUEUE) == []
    assert await ClaimStore(database).claim(message, worker_id="w") is None
