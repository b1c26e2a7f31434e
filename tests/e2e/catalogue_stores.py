"""What the stores hold of one company after a catalogue sync, and in what that differs from its source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catalogue_comparison import (
    IMAGES,
    PRODUCTS,
    catalogue_of,
    compare_images,
    compare_objects,
    compare_products,
    keys_of,
)
from pymilvus import MilvusClient

from e2e.world import World
from import_core.adapters.search.opensearch import connect
from import_local.samples.catalogue.expected import Provider

# Rows of each store in PostgreSQL, and of how many different products.
HELD = """
SELECT 'product', count(*), count(DISTINCT "externalId") FROM "Product" WHERE "companyId" = %(company)s
UNION ALL SELECT 'photo', count(*), count(DISTINCT "productId") FROM "ProductImage" i
    JOIN "Product" p ON p.id = i."productId" WHERE p."companyId" = %(company)s
UNION ALL SELECT 'decision', count(*), count(DISTINCT product_id) FROM imports.quality_decision
    WHERE company_id = %(company)s
UNION ALL SELECT 'document', count(*), count(DISTINCT product_id) FROM imports.search_document
    WHERE company_id = %(company)s
UNION ALL SELECT decision, count(*), count(DISTINCT product_id) FROM imports.quality_decision
    WHERE company_id = %(company)s GROUP BY decision
"""
PRODUCT_IDS = 'SELECT id FROM "Product" WHERE "companyId" = %s'
APPROVED_IDS = """
SELECT product_id FROM imports.quality_decision WHERE company_id = %s AND decision = 'approved'
"""
EMBEDDED = "SELECT product_id, kind FROM imports.product_embedding WHERE company_id = %s"
WITH_WORDS = "SELECT product_id FROM imports.search_document WHERE company_id = %s AND words IS NOT NULL"
MOST = 1_000
"""Entries that are read of a store; a sync of a test has fewer."""


async def rows_held(world: World, company: str) -> dict[str, tuple[int, int]]:
    """Number of rows and of products of each store in PostgreSQL."""
    rows: Sequence[Any] = await world.sql(HELD.replace("%(company)s", f"'{company}'"))
    return {name: (number, products) for name, number, products in rows}


async def differences(world: World, company: str, *, catalogue: str, kind: Provider) -> list[str]:
    """What PostgreSQL and S3 have otherwise than the source, objects that no row names included, in words."""
    wanted = catalogue_of(catalogue, kind, world.sample_root)
    products = await world.sql(PRODUCTS, [company], kind)
    images = await world.sql(IMAGES, [company], kind)
    named, there = keys_of(images), set(await world.objects(f"images/{company}"))
    return [
        *compare_products(products, wanted, kind),
        *compare_images(images, wanted, kind),
        *await compare_objects(world.store(), images, wanted),
        *(f"object {key} is named by no row" for key in sorted(there - named)),
        *(f"object {key} is not below the company's prefix" for key in sorted(named - there)),
    ]


async def ids_of(world: World, statement: str, company: str) -> list[str]:
    """Ids of products, sorted."""
    return sorted(row[0] for row in await world.sql(statement, company))


async def in_pgvector(world: World, company: str) -> list[tuple[str, str]]:
    """Product and kind of each vector of the company, sorted."""
    return sorted((product_id, kind) for product_id, kind in await world.sql(EMBEDDED, company))


async def in_full_text(world: World, company: str) -> list[str]:
    """Ids of the company's products whose words are in PostgreSQL, sorted."""
    return await ids_of(world, WITH_WORDS, company)


def in_milvus(file: Path) -> list[tuple[str, str]]:
    """Product and kind of each vector in the file, sorted."""
    client = MilvusClient(str(file))
    try:
        client.load_collection("import_products")
        rows = client.query("import_products", filter="", limit=MOST, output_fields=["product_id", "kind"])
        return sorted((row["product_id"], row["kind"]) for row in rows)
    finally:
        client.close()


async def in_opensearch(url: str, index: str, company: str) -> list[str]:
    """Ids of the company's documents, sorted."""
    client = connect(url)
    try:
        body = {"query": {"term": {"company": company}}, "size": MOST, "_source": False}
        answer = await client.search(index=index, body=body)
    finally:
        await client.close()
    return sorted(hit["_id"] for hit in answer["hits"]["hits"])
