"""Products as a search shows them, with what decides whether they may be found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from psycopg.rows import TupleRow

from import_core.adapters.postgres.pool import Database
from import_core.domain.search import Standing

# Each by its key: at most as many rows of each table as products are asked for.
FOUND = """
SELECT p.id, p."externalId", p."importSource", p.title, p.price::numeric, p.currency, p.status, p."contentHash",
    d.product_hash, q.decision, i.key, i.thumbnails
FROM "Product" p
LEFT JOIN imports.search_document d ON d.product_id = p.id
LEFT JOIN imports.quality_decision q ON q.product_id = p.id
LEFT JOIN LATERAL (
    SELECT key, thumbnails FROM "ProductImage" WHERE "productId" = p.id AND key IS NOT NULL
    ORDER BY position, id LIMIT 1) i ON true
WHERE p.id = ANY(%(ids)s) AND p."companyId" = %(company)s
"""


@dataclass(frozen=True, slots=True)
class FoundProduct:
    """A product's summary; `price` in the currency's main unit. Keys are those of the object store."""

    product_id: str
    external_id: str
    import_source: str
    title: str
    price: Decimal | None
    currency: str | None
    image_key: str | None
    thumbnails: Mapping[str, str]
    standing: Standing


class FoundProducts:
    """Reads products that an index has found. Raises DatabaseUnavailableError, SchemaMismatchError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, company_id: str, product_ids: Sequence[str]) -> dict[str, FoundProduct]:
        """The company's products by id; unknown ones, and those of others, are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(FOUND, {"company": company_id, "ids": list(product_ids)})
            return {row[0]: _product(row) for row in await cursor.fetchall()}


def _product(row: TupleRow) -> FoundProduct:
    return FoundProduct(
        product_id=row[0],
        external_id=row[1],
        import_source=row[2],
        title=row[3],
        price=row[4],
        currency=row[5],
        standing=Standing(*row[6:10]),
        image_key=row[10],
        thumbnails=row[11] or {},
    )
