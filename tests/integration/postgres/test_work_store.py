"""What a queue's jobs amount to, as rows and checkpoints say."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from postgres_rows import execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.work import WorkStore
from import_core.domain.work_counting import Source, WaitingJobs, units_done

QUEUE = "product-imports"
ACME = Source("acme", "imports", "acme-shopify")
ROW = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, namespace, status, dispatch, "startedAt", "completedAt",
    "notBefore", suspended)
VALUES (%(id)s, %(company)s, %(provider)s, %(namespace)s, %(status)s, %(dispatch)s, %(started)s, %(completed)s,
    %(not_before)s, %(suspended)s)
"""
CHECKPOINT = "INSERT INTO imports.checkpoint (job_id, version, progress, pages) VALUES (%s, 1, %s, 2)"
CLAIM = """
INSERT INTO imports.claim (job_id, claim_id, worker_id, queue, dispatch, claimed_at, expires_at, live_progress)
SELECT id, gen_random_uuid(), 'w', 'product-imports', 1, "startedAt" + %s * interval '1 second',
    now() + interval '1 minute', %s
FROM "ProductImportJob" WHERE id = %s
"""


async def row(database: Database, job_id: str, *, done: int | None = None, **values: Any) -> None:
    """A job, with a checkpoint of so many of 100 products and two images of each."""
    defaults: dict[str, Any] = {
        **{"company": "acme", "provider": "acme-shopify", "namespace": "imports", "status": "PENDING"},
        **dict.fromkeys(("dispatch", "started", "completed", "not_before", "suspended")),
    }
    await execute(database, ROW, {**defaults, "id": job_id, **values})
    if done is not None:
        await execute(database, CHECKPOINT, (job_id, json.dumps(counters(done))))


def counters(done: int) -> dict[str, int]:
    return {
        "products_total": 100,
        "products_imported": done,
        "images_total": 2 * done,
        "images_imported": 2 * done,
    }


async def test_due_rows_are_counted_by_source_with_what_is_left_of_those_that_ran(database: Database) -> None:
    now = datetime.now(UTC)
    await row(database, "new")
    await row(database, "resumed", done=40, started=now)
    await row(database, "failed-before-its-first-page", started=now)
    await row(database, "of-another", company="beta", namespace=None)
    await row(database, "not-due", not_before=now + timedelta(hours=1))
    await row(database, "suspended", suspended=True)
    seen = await WorkStore(database).look(QUEUE, since=None)
    assert sorted(seen.waiting, key=lambda group: group.source.company) == [
        WaitingJobs(ACME, 3, known=1, units=60 * 3.0),
        WaitingJobs(Source("beta", "", "acme-shopify"), 1),
    ]


async def test_running_jobs_show_the_newest_counters_and_whether_they_began_with_this_claim(
    database: Database,
) -> None:
    started = datetime.now(UTC) - timedelta(minutes=5)
    for job_id in ("first", "again"):
        await row(database, job_id, status="IN_PROGRESS", done=10, started=started)
    await execute(database, CLAIM, (0, json.dumps(counters(20)), "first"))
    await execute(database, CLAIM, (60, None, "again"))
    seen = await WorkStore(database).look(QUEUE, since=None)
    jobs = {job.job_id: job for job in seen.running}
    assert (jobs["first"].first_run, units_done(jobs["first"].progress)) == (True, 60)
    assert (jobs["again"].first_run, units_done(jobs["again"].progress)) == (False, 30)
    assert (jobs["first"].source, jobs["first"].pages) == (ACME, 2)


async def test_finished_jobs_come_once_each(database: Database) -> None:
    now = datetime.now(UTC)
    ended = {"status": "COMPLETED", "done": 100, "started": now - timedelta(seconds=90)}
    await row(database, "done", **ended, dispatch=2, completed=now - timedelta(seconds=60))
    await row(database, "twice", **ended, dispatch=4, completed=now - timedelta(seconds=50))
    await row(database, "long-ago", **ended, dispatch=2, completed=now - timedelta(hours=2))
    await row(database, "never-started", status="FAILED", completed=now)
    store = WorkStore(database)
    seen = await store.look(QUEUE, since=None)
    assert {job.job_id: (job.first_run, units_done(job.progress)) for job in seen.finished} == {
        "done": (True, 300),
        "twice": (False, 300),
    }
    assert (await store.look(QUEUE, since=seen.at)).finished == ()


async def test_sizes_are_of_the_same_connection(database: Database) -> None:
    now = datetime.now(UTC)
    for number, done in enumerate((100, 50)):
        await row(database, f"done-{number}", status="COMPLETED", done=done, started=now, completed=now)
    other = Source("acme", "imports", "acme-roastify")
    assert await WorkStore(database).sizes([ACME, other]) == {ACME: pytest.approx(225.0)}
