"""A catalogue to search in: products as imports write them, indexed as the worker's step does it."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.quality import QualityStore
from import_core.adapters.postgres.removals import ARCHIVE
from import_core.adapters.postgres.search_documents import write_documents
from import_core.adapters.postgres.steps import VERSION
from import_core.adapters.search.base import SearchIndex
from import_core.adapters.search.postgres import PostgresSearchIndex
from import_core.domain.steps import StepFailed, StepProduct
from import_worker.steps.indexing import IndexStep

# What the migrations of steps and of quality control make, where they have not run.
STEPS = """
CREATE TABLE IF NOT EXISTS imports.product_step (
    product_id text NOT NULL, step text NOT NULL, company_id text NOT NULL, content_hash text NOT NULL,
    state text NOT NULL, PRIMARY KEY (product_id, step))
"""
DECISIONS = """
CREATE TABLE IF NOT EXISTS imports.quality_decision (
    product_id text PRIMARY KEY, company_id text NOT NULL, content_hash text NOT NULL, decision text NOT NULL,
    decided_by text NOT NULL)
"""
ASKED = """
INSERT INTO imports.product_step (product_id, step, company_id, content_hash, state)
VALUES (%s, 'index-product', %s, %s, 'Due')
ON CONFLICT (product_id, step) DO UPDATE SET content_hash = excluded.content_hash, updated_at = clock_timestamp()
"""
VERSIONS = f"""
SELECT p.id, {VERSION} FROM "Product" p
JOIN imports.product_step s ON s.product_id = p.id AND s.step = 'index-product' WHERE p.id = ANY(%s)
"""
INSERT = """
INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, description, vendor, "productType", tags,
    price, currency, status, "contentHash")
VALUES (%s, %s, %s, 'shopify', %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET title = excluded.title, "contentHash" = excluded."contentHash",
    status = excluded.status, "updatedAt" = clock_timestamp()
"""
IMAGE = """
INSERT INTO "ProductImage"
    (id, "productId", "sourceUrl", position, key, thumbnails, "contentType", width, height, bytes)
VALUES (%s, %s, %s, %s, %s, '{"256": "small", "1024": "large"}', 'image/webp', 800, 600, 1000)
"""


def product(
    product_id: str, title: str, *, company: str = "acme", content: str = "h1", **more: Any
) -> StepProduct:
    """A product as a step sees it."""
    return StepProduct(product_id, company, content, title, **{"status": "ACTIVE", "currency": "EUR", **more})


class Catalogue:
    """Products of companies in a test's own database."""

    def __init__(self, database: Database, index: SearchIndex | None = None) -> None:
        self.database = database
        self.index = index or PostgresSearchIndex(database)
        self.step = IndexStep(self.index, index_name="tests", decisions=QualityStore(database))

    async def prepare(self, *companies: str, namespace: str | None = None) -> None:
        """Make what other parts' migrations make, and a job for each company."""
        await self.execute(STEPS)
        await self.execute(DECISIONS)
        for company in companies:
            await self.execute(
                """INSERT INTO "ProductImportJob" (id, "companyId", provider, namespace) VALUES (%s, %s, 'p', %s)""",
                (uuid.uuid4().hex, company, namespace),
            )

    async def insert(self, *products: StepProduct, steps: bool = True) -> None:
        """Write the products' rows and ask for the step, as an import does; `steps`: whether it asks for any."""
        async with self.database.transaction() as connection:
            for one in products:
                await connection.execute(
                    INSERT,
                    (
                        *(one.product_id, one.company_id, f"external-{one.product_id}", one.title),
                        *(one.description, one.vendor, one.product_type, list(one.tags)),
                        *(one.price, one.currency, one.status, f"content {one.content_hash}"),
                    ),
                )
                if steps:
                    asked = (one.product_id, one.company_id, f"state {one.content_hash}")
                    await connection.execute(ASKED, asked)

    async def index_products(self, *products: StepProduct) -> list[StepFailed]:
        """Run the step, and commit what it writes; returns what it could not index."""
        batch = await self.step.run(await self.given(*products))
        async with self.database.transaction() as connection:
            if batch.write is not None:
                await batch.write(connection)
        assert [one.product_id for one in batch.outcomes] == [one.product_id for one in products]
        return [one for one in batch.outcomes if isinstance(one, StepFailed)]

    async def given(self, *products: StepProduct) -> list[StepProduct]:
        """The products as a worker reads them."""
        versions = dict(await self.execute(VERSIONS, [[one.product_id for one in products]]))
        return [
            replace(one, content_hash=f"state {one.content_hash}", version=versions.get(one.product_id, 0))
            for one in products
        ]

    async def add(self, *products: StepProduct) -> None:
        """Insert and index."""
        await self.insert(*products)
        assert await self.index_products(*products) == []

    async def image(self, product_id: str, position: int, key: str) -> None:
        await self.execute(IMAGE, (uuid.uuid4().hex, product_id, f"https://img/{key}", position, key))

    async def archive(self, product_id: str, *, company: str = "acme", connection: str = "shop") -> None:
        """Archive a product by the statement that a run uses for those it has not seen."""
        await self.execute('UPDATE "Product" SET connection = %s WHERE id = %s', (connection, product_id))
        scope = {"company": company, "source": "shopify", "connection": connection, "job": "none"}
        async with self.database.connection() as session:
            (now,) = await (await session.execute("SELECT now()")).fetchone() or (None,)
            await session.execute(ARCHIVE, {**scope, "after": "", "since": now, "limit": 1})
        await self.execute('UPDATE "Product" SET connection = NULL')

    async def decide(self, product_id: str, decision: str) -> None:
        """What quality control, or a person, says of a product."""
        await self.execute(
            """INSERT INTO imports.quality_decision (product_id, company_id, content_hash, decision, decided_by)
            VALUES (%s, 'acme', 'h1', %s, 'person')
            ON CONFLICT (product_id) DO UPDATE SET decision = excluded.decision, decided_at = clock_timestamp()""",
            (product_id, decision),
        )

    async def found(self, query: str, *, company: str = "acme", limit: int = 50) -> list[str]:
        """Ids that the index itself finds, best first."""
        return [hit.product_id for hit in await self.index.matching(company, query, limit=limit)]

    async def version(self, company: str = "acme") -> int:
        """The catalogue's version; 0 where it has none."""
        rows = await self.execute(
            "SELECT version FROM imports.catalogue_version WHERE company_id = %s", (company,)
        )
        return rows[0][0] if rows else 0

    async def execute(self, statement: str, parameters: Sequence[Any] | Collection[Any] = ()) -> list[Any]:
        async with self.database.connection() as connection:
            cursor = await connection.execute(statement, tuple(parameters))
            return await cursor.fetchall() if cursor.description else []


async def write_outside(database: Database, products: Sequence[StepProduct]) -> None:
    """Write documents in a transaction that is rolled back, as that of a worker that lost its claim."""

    async with database.connection() as connection, connection.transaction(force_rollback=True):
        await write_documents(
            connection, [replace(one, content_hash=f"state {one.content_hash}") for one in products]
        )
