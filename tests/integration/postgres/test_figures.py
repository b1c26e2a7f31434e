"""Figures of the last days: counted by day and queue, of one namespace, by index and up to a bound."""

from datetime import UTC, datetime, timedelta

import pytest
from postgres_rows import execute

from import_core.adapters.postgres import Database, figures
from import_core.adapters.postgres.figures import FigureStore

ROWS = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, status, queue, namespace, "startedAt", "completedAt",
    "failureReason")
SELECT gen_random_uuid()::text, 'acme', 'p', %(status)s, %(queue)s, %(namespace)s, %(ended)s - interval '1 second' * n,
    %(ended)s, %(reason)s
FROM generate_series(1, %(jobs)s) n
"""

# A month of the figures of ten namespaces, beside many that are too old.
ADDED_UP = """
INSERT INTO imports.step_figure (queue, day, namespace, outcome, reason, duration_bucket, number)
SELECT queue, (now() AT TIME ZONE 'UTC')::date - day, 'ns-' || namespace, 'Completed', '', bucket, 1
FROM unnest(ARRAY['quality-control', 'index-product']) queue, generate_series(0, 99) day,
    generate_series(1, 10) namespace, generate_series(1, 20) bucket
"""


async def put(
    database: Database,
    jobs: int,
    *,
    days_ago: int = 0,
    status: str = "COMPLETED",
    queue: str | None = None,
    namespace: str | None = "imports",
    reason: str | None = None,
) -> None:
    ended = datetime.now(UTC) - timedelta(days=days_ago)
    values = {"status": status, "queue": queue, "namespace": namespace, "ended": ended}
    await execute(database, ROWS, {**values, "reason": reason, "jobs": jobs})


async def test_jobs_are_counted_by_day_queue_and_how_they_ended(database: Database) -> None:
    await put(database, 3)
    await put(database, 2, namespace=None, days_ago=1)
    await put(database, 1, status="FAILED", reason="Timeout", days_ago=1)
    await put(database, 2, status="FAILED", queue="quality-control")
    await put(database, 5, queue="quality-control")
    await put(database, 9, namespace="elsewhere")
    await put(database, 9, status="CANCELLED")
    await put(database, 9, days_ago=3)
    found = await FigureStore(database).read(
        namespace="imports", queues=["product-imports", "quality-control", "nothing"], days=3
    )
    counts = [(row.queue, row.completed, row.failed, row.at_least) for row in found.days]
    assert counts == [
        ("nothing", 0, 0, False),
        ("product-imports", 0, 0, False),
        ("quality-control", 0, 0, False),
        ("nothing", 0, 0, False),
        ("product-imports", 2, 1, False),
        ("quality-control", 0, 0, False),
        ("nothing", 0, 0, False),
        ("product-imports", 3, 0, False),
        ("quality-control", 5, 2, False),
    ]
    days = sorted({row.day.astimezone(UTC) for row in found.days})
    assert [(day.hour, (datetime.now(UTC) - day).days) for day in days] == [(0, 2), (0, 1), (0, 0)]
    durations = {row.queue: (row.jobs, row.median_seconds) for row in found.durations}
    assert durations == {"product-imports": (5, 2.0), "quality-control": (5, 3.0)}
    assert [(row.queue, row.reason, row.jobs, row.products) for row in found.failures] == [
        ("quality-control", "Unknown", 2, 0),
        ("product-imports", "Timeout", 1, 0),
    ]


async def test_a_day_with_more_jobs_than_are_counted_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "DAY_CAP", 4)
    await put(database, 5)
    found = await FigureStore(database).read(namespace="imports", queues=["product-imports"], days=1)
    assert [(row.completed, row.at_least) for row in found.days] == [(4, True)]


@pytest.mark.parametrize("statement", [figures.PER_DAY, figures.DURATIONS, figures.FAILURES])
async def test_figures_are_read_by_index(database: Database, statement: str) -> None:
    await put(database, 3_000, days_ago=90)
    await put(database, 10)
    await execute(database, ADDED_UP)
    await execute(database, 'ANALYZE "ProductImportJob"')
    await execute(database, "ANALYZE imports.step_figure")
    values = {
        "namespace": "imports",
        "queues": ["product-imports", "quality-control"],
        "days": 14,
        "cap": 10_001,
        "newest": 2_000,
        "reasons": 10,
    }
    plan = "\n".join(row[0] for row in await execute(database, f"EXPLAIN {statement}", values))
    assert "import_job_finished" in plan
    assert "step_figure_pkey" in plan
    assert "Seq Scan" not in plan
