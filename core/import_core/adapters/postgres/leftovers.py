"""What finished jobs leave behind: deleted a bounded number of rows at a time, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

from import_core.adapters.postgres.pool import Connection
from import_core.domain.errors import RemovalsNotConfirmedError

DELETED_AT_ONCE = 5000
"""Rows of one table in one transaction: far less than a statement may take, also on a slow disk."""
FORGOTTEN_AT_ONCE = 20_000
"""Seen products that end with their jobs: the largest catalogue's; their rows are short."""
TABLES = ("checkpoint", "item_error", "seen_product")
# Rows of a finished job are written by nobody, so their places (ctid) stay until the statement ends.
DELETE = """
DELETE FROM imports.{table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM imports.{table} WHERE job_id = ANY(%s) LIMIT %s))
"""
FORGET = DELETE.format(table="seen_product")
# What was seen is needed while the job may still run, or while a person's word may let it archive the rest. The
# ids of jobs are found by skipping through the key, as each may have seen thousands of products.
FORGET_UNNEEDED = f"""
WITH RECURSIVE job AS (
    SELECT min(job_id) AS id FROM imports.seen_product
    UNION ALL
    SELECT (SELECT min(s.job_id) FROM imports.seen_product s WHERE s.job_id > job.id)
    FROM job WHERE job.id IS NOT NULL
)
DELETE FROM imports.seen_product WHERE ctid = ANY(ARRAY(
    SELECT s.ctid FROM job JOIN imports.seen_product s ON s.job_id = job.id
    WHERE NOT EXISTS (
        SELECT FROM "ProductImportJob" j WHERE j.id = job.id AND (
            j.status IN ('PENDING', 'IN_PROGRESS')
            OR j.status = 'FAILED' AND j."failureReason" = '{RemovalsNotConfirmedError.reason}'))
    LIMIT %s))
"""
STATEMENTS = tuple(DELETE.format(table=table) for table in TABLES)


async def delete_leftovers(
    connection: Connection, job_ids: Sequence[str], *, limit: int = DELETED_AT_ONCE
) -> bool:
    """Delete checkpoints, item errors and seen products of jobs, whose rows the transaction must have locked.

    At most `limit` rows. Returns whether all are deleted; else the next transaction goes on.
    """
    for statement in STATEMENTS:
        cursor = await connection.execute(statement, (list(job_ids), limit))
        limit -= cursor.rowcount
        if limit <= 0:
            return False
    return True


async def forget_seen(connection: Connection, job_ids: Sequence[str]) -> None:
    """Delete what jobs saw at the source that this transaction has ended; what is beyond the limit goes later."""
    if job_ids:
        await connection.execute(FORGET, (list(job_ids), FORGOTTEN_AT_ONCE))


async def forget_unneeded(connection: Connection, *, limit: int = DELETED_AT_ONCE) -> int:
    """Delete at most `limit` seen products that no run needs any more; returns how many."""
    cursor = await connection.execute(FORGET_UNNEEDED, (limit,))
    return cursor.rowcount
