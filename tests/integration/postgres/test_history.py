"""History goes in batches and by index; the comparison with objects reads no row that has none."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from postgres_rows import execute

from import_core.adapters.postgres import Database, leftovers
from import_core.adapters.postgres.history import BATCH, OLD, Deleted, HistoryStore
from import_core.adapters.postgres.origins import UNFINISHED, OriginStore
from import_core.adapters.postgres.reopening import HONOURED
from import_operator.loops.history import HistoryLoop

MANY = 120_000
CHUNK = 10_000
"""Rows of one statement, which has a time limit."""
# Each of a time of its own: an index that begins with few values would be skipped through (PostgreSQL 18).
ROWS = """
INSERT INTO "ProductImportJob"
    (id, "companyId", provider, status, namespace, "objectUid", "completedAt", "updatedAt", "createdAt")
SELECT %(prefix)s || n, 'acme', 'p', %(status)s, 'imports',
    CASE WHEN %(object)s THEN %(prefix)s || n END, %(ended)s, now(),
    now() - interval '1 day' - n * interval '1 millisecond'
FROM generate_series(%(first)s::integer, %(last)s::integer) n
"""


async def rows(database: Database, prefix: str, number: int, **values: Any) -> None:
    defaults = {"prefix": prefix, "status": "COMPLETED", "object": True, "ended": None}
    for first in range(1, number + 1, CHUNK):
        last = min(number, first + CHUNK - 1)
        await execute(database, ROWS, {**defaults, **values, "first": first, "last": last})


async def left(database: Database) -> set[str]:
    return {row[0] for row in await execute(database, 'SELECT id FROM "ProductImportJob"')}


async def test_old_jobs_go_with_all_that_is_theirs(database: Database) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=91)
    await rows(database, "old-", 1, ended=old)
    await rows(database, "failed-", 1, ended=old, status="FAILED")
    await rows(database, "young-", 1, ended=now - timedelta(days=89))
    await rows(database, "platform-", 1, ended=old, object=False)
    await rows(database, "runs-", 1, status="IN_PROGRESS")
    for job_id in ("old-1", "young-1"):
        await execute(
            database,
            "INSERT INTO imports.checkpoint (job_id, version, progress, pages) VALUES (%s, 1, '{}', 1)",
            (job_id,),
        )
        await execute(database, "INSERT INTO imports.seen_product VALUES (%s, 'p')", (job_id,))
        await execute(
            database,
            """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message)
            VALUES (%s, 'p', 'map', 'Invalid', '')""",
            (job_id,),
        )
    store = HistoryStore(database)
    assert (await store.delete_finished("elsewhere", days=90)).jobs == 0
    assert await store.delete_finished("imports", days=90) == Deleted(2, more=False)
    assert await left(database) == {"young-1", "platform-1", "runs-1"}
    for table in ("checkpoint", "seen_product", "item_error"):
        assert await execute(database, f"SELECT job_id FROM imports.{table}") == [("young-1",)]


async def test_batch_is_bounded_and_the_oldest_go_first(database: Database) -> None:
    now = datetime.now(UTC)
    await rows(database, "old-", 2, ended=now - timedelta(days=100))
    await rows(database, "older-", 3, ended=now - timedelta(days=200))
    store = HistoryStore(database)
    assert await store.delete_finished("imports", days=90, limit=3) == Deleted(3, more=True)
    assert await left(database) == {"old-1", "old-2"}
    assert await store.delete_finished("imports", days=90, limit=3) == Deleted(2, more=False)


async def test_job_with_very_many_failed_items_goes_in_steps(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement for all of them would run into its time limit, and again, for ever."""
    monkeypatch.setattr(leftovers.delete_leftovers, "__kwdefaults__", {"limit": 4})
    await rows(database, "old-", 1, ended=datetime.now(UTC) - timedelta(days=100))
    await execute(
        database,
        """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message)
        SELECT 'old-1', n, 'map', 'Invalid', '' FROM generate_series(1, 10) n""",
    )
    store, left_behind = HistoryStore(database), []
    while (await store.delete_finished("imports", days=90)).more:
        left_behind += await execute(database, "SELECT count(*) FROM imports.item_error")
        assert await left(database) == {"old-1"}, "what is not deleted yet keeps its job"
    assert left_behind == [(6,), (2,)]
    assert await left(database) == set()


async def test_end_without_a_time_counts_from_the_last_change(database: Database) -> None:
    await rows(database, "by-hand-", 2, status="CANCELLED")
    await execute(
        database,
        """UPDATE "ProductImportJob" SET "updatedAt" = now() - interval '1 year' WHERE id = 'by-hand-1'""",
    )
    assert (await HistoryStore(database).delete_finished("imports", days=90)).jobs == 1
    assert await left(database) == {"by-hand-2"}


