"""How jobs ended by the version of the workers that ran them. `claims` writes it, rollouts are judged by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.pool import Database

NEWEST = 500
"""So many of a version's newest ends are looked at."""
KEPT_SECONDS = 86_400.0
PRUNE_BATCH = 10_000

# By index run_end_version, a bounded number of rows for each version. Claims are few (workers x concurrency).
COUNT = """
SELECT v.version,
    (SELECT count(*) FROM imports.claim k WHERE k.template_hash = v.version),
    count(r.outcome) FILTER (WHERE r.outcome = 'completed'),
    count(r.outcome) FILTER (WHERE r.outcome <> 'completed')
FROM unnest(%s::text[], %s::timestamptz[]) AS v (version, since)
LEFT JOIN LATERAL (
    SELECT outcome FROM imports.run_end
    WHERE template_hash = v.version
      AND ended_at > greatest(v.since, clock_timestamp() - %s * interval '1 second')
    ORDER BY ended_at DESC LIMIT %s) r ON true
GROUP BY v.version
"""
# By index run_end_time, the oldest first.
PRUNE = """
DELETE FROM imports.run_end WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM imports.run_end WHERE ended_at < clock_timestamp() - %s * interval '1 second'
    ORDER BY ended_at LIMIT %s))
"""


@dataclass(frozen=True, slots=True)
class RunEnds:
    """A version's jobs: those that run, and how the newest tries ended."""

    running: int = 0
    succeeded: int = 0
    failed: int = 0


class RunEndStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, versions: Mapping[str, datetime | None]) -> dict[str, RunEnds]:
        """The ends of each version since a time (None: within the last day), the newest 500 of each."""
        values = (list(versions), list(versions.values()), KEPT_SECONDS, NEWEST)
        async with self._database.connection() as connection:
            rows = await (await connection.execute(COUNT, values)).fetchall()
        return {row[0]: RunEnds(row[1], row[2], row[3]) for row in rows}

    async def prune(self) -> bool:
        """Forget ends older than a day, a bounded number at a time; whether there may be more."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(PRUNE, (KEPT_SECONDS, PRUNE_BATCH))
            return cursor.rowcount == PRUNE_BATCH
