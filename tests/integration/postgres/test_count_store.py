"""How many jobs of a queue are in which state, as metrics show it."""

from postgres_rows import execute, request

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.counting import CountStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.queue_state import COMPANY, PROVIDER, QueueStateStore
from import_core.domain.jobs import DEFAULT_QUEUE, JobState
from import_core.domain.queue_counts import QueueCounts

AGED = """UPDATE "ProductImportJob" SET "createdAt" = now() - %s * interval '1 second' WHERE id = %s"""


async def record(database: Database, *names: str, **values: object) -> None:
    await JobStore(database).record([request(name, **values) for name in names])


async def counts(database: Database) -> QueueCounts:
    return await CountStore(database).counts(DEFAULT_QUEUE)


async def test_an_empty_queue_has_none_of_anything(database: Database) -> None:
    assert await counts(database) == QueueCounts()


async def test_each_job_is_in_one_state(database: Database, dispatched, claimed) -> None:  # type: ignore[no-untyped-def]
    await record(database, "waits-1", "waits-2")
    await record(database, "suspended", suspended=True)
    await record(database, "other-queue", queue="other")
    await record(database, "later")
    later = """UPDATE "ProductImportJob" SET "notBefore" = now() + interval '1 hour' WHERE id = 'later'"""
    await execute(database, later)
    await dispatched("handed-over")
    await claimed("active-1", worker_id="a")
    await claimed("active-2", worker_id="a")
    for name, state in (("done", JobState.COMPLETED), ("broken", JobState.FAILED)):
        await ClaimStore(database).finish(await claimed(name), state, reason=None, message=None)
    await execute(
        database,
        """INSERT INTO "ProductImportJob" (id, "companyId", provider, status, "completedAt")
        VALUES ('ended-long-ago', 'acme', 'p', 'COMPLETED', now() - interval '2 hours')""",
    )
    found = await counts(database)
    assert found.by_state() == {
        "waiting": 2,
        "dispatched": 1,
        "active": 2,
        "delayed": 1,
        "paused": 1,
        "completed": 1,
        "failed": 1,
    }
    assert found.busy_workers == 1


async def test_what_a_person_paused_is_not_waiting_and_ages_nobody(database: Database) -> None:
    await record(database, "paused-1", "paused-2", company_id="quiet", provider="quiet-shop")
    await record(database, "held", provider="held-shop")
    await record(database, "waits")
    for name, seconds in (("paused-1", 900), ("held", 800), ("waits", 60)):
        await execute(database, AGED, (seconds, name))
    queues = QueueStateStore(database)
    await queues.pause(COMPANY, "quiet", reason=None, changed_by="anna")
    await queues.pause(PROVIDER, "held-shop", namespace="imports", reason=None, changed_by="anna")
    found = await counts(database)
    assert (found.by_state()["waiting"], found.by_state()["paused"]) == (1, 3)
    assert 60 <= found.oldest_waiting_seconds() < 700
    await queues.set_paused(DEFAULT_QUEUE, True, reason=None, changed_by="anna")
    found = await counts(database)
    assert (found.by_state()["waiting"], found.by_state()["paused"]) == (0, 4)
    assert found.oldest_waiting_seconds() == 0.0


async def test_the_oldest_may_be_on_its_way_to_a_worker(database: Database, dispatched) -> None:  # type: ignore[no-untyped-def]
    await record(database, "waits")
    await dispatched("handed-over")
    await execute(database, AGED, (500, "handed-over"))
    assert 500 <= (await counts(database)).oldest_waiting_seconds() < 700


async def test_counts_end_at_their_bound(database: Database) -> None:
    await record(database, *(f"job-{number}" for number in range(20)))
    await record(database, *(f"held-{number}" for number in range(20)), suspended=True)
    found = await CountStore(database).counts(DEFAULT_QUEUE, most=7)
    assert (found.due, found.suspended) == (7, 7)
