"""Products upserted per second through the worker's page commit, beside raw COPY + upsert of the same rows.

The page commit also checks the claim, replaces item errors and writes the checkpoint. The raw reference
copies the same rows into a temporary table and upserts from it, once in pages of the same size, once in
one piece. Run with `python -m bench products`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from uuid import uuid4

import msgspec

from bench.places import state_folder
from bench.table import median_of, print_table
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite, ProductWrite
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.jobs import Checkpoint, Claim, JobRequest, Message, Progress
from import_core.domain.products import MappedProduct, MappedVariant, content_hash
from import_local.parts.postgres import PostgresServer

PRODUCTS = 5_000
PAGE = 50
ROUNDS = 5
COLUMNS = (
    'id, "companyId", "externalId", "importSource", title, description, sku, price, vendor, "productType", status,'
    ' tags, variants, "contentHash"'
)
MERGE = f"""
INSERT INTO "Product" ({COLUMNS}) SELECT {COLUMNS} FROM staged
ON CONFLICT ("companyId", "externalId", "importSource") DO UPDATE SET
    title = excluded.title, description = excluded.description, sku = excluded.sku, price = excluded.price,
    vendor = excluded.vendor, "productType" = excluded."productType", status = excluded.status,
    tags = excluded.tags, variants = excluded.variants, "contentHash" = excluded."contentHash"
"""


def products(version: int) -> list[MappedProduct]:
    """A catalogue; another version differs in every price."""
    return [
        MappedProduct(
            external_id=f"gid://shopify/Product/{number}",
            title=f"Product {number}",
            description="<p>A sentence that says what this product is and why one should buy it.</p>" * 8,
            sku=f"SKU-{number}",
            price=Decimal(number + version) / 100,
            vendor="Acme",
            product_type="Coffee",
            status="ACTIVE",
            tags=("new", "sale"),
            variants=tuple(
                MappedVariant(
                    f"gid://shopify/ProductVariant/{number}-{size}", title=size, price=Decimal(number)
                )
                for size in ("S", "M", "L")
            ),
        )
        for number in range(PRODUCTS)
    ]


async def claim_job(database: Database, company: str) -> Claim:
    """A claimed job of a company."""
    job_id = uuid4().hex
    await JobStore(database).record([JobRequest(job_id, company, "bench", "bench", {})])
    async with database.connection() as connection:
        await connection.execute(
            'UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() WHERE id = %s', (job_id,)
        )
    claim = await ClaimStore(database).claim(Message(job_id, 1), worker_id="bench", lease_seconds=3600)
    if claim is None:
        raise RuntimeError("the job could not be claimed")
    return claim


async def commit_pages(database: Database, company: str, catalogue: Sequence[MappedProduct]) -> None:
    """What the worker does with pages whose products are all new or changed."""
    store, claim = CatalogueStore(database), await claim_job(database, company)
    for start in range(0, len(catalogue), PAGE):
        page = catalogue[start : start + PAGE]
        ids = [product.external_id for product in page]
        await store.known(company, "shopify", ids)
        writes = [ProductWrite(product, content_hash(product, ())) for product in page]
        checkpoint = Checkpoint(
            cursor={"after": start}, progress=Progress(products_imported=start), pages=start
        )
        await store.commit_page(claim, PageWrite("shopify", ids, writes, [], [], checkpoint))


async def copy_and_merge(
    database: Database, company: str, catalogue: Sequence[MappedProduct], *, piece: int
) -> None:
    """The reference: COPY into a temporary table, one statement from there, a transaction for each piece."""
    async with database.connection() as connection:
        await connection.execute(f'CREATE TEMP TABLE staged AS SELECT {COLUMNS} FROM "Product" LIMIT 0')
        for start in range(0, len(catalogue), piece):
            async with connection.transaction(), connection.cursor() as cursor:
                async with cursor.copy(f"COPY staged ({COLUMNS}) FROM STDIN") as copy:
                    for product in catalogue[start : start + piece]:
                        await copy.write_row(_row(company, product))
                await cursor.execute(MERGE)
                await cursor.execute("TRUNCATE staged")
        await connection.execute("DROP TABLE staged")


def _row(company: str, product: MappedProduct) -> tuple[object, ...]:
    return (
        str(uuid4()),
        company,
        product.external_id,
        "shopify",
        product.title,
        product.description,
        product.sku,
        product.price,
        product.vendor,
        product.product_type,
        product.status,
        list(product.tags),
        msgspec.json.encode(product.variants).decode(),
        content_hash(product, ()),
    )


async def main() -> None:
    """Start PostgreSQL, measure in turns, print."""
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        server = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
        await server.start()
        try:
            url = await server.create_database("bench")
            await migrate(url)
            database = Database(url, application="bench")
            await database.open(wait_seconds=10)
            rates = await _measure(database)
            await database.close()
        finally:
            await server.stop()
    _report(rates)


async def _measure(database: Database) -> dict[str, list[float]]:
    ways: dict[str, Callable[[str, Sequence[MappedProduct]], Awaitable[None]]] = {
        f"raw COPY + upsert, {PAGE} rows a transaction": lambda company, rows: copy_and_merge(
            database, company, rows, piece=PAGE
        ),
        f"page commits of {PAGE} products": lambda company, rows: commit_pages(database, company, rows),
        "raw COPY + upsert in one transaction": lambda company, rows: copy_and_merge(
            database, company, rows, piece=PRODUCTS
        ),
    }
    rates: dict[str, list[float]] = {f"{name}, {kind}": [] for kind in ("new", "changed") for name in ways}
    for turn in range(ROUNDS + 1):
        for kind, version in (("new", 0), ("changed", 1)):
            catalogue = products(version)
            for number, (name, way) in enumerate(ways.items()):
                start = time.perf_counter()
                await way(f"company-{turn}-{number}", catalogue)
                if turn:  # the first round warms up
                    rates[f"{name}, {kind}"].append(PRODUCTS / (time.perf_counter() - start))
    return rates


def _report(rates: dict[str, list[float]]) -> None:
    rows = []
    for name, values in rates.items():
        reference = rates[f"raw COPY + upsert, {PAGE} rows a transaction, {name.rsplit(', ', 1)[1]}"]
        ratios = [one / other for one, other in zip(values, reference, strict=True)]
        rows.append((name, median_of(values), median_of(ratios)))
    print(f"{PRODUCTS:,} products of 3 variants, {ROUNDS} interleaved rounds, one connection\n")
    print_table(("products", "per second", "÷ raw of the same page size"), rows)
