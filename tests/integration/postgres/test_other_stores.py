"""Jobs, hand-overs, workers, connections, notifications and migrations in PostgreSQL."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from postgres_rows import execute, request

from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.connections import CheckResult, ConnectionStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import Depth, JobStore
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, listen, notify
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.domain.errors import DatabaseUnavailableError, SchemaMismatchError
from import_core.domain.jobs import DEFAULT_QUEUE, JobState, Message, Tier

QUEUE = DEFAULT_QUEUE


async def test_recording_twice_changes_nothing_and_a_newer_generation_replaces(database: Database) -> None:
    store = JobStore(database)
    versions = 'SELECT id, xmin::text FROM "ProductImportJob" ORDER BY id'
    await store.record([request("a"), request("b")])
    before = await execute(database, versions)
    await store.record([request("a"), request("b")])
    assert await execute(database, versions) == before
    newer = request("a", generation=2, spec={"companyId": "acme", "suspend": True}, suspended=True)
    await store.record([newer])
    job = (await store.read(["a"]))["a"]
    assert (job.generation, job.suspended, job.spec["suspend"]) == (2, True, True)


async def test_a_running_job_keeps_its_spec_and_can_be_suspended(database: Database, claimed: Any) -> None:
    await claimed("a")
    store = JobStore(database)
    await store.record([request("a", generation=2, spec={"new": 1})])
    assert (await store.read(["a"]))["a"].generation == 1
    await store.record([request("a", generation=2, suspended=True)])
    job = (await store.read(["a"]))["a"]
    assert (job.state, job.suspended, job.claimed_by) == (JobState.PENDING, True, None)


async def test_what_the_platform_suspends_takes_no_room_and_is_not_repaired(
    database: Database, dispatched: Any
) -> None:
    message = await dispatched("a")
    await execute(database, 'UPDATE "ProductImportJob" SET suspended = true')
    store = DispatchStore(database)
    assert await store.unclaimed(QUEUE) == 0
    assert [page async for page in store.overdue(QUEUE, older_than_seconds=-1)] == []
    assert await store.hand_over_again([message]) == []
    async with store.transaction() as hand_over:
        assert await hand_over.shares(QUEUE) == {}
    await execute(database, 'UPDATE "ProductImportJob" SET suspended = false')
    assert [page async for page in store.overdue(QUEUE, older_than_seconds=-1)] == [[message]]


async def test_a_row_with_the_least_has_defaults(database: Database) -> None:
    await execute(
        database, """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('m', 'acme', 'p')"""
    )
    job = (await JobStore(database).read(["m"]))["m"]
    assert (job.state, job.queue, job.spec, job.attempt) == (JobState.PENDING, QUEUE, {}, 0)
    assert (job.namespace, job.origin) == (None, None)
    async with DispatchStore(database).transaction() as hand_over:
        assert await hand_over.lock()
        assert [candidate.job_id for candidate in await hand_over.heads(QUEUE)] == ["m"]
        assert await hand_over.hand_over(["m"]) == [Message("m", 1)]


async def test_depth_counts_due_and_claimed_rows_of_a_queue(database: Database, claimed: Any) -> None:
    store = JobStore(database)
    await claimed("claimed")
    await store.record([request("due"), request("held", suspended=True), request("other", queue="q2")])
    await store.record([request("later")])
    await execute(
        database, """UPDATE "ProductImportJob" SET "notBefore" = now() + interval '1 h' WHERE id = 'later'"""
    )
    assert await store.depth([QUEUE, "q2", "q3"]) == {
        QUEUE: Depth(due=1, claimed=1, busy_workers=1),
        "q2": Depth(due=1, claimed=0, busy_workers=0),
        "q3": Depth(due=0, claimed=0, busy_workers=0),
    }


async def test_heads_are_the_oldest_due_rows_with_their_tiers(database: Database) -> None:
    store = JobStore(database)
    for job_id, company in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")]:
        await store.record([request(job_id, company_id=company)])
    await execute(database, """INSERT INTO "Company" (id, tier) VALUES ('b', 'ENTERPRISE'), ('c', 'ODD')""")
    await execute(
        database, """UPDATE "ProductImportJob" SET "notBefore" = now() + interval '1 h' WHERE id = 'a1'"""
    )
    async with DispatchStore(database).transaction() as hand_over:
        heads = {candidate.job_id: candidate.tier for candidate in await hand_over.heads(QUEUE)}
        more = [candidate.job_id for candidate in await hand_over.more(QUEUE, ["a", "b"], limit=5)]
        assert await hand_over.shares(QUEUE) == {}
    assert heads == {"a2": Tier.BASIC, "b1": Tier.ENTERPRISE, "c1": Tier.BASIC}
    assert sorted(more) == ["a2", "b1"]


async def test_a_hand_over_is_numbered_once_and_again_when_lost(database: Database) -> None:
    await JobStore(database).record([request("a"), request("b")])
    store = DispatchStore(database)
    async with store.transaction() as hand_over:
        assert await hand_over.hand_over(["b", "a", "nobody"]) == [Message("b", 1), Message("a", 1)]
        assert await hand_over.hand_over(["a"]) == []
        assert await hand_over.unclaimed(QUEUE) == 2
        assert await hand_over.shares(QUEUE) == {"acme": 2}
    assert [page async for page in store.overdue(QUEUE, older_than_seconds=60)] == []
    pages = [page async for page in store.overdue(QUEUE, older_than_seconds=0, page=1)]
    assert {message.job_id for page in pages for message in page} == {"a", "b"}
    assert await store.hand_over_again([Message("a", 1), Message("b", 7)]) == [Message("a", 2)]


async def test_one_dispatcher_at_a_time(database: Database) -> None:
    store = DispatchStore(database)
    async with store.transaction() as first, store.transaction() as second:
        assert await first.lock()
        assert not await second.lock()


async def test_cancelling_spares_finished_jobs(database: Database, claimed: Any) -> None:
    await claimed("a")
    store = JobStore(database)
    await store.record([request("b"), request("c")])
    await execute(database, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id = 'c'""")
    assert sorted(await store.cancel(["a", "b", "c"], message="object deleted")) == ["a", "b"]
    assert await execute(database, "SELECT 1 FROM imports.claim") == []
    states = {job_id: job.state.value for job_id, job in (await store.read(["a", "b", "c"])).items()}
    assert states == {"a": "CANCELLED", "b": "CANCELLED", "c": "COMPLETED"}


