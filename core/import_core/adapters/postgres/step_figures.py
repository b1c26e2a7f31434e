"""Figures of steps that outlive their jobs: what the sweep deletes and what was given up, added up by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from import_core.adapters.postgres.pool import Connection
from import_core.domain.steps import StepKind

LONGEST_DAYS = 30
"""Figures look no further back, today among the days; older ones are pruned."""
PRUNED_AT_ONCE = 5_000
QUEUES = tuple(kind.value for kind in StepKind)
BUCKET_SECONDS = "power(1.1::float8, f.duration_bucket - 1) / 1000"
"""The longest duration that a bucket stands for: at most a tenth over any in it."""

# In the order of the key, as whoever else counts: so no two wait for each other in a circle. Whoever counts does it
# last in its transaction, as others wait for these rows until that ends.
_ADD = """
ON CONFLICT (queue, day, namespace, outcome, reason, duration_bucket)
DO UPDATE SET number = f.number + excluded.number
"""
# 1,000 days and more are one bucket.
COUNT_ENDED = f"""
INSERT INTO imports.step_figure AS f (queue, day, namespace, outcome, reason, duration_bucket, number)
SELECT coalesce(queue, 'product-imports'), ("completedAt" AT TIME ZONE 'UTC')::date, coalesce(namespace, ''),
    CASE status WHEN 'COMPLETED' THEN 'Completed' ELSE 'Failed' END,
    CASE status WHEN 'FAILED' THEN left(coalesce("failureReason", 'Unknown'), 100) ELSE '' END,
    CASE WHEN status = 'COMPLETED' AND "startedAt" IS NOT NULL THEN
        1 + ceil(ln(least(greatest(extract(epoch FROM "completedAt" - "startedAt")::float8 * 1000, 1), 8.64e10))
            / ln(1.1::float8))
        ELSE 0 END,
    count(*)
FROM "ProductImportJob"
WHERE id = ANY(%s) AND status IN ('COMPLETED', 'FAILED') AND "completedAt" IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
{_ADD}"""
COUNT_GIVEN_UP = f"""
INSERT INTO imports.step_figure AS f (queue, day, namespace, outcome, reason, duration_bucket, number)
SELECT t.queue, (now() AT TIME ZONE 'UTC')::date, coalesce(j.namespace, ''), 'GivenUp', left(t.reason, 100), 0,
    sum(t.products)
FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[]) AS t (job, queue, reason, products)
LEFT JOIN "ProductImportJob" j ON j.id = t.job
GROUP BY 1, 2, 3, 5 ORDER BY 1, 2, 3, 5
{_ADD}"""
# By the key.
PRUNE = """
DELETE FROM imports.step_figure WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM imports.step_figure
    WHERE queue = ANY(%(queues)s) AND day < (now() AT TIME ZONE 'UTC')::date - %(days)s::integer
    LIMIT %(limit)s))
"""


async def count_ended(connection: Connection, job_ids: Sequence[str]) -> None:
    """Add up step jobs that this transaction deletes."""
    await connection.execute(COUNT_ENDED, (list(job_ids),))


async def count_given_up(
    connection: Connection, products: Iterable[tuple[str, StepKind, str | None]]
) -> None:
    """Add up products that are dead now: for each its batch's job, the step and why."""
    counted = Counter((job_id, kind.value, reason or "Unknown") for job_id, kind, reason in products)
    if counted:
        jobs, queues, reasons = zip(*counted, strict=True)
        values = (list(jobs), list(queues), list(reasons), list(counted.values()))
        await connection.execute(COUNT_GIVEN_UP, values)


async def prune_figures(connection: Connection) -> None:
    """Delete what no figures look back to, a bounded number of rows."""
    await connection.execute(PRUNE, {"queues": list(QUEUES), "days": LONGEST_DAYS, "limit": PRUNED_AT_ONCE})
