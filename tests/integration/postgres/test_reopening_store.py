"""Finished rows that run again: each request once, and only where there is something to do."""

from datetime import UTC, datetime
from typing import Any

import pytest
from postgres_rows import execute, request

from import_core.adapters.postgres import Database, leftovers, reopening
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reopening import NOTHING_TO_RETRY, ReopeningStore
from import_core.domain.dispatch import TIER_STEP_SECONDS
from import_core.domain.errors import DatabaseUnavailableError, LeaseUncertainError
from import_core.domain.jobs import JobRow, JobState
from import_core.domain.reopening import HonouredRequests

FINISHED = """
UPDATE "ProductImportJob" SET status = %(state)s, "startedAt" = now(), "completedAt" = now(), attempt = 2,
    deaths = 1, dispatch = 7, "failureReason" = %(reason)s, "errorMessage" = 'why', "notBefore" = now(),
    "waitingReason" = 'Retry' WHERE id = %(id)s
"""


async def finish(
    database: Database, job_id: str, state: str = "FAILED", *, reason: str | None = None, items: int = 0
) -> None:
    """Record a job and end it, with a checkpoint, seen products and so many failed items."""
    await JobStore(database).record([request(job_id)])
    await execute(database, FINISHED, {"id": job_id, "state": state, "reason": reason})
    await execute(
        database,
        "INSERT INTO imports.checkpoint (job_id, version, progress, pages) VALUES (%s, 1, '{}', 3)",
        (job_id,),
    )
    await execute(database, "INSERT INTO imports.seen_product VALUES (%s, 'p-1')", (job_id,))
    for number in range(items):
        await execute(
            database,
            """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message)
            VALUES (%s, %s, 'map', 'Invalid', 'no title')""",
            (job_id, f"p-{number}"),
        )


async def row(database: Database, job_id: str) -> JobRow:
    return (await JobStore(database).read([job_id]))[job_id]


async def kept(database: Database, job_id: str) -> tuple[int, int, int]:
    """Rows of the checkpoint, the failed items and the seen products."""
    rows = await execute(
        database,
        """SELECT (SELECT count(*) FROM imports.checkpoint WHERE job_id = %(id)s),
            (SELECT count(*) FROM imports.item_error WHERE job_id = %(id)s),
            (SELECT count(*) FROM imports.seen_product WHERE job_id = %(id)s)""",
        {"id": job_id},
    )
    return rows[0]  # type: ignore[return-value]


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
async def test_retry_starts_over(database: Database, state: str) -> None:
    await finish(database, "a", state, reason="Timeout", items=2)
    assert await ReopeningStore(database).retry({"a": "1"}) == ["a"]
    job = await row(database, "a")
    assert (job.state, job.attempt, job.deaths, job.dispatch) == (JobState.PENDING, 0, 0, 8)
    assert (job.dispatched_at, job.not_before, job.started_at, job.completed_at) == (None,) * 4
    assert (job.failure_reason, job.message, job.waiting_reason) == (None,) * 3
    assert await kept(database, "a") == (0, 0, 0)


async def test_each_value_is_honoured_once(database: Database) -> None:
    store = ReopeningStore(database)
    await finish(database, "a")
    assert await store.retry({"a": "1"}) == ["a"]
    assert await store.retry({"a": "2"}) == [], "it is under way"
    await execute(database, FINISHED, {"id": "a", "state": "FAILED", "reason": None})
    assert await store.retry({"a": "1"}) == []
    assert await store.retry({"a": "2"}) == ["a"]


@pytest.mark.parametrize("state", ["PENDING", "IN_PROGRESS", "CANCELLED"])
async def test_what_is_under_way_or_cancelled_stays(database: Database, state: str) -> None:
    await finish(database, "a", state, reason="RemovalsNotConfirmed", items=1)
    store = ReopeningStore(database)
    assert await store.retry({"a": "1"}) == []
    assert await store.retry_items({"a": "1"}) == []
    assert await store.confirm_removals({"a": 1}) == []
    assert (await row(database, "a")).state is JobState(state)
    assert await kept(database, "a") == (1, 1, 1)


