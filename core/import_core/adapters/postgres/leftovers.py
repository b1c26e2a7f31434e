"""What finished jobs leave behind: deleted a bounded number of rows at a time, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

from import_core.adapters.postgres.pool import Connection

DELETED_AT_ONCE = 5000
"""Rows of one table in one transaction: far less than a statement may take, also on a slow disk."""
TABLES = ("checkpoint", "item_error", "seen_product")
# Rows of a finished job are written by nobody, so their places (ctid) stay until the statement ends.
DELETE = """
DELETE FROM imports.{table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM imports.{table} WHERE job_id = ANY(%s) LIMIT %s))
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
