"""What the demo reads from PostgreSQL and S3 to judge itself: the stores' own words, not the operator's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from obstore.store import S3Store

STATES = 'SELECT status, count(*) FROM "ProductImportJob" WHERE "parentId" IS NULL GROUP BY status'
TOTALS = """
SELECT (SELECT count(*) FROM "Product"), (SELECT count(*) FROM "ProductImage"),
       (SELECT count(*) FROM imports.item_error e JOIN "ProductImportJob" j ON j.id = e.job_id)
"""
DURATIONS = """
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(epoch FROM "completedAt" - "startedAt"))
FROM "ProductImportJob" WHERE status = 'COMPLETED' AND "parentId" IS NULL
"""
# xmin is the transaction that wrote a row version: equal before and after means that nothing was written.
VERSIONS = """
SELECT 'Product', p.id, p.xmin::text FROM "Product" p WHERE p."companyId" = %(company)s
UNION ALL
SELECT 'ProductImage', i.id, i.xmin::text FROM "ProductImage" i JOIN "Product" p ON p.id = i."productId"
WHERE p."companyId" = %(company)s
"""
FIRST_JOB_OF_NEW_WORKERS = """
SELECT extract(epoch FROM min(first_job_at) - %(since)s)::float8 FROM imports.worker
WHERE started_at > %(since)s AND first_job_at IS NOT NULL
"""
RECORDED_AT = """
SELECT "createdAt" FROM "ProductImportJob" WHERE "objectName" LIKE %s ORDER BY "createdAt" OFFSET %s LIMIT 1
"""
# A company's products with what decides whether a search shows them, by title.
PRODUCTS = """
SELECT p."externalId", p.title, lower(coalesce(p.status, '')) = 'archived', d.product_id IS NOT NULL, q.decision,
       ARRAY(SELECT reason ->> 'code' FROM jsonb_array_elements(q.reasons) AS reason)
FROM "Product" p LEFT JOIN imports.search_document d ON d.product_id = p.id
LEFT JOIN imports.quality_decision q ON q.product_id = p.id
WHERE p."companyId" = %(company)s ORDER BY p.title, p.id
"""


@dataclass(frozen=True, slots=True)
class StoredObjects:
    """Objects in the bucket; `versions` are (key, time of the last PUT)."""

    images: int
    thumbnails: int
    bytes: int
    versions: frozenset[tuple[str, str]]


async def read_all(database_url: str, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Run one statement with a time limit."""
    async with await psycopg.AsyncConnection.connect(database_url, connect_timeout=5) as connection:
        await connection.execute("SET statement_timeout = '30s'")
        cursor = await connection.execute(statement, parameters)
        return await cursor.fetchall()


async def row_versions(database_url: str, company_id: str) -> frozenset[tuple[str, str, str]]:
    """(table, id, xmin) of every product and image row of a company."""
    rows = await read_all(database_url, VERSIONS, {"company": company_id})
    return frozenset((row[0], row[1], row[2]) for row in rows)


def open_store(environment: Mapping[str, str]) -> S3Store:
    """The bucket that an installation's environment names."""
    return S3Store(
        environment["S3_BUCKET"],
        endpoint=environment["S3_ENDPOINT_URL"],
        access_key_id=environment["AWS_ACCESS_KEY_ID"],
        secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region=environment["AWS_REGION"],
        client_options={"allow_http": True, "timeout": "30s"},
        virtual_hosted_style_request=False,
    )


async def stored_objects(store: S3Store) -> StoredObjects:
    """Count the bucket's images and thumbnails; a thumbnail's key has its size after the hash."""
    images = thumbnails = size = 0
    versions: set[tuple[str, str]] = set()
    async for batch in store.list(prefix="images/"):
        for entry in batch:
            name = entry["path"].rsplit("/", 1)[-1]
            if "_" in name:
                thumbnails += 1
            else:
                images += 1
            size += entry["size"]
            versions.add((entry["path"], str(entry["last_modified"])))
    return StoredObjects(images, thumbnails, size, frozenset(versions))
