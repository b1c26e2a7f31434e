"""Versions of companies' catalogues: what was found in one is not looked for again until it goes up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from import_core.adapters.postgres.pool import Connection, Database

NEWEST_JOBS = 20
"""Jobs of a company, the newest, whose namespaces are kept; the one that changes the catalogue is among them."""

# In the order of the ids, so that two transactions that change several companies don't wait for each other in a circle.
BUMP = """
INSERT INTO imports.catalogue_version AS v (company_id, version, namespaces)
SELECT c.company_id, 1, coalesce(j.namespaces, '{}')
FROM (SELECT DISTINCT unnest(%(companies)s::text[]) AS company_id ORDER BY 1) c,
    LATERAL (
        SELECT array_agg(DISTINCT coalesce(newest.namespace, '')) AS namespaces
        FROM (
            SELECT namespace FROM "ProductImportJob" WHERE "companyId" = c.company_id AND "parentId" IS NULL
            ORDER BY "createdAt" DESC, id DESC LIMIT %(newest)s) newest) j
ORDER BY c.company_id
ON CONFLICT (company_id) DO UPDATE SET
    version = v.version + 1, changed_at = clock_timestamp(),
    namespaces = CASE WHEN v.namespaces @> excluded.namespaces THEN v.namespaces
        ELSE ARRAY(SELECT DISTINCT unnest(v.namespaces || excluded.namespaces) ORDER BY 1) END
"""
READ = "SELECT version, namespaces FROM imports.catalogue_version WHERE company_id = %s"


@dataclass(frozen=True, slots=True)
class CatalogueVersion:
    """A company's catalogue as it stands; `namespaces`: whose jobs imported it, empty text for jobs of none."""

    version: int
    namespaces: frozenset[str]

    def belongs_to(self, namespace: str) -> bool:
        """Whether the namespace imported any of it; jobs without one belong to whichever is served."""
        return not self.namespaces.isdisjoint({namespace, ""})


async def bump(connection: Connection, company_ids: Collection[str]) -> None:
    """Raise the versions of these companies' catalogues, in the caller's transaction.

    For whatever changes what a search finds: products indexed, archived or removed, a decision of quality control or
    of a person. Call it last: the rows stay locked until the transaction ends.
    """
    if company_ids:
        await connection.execute(BUMP, {"companies": list(company_ids), "newest": NEWEST_JOBS})


class CatalogueVersions:
    """Reads versions. Raises DatabaseUnavailableError, SchemaMismatchError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, company_id: str) -> CatalogueVersion | None:
        """The version of a company's catalogue; None where nothing of it was ever indexed."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(READ, (company_id,))).fetchone()
            return CatalogueVersion(int(row[0]), frozenset(row[1])) if row else None
