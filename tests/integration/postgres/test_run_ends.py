"""How tries end is told by the version of the worker that ran them: what rollouts are judged by."""

from datetime import UTC, datetime, timedelta
from typing import Any

from postgres_rows import execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.run_ends import (
    COUNT,
    KEPT_SECONDS,
    NEWEST,
    PRUNE,
    RunEnds,
    RunEndStore,
)
from import_core.domain.jobs import JobState


async def test_every_way_out_of_a_run_is_told_once(database: Database, dispatched: Any) -> None:
    new, old = ClaimStore(database, template_hash="new"), ClaimStore(database, template_hash="old")
    outside = ClaimStore(database)
    names = ("done", "failed", "retried", "back", "expired", "killed", "running", "older", "nobodys")
    stores = dict.fromkeys(names, new) | {"older": old, "nobodys": outside}
    claims = {}
    for name in names:
        claim = await stores[name].claim(await dispatched(name), worker_id=f"worker-{name}")
        assert claim is not None
        claims[name] = claim
    for name in ("done", "older", "nobodys"):
        await new.finish(claims[name], JobState.COMPLETED, reason=None, message=None)
    await new.finish(claims["failed"], JobState.FAILED, reason="InvalidInput", message="no")
    for name, tries in (("retried", 1), ("back", 0)):
        await new.release(claims[name], delay_seconds=0, tries=tries, waiting_reason=None, message=None)
    await execute(
        database, "UPDATE imports.claim SET expires_at = '-infinity' WHERE job_id = %s", ("expired",)
    )
    await new.end_expired()
    await new.end_of_workers(["worker-killed"])
    store = RunEndStore(database)
    counted = await store.count({"new": None, "old": None, "unknown": None})
    assert counted == {
        "new": RunEnds(running=1, succeeded=1, failed=4),
        "old": RunEnds(running=0, succeeded=1, failed=0),
        "unknown": RunEnds(),
    }
    outcomes = await execute(
        database, "SELECT job_id, outcome FROM imports.run_end WHERE template_hash = 'new' ORDER BY job_id"
    )
    assert outcomes == [
        ("done", "completed"),
        ("expired", "died"),
        ("failed", "failed"),
        ("killed", "died"),
        ("retried", "retried"),
    ]


async def test_an_outage_of_the_database_is_no_versions_fault(database: Database, dispatched: Any) -> None:
    store = ClaimStore(database, template_hash="new")
    await store.claim(await dispatched("job"), worker_id="w")
    await execute(database, "UPDATE imports.claim SET expires_at = '-infinity'")
    assert len(await store.end_expired(count_deaths=False)) == 1
    assert await RunEndStore(database).count({"new": None}) == {"new": RunEnds()}


async def test_the_newest_ends_since_a_time_count(database: Database) -> None:
    await execute(
        database,
        """INSERT INTO imports.run_end (template_hash, job_id, outcome, ended_at)
           SELECT 'new', n::text, CASE WHEN n <= 600 THEN 'completed' ELSE 'failed' END,
               now() - n * interval '1 second'
           FROM generate_series(1, 1000) n""",
    )
    store = RunEndStore(database)
    assert await store.count({"new": None}) == {"new": RunEnds(0, 500, 0)}
    since = datetime.now(UTC) - timedelta(seconds=100)
    counted = (await store.count({"new": since}))["new"]
    assert 80 <= counted.succeeded <= 100


async def test_ends_are_forgotten_after_a_day(database: Database) -> None:
    await execute(
        database,
        """INSERT INTO imports.run_end (template_hash, job_id, outcome, ended_at)
           SELECT 'new', n::text, 'completed', now() - n * interval '1 hour' FROM generate_series(1, 48) n""",
    )
    store = RunEndStore(database)
    assert not await store.prune()
    assert await execute(database, "SELECT count(*) FROM imports.run_end") in ([(23,)], [(24,)])


async def test_two_workers_of_two_versions_share_a_queue(database: Database, dispatched: Any) -> None:
    """A job that one version gave back is claimed by the other, and counts for each with its own end."""
    old, new = ClaimStore(database, template_hash="old"), ClaimStore(database, template_hash="new")
    first = await old.claim(await dispatched("job"), worker_id="o")
    assert first is not None
    await old.release(first, delay_seconds=0, tries=1, waiting_reason=None, message="failed once")
    second = await new.claim(await dispatched("job"), worker_id="n")
    assert second is not None
    await new.finish(second, JobState.COMPLETED, reason=None, message=None)
    counted = await RunEndStore(database).count({"old": None, "new": None})
    assert counted == {"old": RunEnds(0, 0, 1), "new": RunEnds(0, 1, 0)}


async def test_counting_and_forgetting_read_by_index(database: Database) -> None:
    await execute(
        database,
        """INSERT INTO imports.run_end (template_hash, job_id, outcome, ended_at)
           SELECT 'version-' || n % 5, n::text, 'completed', now() - n * interval '3 seconds'
           FROM generate_series(1, 50000) n""",
    )
    async with database.connection() as connection:
        await connection.execute("ANALYZE imports.run_end")
    for statement, values in (
        (COUNT, (["version-0", "version-1"], [None, datetime.now(UTC)], KEPT_SECONDS, NEWEST)),
        (PRUNE, (KEPT_SECONDS, 100)),
    ):
        lines = await execute(database, f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", values)
        plan = "\n".join(line for (line,) in lines)
        assert "Seq Scan on run_end" not in plan, plan
        assert "run_end_version" in plan or "run_end_time" in plan, plan
