"""Old rows of finished jobs that came from objects: deleted in bounded batches, with all that belongs to them."""

from __future__ import annotations

from import_core.adapters.postgres.pool import Database

BATCH = 200

# By index import_job_ended, whose predicate and key are here letter by letter. The platform's own rows are
# the platform's to delete. Somebody who set a row's end by hand may have left out the time.
OLD = """
SELECT id FROM "ProductImportJob"
WHERE namespace = %s AND coalesce("completedAt", "updatedAt") < now() - %s * interval '1 day'
  AND "objectUid" IS NOT NULL AND status IN ('COMPLETED', 'FAILED', 'CANCELLED')
ORDER BY coalesce("completedAt", "updatedAt") LIMIT %s FOR UPDATE SKIP LOCKED
"""
DELETE = (
    "DELETE FROM imports.checkpoint WHERE job_id = ANY(%s)",
    "DELETE FROM imports.item_error WHERE job_id = ANY(%s)",
    "DELETE FROM imports.seen_product WHERE job_id = ANY(%s)",
    'DELETE FROM "ProductImportJob" WHERE id = ANY(%s)',
)


class HistoryStore:
    """The retention of history. Methods raise DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_finished(self, namespace: str, *, days: float, limit: int = BATCH) -> int:
        """Delete at most `limit` jobs of a namespace's objects that finished over `days` ago; returns how many.

        The oldest go first, with their checkpoints, item errors and seen products.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(OLD, (namespace, days, limit))
            old = [row[0] for row in await cursor.fetchall()]
            for statement in DELETE if old else ():
                await connection.execute(statement, (old,))
            return len(old)
