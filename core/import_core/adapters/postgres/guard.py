"""The memory of the guard against mass cancellation: which cluster it is, and what waits for a person's word."""

from __future__ import annotations

from collections.abc import Sequence

from import_core.adapters.postgres.jobs import BATCH, cancel_batch
from import_core.adapters.postgres.notifications import GUARD_CHANNEL
from import_core.adapters.postgres.pool import Database
from import_core.domain.vanished import Guard

READ = """
SELECT cluster_uid, withheld, reason, withheld_at, confirmed_at, confirmed_by
FROM imports.guard WHERE namespace = %s
"""
# A confirmation that came since the last look is not overwritten: it is for the number that was shown.
WITHHOLD = """
INSERT INTO imports.guard AS g (namespace, cluster_uid, withheld, reason, withheld_at)
VALUES (%s, %s, %s, %s, now())
ON CONFLICT (namespace) DO UPDATE SET withheld = excluded.withheld, reason = excluded.reason,
    withheld_at = CASE WHEN g.withheld > 0 THEN g.withheld_at ELSE excluded.withheld_at END
WHERE g.confirmed_at IS NULL
"""
SETTLE = """
INSERT INTO imports.guard (namespace, cluster_uid) VALUES (%s, %s)
ON CONFLICT (namespace) DO UPDATE SET cluster_uid = excluded.cluster_uid, withheld = 0, reason = NULL,
    withheld_at = NULL, confirmed_at = NULL, confirmed_by = NULL
"""
CONFIRM = """
UPDATE imports.guard SET withheld = least(withheld, %s), confirmed_at = now(), confirmed_by = %s
WHERE namespace = %s AND withheld > 0 AND %s > 0
RETURNING withheld, pg_notify(%s, namespace)
"""
ALLOWED = """
SELECT withheld FROM imports.guard WHERE namespace = %s AND withheld > 0 AND confirmed_at IS NOT NULL
FOR UPDATE
"""
USE = "UPDATE imports.guard SET withheld = withheld - %s WHERE namespace = %s RETURNING withheld"


class GuardStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, namespace: str) -> Guard | None:
        """What is remembered of a namespace; None before it was looked at for the first time."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(READ, (namespace,))
            row = await cursor.fetchone()
        return Guard(*row) if row is not None else None

    async def withhold(self, namespace: str, *, cluster_uid: str, number: int, reason: str) -> None:
        """Remember that so many cancellations wait; `cluster_uid` counts at the first look only."""
        async with self._database.connection() as connection:
            await connection.execute(WITHHOLD, (namespace, cluster_uid, number, reason))

    async def settle(self, namespace: str, *, cluster_uid: str) -> None:
        """Remember that nothing waits, and that this is the cluster."""
        async with self._database.connection() as connection:
            await connection.execute(SETTLE, (namespace, cluster_uid))

    async def cancel_confirmed(
        self, namespace: str, job_ids: Sequence[str], *, cluster_uid: str, message: str
    ) -> list[str]:
        """Cancel jobs as far as a person's word goes; returns the ids that were not finished yet.

        Each cancelled job uses up one of the confirmed number in the same transaction, so that no more are
        ever cancelled than were confirmed, whatever dies in between. With the last one it is settled.
        """
        cancelled: list[str] = []
        for start in range(0, len(job_ids), BATCH):
            async with self._database.transaction() as connection:
                row = await (await connection.execute(ALLOWED, (namespace,))).fetchone()
                if row is None:
                    break
                batch = await cancel_batch(
                    connection, job_ids[start : start + min(BATCH, row[0])], message=message
                )
                left = await (await connection.execute(USE, (len(batch), namespace))).fetchone()
                if left == (0,):
                    await connection.execute(SETTLE, (namespace, cluster_uid))
            cancelled += batch
        return cancelled

    async def confirm(self, namespace: str, *, number: int, confirmed_by: str) -> int:
        """Allow the next comparison to cancel at most `number` of the withheld jobs, which it does at once.

        Returns how many it may cancel; 0 where none are withheld.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                CONFIRM, (number, confirmed_by, namespace, number, GUARD_CHANNEL)
            )
            row = await cursor.fetchone()
        return int(row[0]) if row is not None else 0
