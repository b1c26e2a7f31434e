"""Unfinished jobs and the objects they came from, for the comparison with the API server."""

from __future__ import annotations

from import_core.adapters.postgres.pool import Database

PAGE = 5000

# Rows without an object (inserted by the platform) are nobody's to cancel.
UNFINISHED = """
SELECT id FROM "ProductImportJob"
WHERE status = ANY(%s) AND namespace = %s AND "objectUid" IS NOT NULL AND id > %s
ORDER BY id LIMIT %s
"""
EXISTING = 'SELECT id FROM "ProductImportJob" WHERE id = ANY(%s)'


class OriginStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unfinished(self, namespace: str) -> set[str]:
        """Ids (the objects' uids) of waiting and running jobs that came from objects of a namespace."""
        found: set[str] = set()
        after = ""
        while True:
            async with self._database.connection() as connection:
                cursor = await connection.execute(
                    UNFINISHED, (["PENDING", "IN_PROGRESS"], namespace, after, PAGE)
                )
                page = [row[0] for row in await cursor.fetchall()]
            found.update(page)
            if len(page) < PAGE:
                return found
            after = page[-1]

    async def existing(self, job_ids: list[str]) -> set[str]:
        """Those of the ids that have a row, finished or not."""
        found: set[str] = set()
        for start in range(0, len(job_ids), PAGE):
            async with self._database.connection() as connection:
                cursor = await connection.execute(EXISTING, (job_ids[start : start + PAGE],))
                found.update(row[0] for row in await cursor.fetchall())
        return found
