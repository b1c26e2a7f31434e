"""Unfinished jobs and the objects they came from, for the comparison with the API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from import_core.adapters.postgres.pool import Database, server_time

PAGE = 5000
BATCHES = 500
"""Batches of steps of a page, each with as many products as a batch of its step may have."""

# By index import_job_live, in the order of its key. Rows without an object (inserted by the platform) are
# nobody's to cancel, and are not read.
UNFINISHED = """
SELECT id FROM "ProductImportJob"
WHERE namespace = %(namespace)s AND id > %(after)s AND "createdAt" < %(before)s
  AND "objectUid" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')
ORDER BY id LIMIT %(limit)s
"""
# Finished ones with steps in a page of open batches: in their own, or due in others', for which each product in one is
# looked at. A batch that is its own parent is a person's, whose dead letter may be of an ImportJob that is long gone.
# By index import_job_steps, in the order of its key; one row, which says where to go on.
WITH_STEPS = """
WITH page AS (
    SELECT "parentId" AS parent, id FROM "ProductImportJob"
    WHERE "parentId" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS') AND ("parentId", id) > (%(parent)s, %(batch)s)
    ORDER BY "parentId", id LIMIT %(limit)s
), origin AS (
    SELECT parent AS id FROM page
    UNION
    SELECT s.job_id FROM page JOIN imports.product_step s ON s.batch_id = page.id AND s.state = 'Due'
    WHERE page.id <> page.parent
)
SELECT last.parent, last.id, (SELECT count(*) FROM page), (
    SELECT array_agg(j.id ORDER BY j.id) FROM origin JOIN "ProductImportJob" j ON j.id = origin.id
    WHERE j.namespace = %(namespace)s AND j."createdAt" < %(before)s AND j."objectUid" IS NOT NULL
      AND j.status IN ('COMPLETED', 'FAILED', 'CANCELLED'))
FROM (SELECT parent, id FROM page ORDER BY parent DESC, id DESC LIMIT 1) last
"""
EXISTING = 'SELECT id FROM "ProductImportJob" WHERE id = ANY(%s)'


class OriginStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        """The database's time, by which rows are dated."""
        async with self._database.connection() as connection:
            return await server_time(connection)

    async def unfinished(
        self, namespace: str, *, recorded_before: datetime, page_size: int = PAGE
    ) -> AsyncIterator[list[str]]:
        """Pages of ids (the objects' uids) of jobs that came from a namespace's objects and have work left.

        First the waiting and running ones, in the order of the ids, then finished ones with open steps, in their own
        batches or in others'. Only of rows that were recorded before a time; one page is in memory, and the ids of the
        last kind, each of which comes once.
        """
        place = {"namespace": namespace, "after": "", "before": recorded_before, "limit": page_size}
        while True:
            async with self._database.connection() as connection:
                page = [row[0] for row in await (await connection.execute(UNFINISHED, place)).fetchall()]
            if page:
                yield page
            if len(page) < page_size:
                break
            place["after"] = page[-1]
        async for page in self._with_steps(namespace, recorded_before, min(page_size, BATCHES)):
            yield page

    async def _with_steps(self, namespace: str, before: datetime, page_size: int) -> AsyncIterator[list[str]]:
        place = {"namespace": namespace, "before": before, "parent": "", "batch": "", "limit": page_size}
        seen: set[str] = set()
        while True:
            async with self._database.connection() as connection:
                row = await (await connection.execute(WITH_STEPS, place)).fetchone()
            if row is None:
                return
            parent, batch, number, found = row
            page = [job_id for job_id in found or () if job_id not in seen]
            if page:
                seen.update(page)
                yield page
            if number < page_size:
                return
            place |= {"parent": parent, "batch": batch}

    async def existing(self, job_ids: list[str]) -> set[str]:
        """Those of the ids that have a row, finished or not."""
        found: set[str] = set()
        for start in range(0, len(job_ids), PAGE):
            async with self._database.connection() as connection:
                cursor = await connection.execute(EXISTING, (job_ids[start : start + PAGE],))
                found.update(row[0] for row in await cursor.fetchall())
        return found