async def test_what_a_cancelled_job_saw_at_the_source_goes_with_it(database: Database, claimed: Any) -> None:
    await claimed("a")
    await claimed("b")
    await execute(database, "INSERT INTO imports.seen_product VALUES ('a', '1'), ('a', '2'), ('b', '1')")
    await JobStore(database).cancel(["a"], message="object deleted")
    assert await execute(database, "SELECT job_id, external_id FROM imports.seen_product") == [("b", "1")]


async def test_place_counts_older_due_rows(database: Database) -> None:
    store = JobStore(database)
    await store.record([request("a")])
    await store.record([request("b")])
    job = (await store.read(["b"]))["b"]
    assert await store.place(job) == 1
    assert await store.place(replace(job, queued_at=job.queued_at.replace(year=2000))) == 0


async def test_workers_are_found_by_their_pod_and_forgotten(database: Database) -> None:
    store = WorkerStore(database)
    assert await store.nothing_ever_ran()
    for worker_id in ("w1", "w2"):
        await store.register(WorkerProcess(worker_id, QUEUE, "imports", "pod-1", "uid-1", 5))
    await store.seen("w1", state="draining")
    assert {row[0] for row in await store.of_pods(["uid-1", "uid-9"])} == {"w1", "w2"}
    await store.remove(["w1"])
    assert [row[0] for row in await store.of_pods(["uid-1"])] == ["w2"]
    await execute(database, "UPDATE imports.worker SET seen_at = now() - interval '2 days'")
    await store.sweep()
    assert await store.of_pods(["uid-1"]) == []


@pytest.mark.parametrize("status", ["IN_PROGRESS", "COMPLETED", "FAILED"])
async def test_an_installation_that_ran_a_job_is_not_new(database: Database, status: str) -> None:
    await JobStore(database).record([request("a")])
    assert await WorkerStore(database).nothing_ever_ran()
    await execute(database, 'UPDATE "ProductImportJob" SET status = %s', (status,))
    assert not await WorkerStore(database).nothing_ever_ran()


async def test_a_check_is_taken_by_one_worker(database: Database) -> None:
    store = ConnectionStore(database)
    await store.request_check("imports", "shop", "uid", 1)
    assert await store.take_due("elsewhere") is None
    taken = await asyncio.gather(*(store.take_due("imports") for _ in range(5)))
    assert [due for due in taken if due] == [("shop", "uid", 1)]


async def test_a_result_belongs_to_the_generation_that_was_checked(database: Database) -> None:
    store = ConnectionStore(database)
    await store.request_check("imports", "shop", "uid", 1)
    await store.take_due("imports")
    await store.request_check("imports", "shop", "uid", 1)
    assert await store.take_due("imports") is None
    await store.request_check("imports", "shop", "uid", 2)
    result = CheckResult(True, None, "Checked", "fine")
    await store.record_result("imports", "shop", "uid", 1, result)
    assert [state.result for state in await store.read("imports", ["shop"])] == [None]
    assert await store.take_due("imports") == ("shop", "uid", 2)
    await store.record_result("imports", "shop", "uid", 2, result)
    (state,) = await store.read("imports", ["shop", "unknown"])
    assert (state.result, state.checked_generation) == (result, 2)
    await store.forget("imports", "shop", "another-uid")
    assert await store.read("imports", ["shop"])
    await store.forget("imports", "shop", "uid")
    assert await store.read("imports", ["shop"]) == []


