"""How fast jobs end: what a screen shows of each queue's last minutes."""

from __future__ import annotations

from dataclasses import dataclass

from import_core.adapters.postgres.pool import Database

LOOKED_AT = 5_000
"""Ends of a queue that are looked at; with more in the time, the pace is of the newest of them."""

# By index import_job_finished; the newest first, so that the bound leaves out the oldest.
ENDS = """
SELECT count(*) FILTER (WHERE status = 'COMPLETED'), count(*) FILTER (WHERE status = 'FAILED'),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM "completedAt" - "startedAt")::float8)
        FILTER (WHERE status = 'COMPLETED' AND "startedAt" IS NOT NULL),
    extract(epoch FROM now() - min("completedAt"))::float8
FROM (
    SELECT status, "startedAt", "completedAt" FROM "ProductImportJob"
    WHERE coalesce(queue, 'product-imports') = %(queue)s AND status IN ('COMPLETED', 'FAILED')
      AND "completedAt" > now() - %(seconds)s * interval '1 second'
    ORDER BY "completedAt" DESC LIMIT %(most)s) ended
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """The ends of a queue's jobs within `seconds`; `p95` (seconds) of the completed ones' durations."""

    completed: int
    failed: int
    p95: float | None
    seconds: float

    @property
    def per_minute(self) -> float:
        """Jobs that end in a minute."""
        return (self.completed + self.failed) * 60 / self.seconds

    @property
    def success(self) -> float | None:
        """The share that completed, from 0 to 1; None where none ended."""
        ended = self.completed + self.failed
        return self.completed / ended if ended else None


class PaceStore:
    """Raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, queue: str, *, seconds: float = 300.0) -> Pace:
        """The pace of a queue's last `seconds`."""
        values = {"queue": queue, "seconds": seconds, "most": LOOKED_AT}
        async with self._database.connection() as connection:
            row = await (await connection.execute(ENDS, values)).fetchone()
        completed, failed, p95, oldest = row or (0, 0, None, None)
        full = completed + failed >= LOOKED_AT and oldest
        return Pace(completed, failed, p95, max(1.0, float(oldest)) if full else seconds)