async def test_unfinished_rows_come_in_pages_and_only_those_of_objects(database: Database) -> None:
    await rows(database, "job-", 5, status="PENDING")
    await rows(database, "busy-", 1, status="IN_PROGRESS")
    await rows(database, "done-", 1)
    await rows(database, "platform-", 1, status="PENDING", object=False)
    store = OriginStore(database)
    pages = [
        page async for page in store.unfinished("imports", recorded_before=await store.now(), page_size=4)
    ]
    assert pages == [["busy-1", "job-1", "job-2", "job-3"], ["job-4", "job-5"]]
    before = datetime.now(UTC) - timedelta(days=2)
    assert [page async for page in store.unfinished("imports", recorded_before=before)] == []
    assert [page async for page in store.unfinished("elsewhere", recorded_before=await store.now())] == []


def read_rows(plan: dict[str, Any]) -> float:
    """Rows that the plan's deepest nodes gave or threw away."""
    if "Plans" in plan:
        return sum(read_rows(child) for child in plan["Plans"])
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return float((plan["Actual Rows"] + removed) * plan["Actual Loops"])


def scans(plan: dict[str, Any]) -> list[tuple[str, str | None]]:
    if "Plans" in plan:
        return [scan for child in plan["Plans"] for scan in scans(child)]
    return [(plan["Node Type"], plan.get("Index Name"))]


@pytest.fixture
def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


async def test_work_does_not_grow_with_the_rows(database: Database, soon: datetime) -> None:
    """At hundreds of thousands of rows each statement reads, by its index, about what it returns."""
    year_ago = datetime.now(UTC) - timedelta(days=365)
    await rows(database, "platform-waits-", MANY, status="PENDING", object=False)
    await rows(database, "platform-done-", MANY // 6, object=False, ended=year_ago)
    await rows(database, "young-", MANY // 6, ended=datetime.now(UTC))
    await rows(database, "old-", 1000, ended=year_ago)
    await rows(database, "live-", 1000, status="PENDING")
    await execute(database, 'ANALYZE "ProductImportJob"')
    cases: dict[tuple[str, ...], tuple[str, Any]] = {
        ("import_job_ended",): (OLD, ("imports", 90, 200)),
        ("import_job_live",): (
            UNFINISHED,
            {"namespace": "imports", "after": "", "before": soon, "limit": 500},
        ),
        # Whether steps are to come is an entry more for each, of its own batches and of rows in those of others.
        ("ProductImportJob_pkey", "import_job_steps", "product_step_job"): (
            HONOURED,
            ([f"old-{number}" for number in range(500)],),
        ),
    }
    for indexes, (statement, parameters) in cases.items():
        explained = await execute(
            database, f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING off) {statement}", parameters
        )
        plan = explained[0][0][0]["Plan"]
        assert [name for _, name in scans(plan)] == list(indexes), plan
        assert read_rows(plan) <= 1001, plan


async def test_loop_goes_on_while_there_is_more_and_then_rests(database: Database) -> None:
    """On PostgreSQL alone: it knows no API server that could keep it from its work."""
    long_ago = datetime.now(UTC) - timedelta(days=100)
    await rows(database, "old-", BATCH + 5, ended=long_ago)
    loop = HistoryLoop("imports", HistoryStore(database), days=90)
    await loop.round()
    assert len(await left(database)) == 5
    await loop.round()
    assert await left(database) == set()
    await rows(database, "later-", 1, ended=long_ago)
    await loop.round()
    assert await left(database) == {"later-1"}, "it looks again after a while"


async def test_history_that_is_kept_for_ever(database: Database) -> None:
    await rows(database, "old-", 1, ended=datetime.now(UTC) - timedelta(days=10_000))
    await HistoryLoop("imports", HistoryStore(database), days=0).round()
    assert await left(database) == {"old-1"}


async def test_seen_products_that_no_run_needs_are_forgotten_in_bounded_steps(database: Database) -> None:
    now = datetime.now(UTC)
    for prefix, status in (("waits-", "PENDING"), ("runs-", "IN_PROGRESS")):
        await rows(database, prefix, 1, status=status)
    for prefix, status in (("done-", "COMPLETED"), ("cancelled-", "CANCELLED"), ("failed-", "FAILED")):
        await rows(database, prefix, 1, ended=now, status=status)
    await rows(database, "asks-", 1, ended=now, status="FAILED")
    await execute(
        database,
        """UPDATE "ProductImportJob" SET "failureReason" = 'RemovalsNotConfirmed' WHERE id = 'asks-1'""",
    )
    jobs = ("waits-1", "runs-1", "done-1", "cancelled-1", "failed-1", "asks-1", "no-row")
    await execute(
        database,
        "INSERT INTO imports.seen_product SELECT job, n::text FROM unnest(%s::text[]) job, generate_series(1, 3) n",
        (list(jobs),),
    )
    store = HistoryStore(database)
    assert await store.forget_unneeded(limit=10) == 10
    assert await store.forget_unneeded(limit=10) == 2
    assert await store.forget_unneeded(limit=10) == 0
    kept = await execute(database, "SELECT DISTINCT job_id FROM imports.seen_product")
    assert {row[0] for row in kept} == {"waits-1", "runs-1", "asks-1"}
