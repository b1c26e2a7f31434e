"""What admission asks of a company: its tier and how many unfinished jobs it has."""

from __future__ import annotations

from dataclasses import dataclass

from import_core.adapters.postgres.pool import Database
from import_core.domain.jobs import Tier, known_tier

# Counts index entries up to the limit: it costs no more for a company with a million jobs.
STANDING = """
SELECT
    (SELECT tier::text FROM "Company" WHERE id = %(company)s),
    (
        SELECT count(*) FROM (
            SELECT FROM "ProductImportJob"
            WHERE "companyId" = %(company)s AND status IN ('PENDING', 'IN_PROGRESS') AND "parentId" IS NULL
            LIMIT %(limit)s
        ) AS unfinished
    )
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """One company."""

    tier: Tier
    unfinished: int
    """Counted up to the limit that was asked with."""


class StandingStore:
    """Raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, company: str, *, limit: int) -> Standing:
        """A company's standing; an unknown company is BASIC."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(STANDING, {"company": company, "limit": limit})
            row = await cursor.fetchone()
        return Standing(known_tier(row[0] if row else None), int(row[1]) if row else 0)