async def test_object_that_came_with_a_token_has_honoured_it(database: Database) -> None:
    await JobStore(database).record([request("a", retry_token="1", items_retry_token="2")])
    await execute(database, FINISHED, {"id": "a", "state": "FAILED", "reason": None})
    assert await ReopeningStore(database).retry({"a": "1"}) == []
    assert (await ReopeningStore(database).honoured(["a", "none"])) == {
        "a": HonouredRequests(JobState.FAILED, 1, None, "1", "2", None)
    }


async def test_items_alone_keep_the_checkpoint(database: Database) -> None:
    await finish(database, "a", "COMPLETED", items=2)
    store = ReopeningStore(database)
    assert await store.retry_items({"a": "1"}) == ["a"]
    assert await kept(database, "a") == (1, 2, 1)
    assert await execute(database, 'SELECT status, "itemsOnly", "startedAt" FROM "ProductImportJob"') == [
        ("PENDING", True, None)
    ]


async def test_items_that_did_not_fail_are_not_retried_later_either(database: Database) -> None:
    await finish(database, "a", "COMPLETED")
    store = ReopeningStore(database)
    assert await store.retry_items({"a": "1"}) == []
    await execute(
        database,
        """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message)
        VALUES ('a', 'p', 'map', 'Invalid', '')""",
    )
    assert await store.retry_items({"a": "1"}) == [], "a later run's failures were not meant"
    assert await store.retry_items({"a": "2"}) == ["a"]


async def test_removals_are_confirmed_for_the_run_that_asked(database: Database) -> None:
    store = ReopeningStore(database)
    await finish(database, "other", reason="Timeout")
    await finish(database, "a", reason="RemovalsNotConfirmed")
    assert await store.confirm_removals({"a": 2, "other": 1}) == []
    assert await store.confirm_removals({"a": 1}) == ["a"]
    assert await kept(database, "a") == (1, 0, 1)
    assert (await row(database, "a")).confirmed_removals == 1


async def test_retry_asks_for_a_confirmation_anew(database: Database) -> None:
    store = ReopeningStore(database)
    await finish(database, "a", reason="RemovalsNotConfirmed")
    await store.confirm_removals({"a": 1})
    await execute(database, FINISHED, {"id": "a", "state": "COMPLETED", "reason": None})
    await store.retry({"a": "again"})
    assert (await row(database, "a")).confirmed_removals == -1
    await execute(database, FINISHED, {"id": "a", "state": "FAILED", "reason": "RemovalsNotConfirmed"})
    assert await store.confirm_removals({"a": 1}) == [], "the old annotation is no answer to a new question"


async def test_a_newer_spec_comes_with_the_retry(database: Database) -> None:
    store = ReopeningStore(database)
    await finish(database, "a")
    await finish(database, "b", items=1)
    newer = {i: request(i, generation=2, spec={"new": 1}, suspended=True) for i in ("a", "b")}
    await store.retry({"a": "1"}, requests=newer)
    await store.retry_items({"b": "1"}, requests=newer)
    for job_id in ("a", "b"):
        job = await row(database, job_id)
        assert (job.generation, job.spec, job.suspended) == (2, {"new": 1}, True)


async def test_many_at_once(database: Database) -> None:
    ids = [f"job-{number:04}" for number in range(501)]
    await JobStore(database).record([request(job_id) for job_id in ids])
    await execute(database, """UPDATE "ProductImportJob" SET status = 'FAILED'""")
    assert sorted(await ReopeningStore(database).retry(dict.fromkeys(ids, "1"))) == ids


