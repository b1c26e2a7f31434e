"""Due jobs that no worker would get: a circuit breaker that is not closed, or a pause, holds their connection."""

from __future__ import annotations

from collections.abc import Sequence

from import_core.adapters.postgres.dispatching import (
    CONNECTION,
    CONNECTION_KEY,
    IN_ORDER,
    OF_CONNECTION,
    OPEN_BREAKER,
    PAUSED_CONNECTION,
    UNDISPATCHED,
)
from import_core.adapters.postgres.pool import Database

CAP = 20_001
"""As the depth is counted to."""

# Nothing is held nearly always, which two probes find out. Else every connection with a row that waits is found as the
# dispatcher finds them, by a loose scan of import_job_next, and the due rows of those that are held are counted.
HELD = f"""
WITH RECURSIVE connection (company, namespace, provider) AS (
    (SELECT {CONNECTION} FROM "ProductImportJob" WHERE {UNDISPATCHED}
       AND (EXISTS (SELECT FROM imports.breaker WHERE state <> 'Closed')
            OR EXISTS (SELECT FROM imports.pause WHERE scope IN ('company', 'provider')))
     ORDER BY {IN_ORDER} LIMIT 1)
    UNION ALL
    SELECT next.* FROM connection k CROSS JOIN LATERAL (
        SELECT {CONNECTION} FROM "ProductImportJob"
        WHERE {UNDISPATCHED} AND ({CONNECTION_KEY}) > (k.company, k.namespace, k.provider)
        ORDER BY {IN_ORDER} LIMIT 1) next
)
SELECT count(*) FROM (
    SELECT FROM connection k CROSS JOIN LATERAL (
        SELECT FROM "ProductImportJob"
        WHERE {OF_CONNECTION} AND coalesce("notBefore", timestamptz '-infinity') <= now()
        LIMIT %(cap)s) row
    WHERE EXISTS ({OPEN_BREAKER})
       OR {PAUSED_CONNECTION.format(company="k.company", namespace="k.namespace", provider="k.provider")}
    LIMIT %(cap)s) held
"""


class HeldStore:
    """Methods raise DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, queues: Sequence[str], *, cap: int = CAP) -> dict[str, int]:
        """Held jobs of each queue, up to `cap`."""
        found = {}
        async with self._database.connection() as connection:
            for queue in queues:
                row = await (await connection.execute(HELD, {"queue": queue, "cap": cap})).fetchone()
                found[queue] = 0 if row is None else int(row[0])
        return found