async def test_hints_reach_listeners_however_many_they_are(database: Database) -> None:
    job_ids = [f"job-{number:05d}" for number in range(2_000)]
    async with aclosing(listen(database, [PROGRESS_CHANNEL])) as hints:
        assert (await anext(hints)).channel is None
        await notify(database, PROGRESS_CHANNEL, job_ids)
        received: list[str] = []
        while len(received) < len(job_ids):
            hint = await anext(hints)
            assert hint.channel == PROGRESS_CHANNEL
            received += hint.payload.split(",")
    assert received == job_ids


async def test_a_broken_listener_says_so(database: Database) -> None:
    async with aclosing(listen(database, [PROGRESS_CHANNEL])) as hints:
        await anext(hints)
        await execute(
            database,
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name = 'tests-listen' AND datname = current_database()""",
        )
        with pytest.raises(DatabaseUnavailableError):
            await anext(hints)


async def test_two_processes_migrate_at_once_and_again(empty_database_url: str) -> None:
    await asyncio.gather(migrate(empty_database_url), migrate(empty_database_url))
    await migrate(empty_database_url)
    database = Database(empty_database_url, application="tests")
    await database.open(wait_seconds=10)
    await JobStore(database).record([request("a")])
    await database.close()


async def test_tables_of_the_platform_are_checked_and_not_altered(empty_database_url: str) -> None:
    database = Database(empty_database_url, application="tests")
    await database.open(wait_seconds=10)
    await execute(
        database,
        'CREATE TABLE "Product" (id text, "companyId" text, "externalId" text, "importSource" text, price text)',
    )
    with pytest.raises(SchemaMismatchError) as caught:
        await migrate(empty_database_url)
    assert '"Product"."title" is missing' in caught.value.message
    assert '"Product"."price" is text' in caught.value.message
    assert '"Product" lacks a unique index on companyId, externalId, importSource' in caught.value.message
    assert await execute(database, "SELECT 1 FROM pg_tables WHERE tablename = 'ProductImportJob'") == []
    await database.close()


PLATFORM_PRODUCT = """
CREATE TABLE "Product" (
    id text PRIMARY KEY, "companyId" text NOT NULL, "externalId" text NOT NULL, "importSource" text NOT NULL,
    title text NOT NULL, description text, sku text, price numeric, variants jsonb NOT NULL,
    "createdAt" timestamptz NOT NULL, "updatedAt" timestamptz NOT NULL {more},
    UNIQUE ("companyId", "externalId", "importSource"))
"""


async def test_a_platform_table_gets_what_it_lacks_as_nullable_columns(empty_database_url: str) -> None:
    database = Database(empty_database_url, application="tests")
    await database.open(wait_seconds=10)
    await execute(database, PLATFORM_PRODUCT.format(more=""))
    await migrate(empty_database_url)
    added = await execute(
        database,
        """SELECT column_name FROM information_schema.columns WHERE table_name = 'Product' AND is_nullable = 'YES'""",
    )
    assert {"vendor", "tags", "contentHash", "compareAtPrice"} <= {row[0] for row in added}
    await database.close()


async def test_a_column_that_no_import_fills_is_named(empty_database_url: str) -> None:
    database = Database(empty_database_url, application="tests")
    await database.open(wait_seconds=10)
    await execute(database, PLATFORM_PRODUCT.format(more=", slug text NOT NULL"))
    with pytest.raises(SchemaMismatchError, match=r'"Product"\."slug" may not be null and has no default'):
        await migrate(empty_database_url)
    await database.close()


async def test_an_index_that_was_left_half_built_is_built_anew(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    database = Database(empty_database_url, application="tests")
    await database.open(wait_seconds=10)
    await JobStore(database).record([request("a"), request("b")])
    await execute(database, "DROP INDEX import_job_due")
    # A build that fails half way leaves an invalid index of that name.
    with pytest.raises(psycopg.errors.UniqueViolation):
        await execute(
            database, 'CREATE UNIQUE INDEX CONCURRENTLY import_job_due ON "ProductImportJob" (status)'
        )
    await migrate(empty_database_url)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'import_job_due'::regclass"
    assert await execute(database, valid) == [(True,)]
    await database.close()


async def test_a_database_that_is_away_is_named_as_such() -> None:
    with pytest.raises(DatabaseUnavailableError):
        await migrate("postgresql://nobody:secret@127.0.0.1:9/none")
    database = Database("postgresql://nobody:secret@127.0.0.1:9/none", application="tests")
    with pytest.raises(DatabaseUnavailableError) as caught:
        await database.open(wait_seconds=0.5)
    assert "secret" not in caught.value.message
    await database.close()