async def test_very_many_failed_items_go_before_the_job_runs_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement for all of them would run into its time limit, and again, for ever."""
    monkeypatch.setattr(leftovers.delete_leftovers, "__kwdefaults__", {"limit": 3})
    await finish(database, "a", items=7)
    await finish(database, "b")
    seen: list[list[tuple[Any, ...]]] = []

    async def look(connection: Any, job_ids: Any, **_: Any) -> bool:
        cursor = await connection.execute(
            """SELECT (SELECT count(*) FROM imports.item_error), status FROM "ProductImportJob" WHERE id = 'a'"""
        )
        seen.append(await cursor.fetchall())
        return await leftovers.delete_leftovers(connection, job_ids)

    monkeypatch.setattr(reopening, "delete_leftovers", look)
    assert sorted(await ReopeningStore(database).retry({"a": "1", "b": "1"})) == ["a", "b"]
    assert len(seen) > 3
    assert {status for ((_, status),) in seen[:3]} == {"FAILED"}, "it does not see a part of its old failures"
    assert await kept(database, "a") == (0, 0, 0)


async def test_a_locked_row_keeps_no_other_job_from_running_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"job-{number}" for number in range(5)]
    for job_id in ids:
        await finish(database, job_id)
    short = Database(f"{database.url}", application="tests-short", maximum=2)
    await short.open(wait_seconds=10)
    try:
        async with short.connection() as one, short.connection() as other:
            for connection in (one, other):
                await connection.execute("SET statement_timeout = '1s'")
        async with database.transaction() as connection:
            await connection.execute("""SELECT FROM "ProductImportJob" WHERE id = 'job-2' FOR UPDATE""")
            with pytest.raises(DatabaseUnavailableError):
                await ReopeningStore(short).retry(dict.fromkeys(ids, "1"))
            states = await execute(
                database, """SELECT id FROM "ProductImportJob" WHERE status = 'PENDING' ORDER BY id"""
            )
            assert [job_id for (job_id,) in states] == [i for i in ids if i != "job-2"]
        assert await ReopeningStore(short).retry(dict.fromkeys(ids, "1")) == ["job-2"]
    finally:
        await short.close()


@pytest.mark.parametrize("method", ["retry", "retry_items"])
async def test_whoever_leads_no_more_honours_nothing(database: Database, method: str) -> None:
    """With a value that it read before another replica took over and honoured a later one."""
    await finish(database, "a", items=1)
    assert await ReopeningStore(database).retry({"a": "later"}) == ["a"]
    await finish(database, "a", items=1)

    def leads_no_more() -> None:
        raise LeaseUncertainError

    with pytest.raises(LeaseUncertainError):
        await getattr(ReopeningStore(database, check=leads_no_more), method)({"a": "earlier"})
    assert (await row(database, "a")).state is JobState.FAILED
    assert (await kept(database, "a"))[1] == 1
    assert (await ReopeningStore(database).honoured(["a"]))["a"].retry_items is None


async def test_failed_items_of_a_run_that_ends_meanwhile_are_not_skipped(database: Database) -> None:
    """The statement alone, as after one that found the run still under way."""
    await finish(database, "a", items=1)
    await execute(database, NOTHING_TO_RETRY, (["a"], ["1"]))
    assert await ReopeningStore(database).retry_items({"a": "1"}) == ["a"]


async def test_a_job_that_runs_again_waits_behind_those_that_have_waited_before(database: Database) -> None:
    await finish(database, "old")
    await execute(database, """UPDATE "ProductImportJob" SET "createdAt" = now() - interval '1 year'""")
    await JobStore(database).record([request("waiting")])
    assert await ReopeningStore(database).retry({"old": "1"}) == ["old"]
    async with DispatchStore(database).transaction() as hand_over:
        assert [head.job_id for head in await hand_over.heads("product-imports")] == ["waiting"]
        rows = await hand_over.more("product-imports", ["acme"], limit=5)
    assert [candidate.job_id for candidate in rows] == ["waiting", "old"]
    now = datetime.now(UTC)
    assert all((now - candidate.queued_at).total_seconds() < TIER_STEP_SECONDS for candidate in rows)
    old = await row(database, "old")
    assert old.queued_at == rows[1].queued_at
    assert await JobStore(database).place(old) == 1
