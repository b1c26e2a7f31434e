"""Old rows of finished jobs that came from objects: deleted in bounded batches, with all that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass

from import_core.adapters.postgres.leftovers import DELETED_AT_ONCE, delete_leftovers, forget_unneeded
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
DELETE = 'DELETE FROM "ProductImportJob" WHERE id = ANY(%s)'


@dataclass(frozen=True, slots=True)
class Deleted:
    """What one batch came to: so many jobs; `more`: there is more to delete at once."""

    jobs: int
    more: bool


class HistoryStore:
    """The retention of history. Methods raise DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_finished(self, namespace: str, *, days: float, limit: int = BATCH) -> Deleted:
        """Delete at most `limit` jobs of a namespace's objects that finished over `days` ago, oldest first.

        What belongs to them goes first, a bounded number of rows in each transaction: where there is more of
        it, the jobs themselves stay for a later call.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(OLD, (namespace, days, limit))
            old = [row[0] for row in await cursor.fetchall()]
            if not old:
                return Deleted(0, more=False)
            if not await delete_leftovers(connection, old):
                return Deleted(0, more=True)
            await connection.execute(DELETE, (old,))
            return Deleted(len(old), more=len(old) == limit)

    async def forget_unneeded(self, *, limit: int = DELETED_AT_ONCE) -> int:
        """Delete at most `limit` seen products that no run needs any more; returns how many.

        Of jobs that were ended by others than their workers, by the platform itself for one.
        """
        async with self._database.transaction() as connection:
            return await forget_unneeded(connection, limit=limit)
