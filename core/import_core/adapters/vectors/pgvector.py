"""Embeddings in PostgreSQL with pgvector: written in the transaction that marks the step as done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.vectors.base import ProductVectors, VectorHit, check_dimensions
from import_core.domain.errors import SchemaMismatchError, VectorIndexUnavailableError

WRITTEN_AT_ONCE = 100
"""Vectors in one statement: a megabyte, and half a second of the index's work."""
REMOVED_AT_ONCE = 1000
MOST_HITS = 1000

# In the order of their key, as two writers in different orders would wait for each other.
WRITE = """
INSERT INTO imports.product_embedding (product_id, kind, company_id, content_hash, model_checksum, embedding)
SELECT product_id, kind, company_id, content_hash, model_checksum, embedding::vector
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
    AS given (product_id, kind, company_id, content_hash, model_checksum, embedding)
ORDER BY product_id, kind
ON CONFLICT (product_id, kind) DO UPDATE SET
    company_id = excluded.company_id, content_hash = excluded.content_hash,
    model_checksum = excluded.model_checksum, embedding = excluded.embedding, updated_at = now()
"""
# Of products that had an image and have none now.
FORGET_IMAGES = "DELETE FROM imports.product_embedding WHERE product_id = ANY(%s) AND kind = 'image'"
REMOVE = "DELETE FROM imports.product_embedding WHERE product_id = ANY(%s)"
CURRENT = """
SELECT e.product_id FROM unnest(%s::text[], %s::text[]) AS given (product_id, content_hash)
JOIN imports.product_embedding e ON e.product_id = given.product_id AND e.kind = 'text'
WHERE e.content_hash = given.content_hash AND e.model_checksum = %s
"""
# A product has up to two vectors, so twice as many hold enough products.
NEAREST = """
SELECT product, max(similarity) AS best FROM imports.nearest_embeddings(%s, %s::vector, %s, %s)
GROUP BY product ORDER BY best DESC, product LIMIT %s
"""
CHECK = "SELECT to_regclass('imports.product_embedding') IS NOT NULL"


class PgVectorIndex:
    """Needs the extension vector 0.8 or newer; VectorIndexUnavailableError says so where it is missing."""

    name = "pgvector"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, vectors: Sequence[ProductVectors]) -> None:
        """Nothing: `write` keeps them."""

    async def write(self, connection: Connection, vectors: Sequence[ProductVectors]) -> None:
        """Insert or exchange the vectors in the caller's transaction."""
        newest = {one.product_id: check_dimensions(one) for one in vectors}
        rows = [row for product_id in sorted(newest) for row in _rows(newest[product_id])]
        bare = sorted(product_id for product_id, one in newest.items() if one.image is None)
        async with _told():
            for at in range(0, len(rows), WRITTEN_AT_ONCE):
                columns = zip(*rows[at : at + WRITTEN_AT_ONCE], strict=True)
                await connection.execute(WRITE, [list(column) for column in columns])
            if bare:
                await connection.execute(FORGET_IMAGES, (bare,))

    async def remove(self, versions: Mapping[str, int]) -> None:
        """Nothing: `forget` takes them out."""

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        """Forget products in the caller's transaction; unknown ones are ignored."""
        ids = sorted(product_ids)
        async with _told():
            for at in range(0, len(ids), REMOVED_AT_ONCE):
                await connection.execute(REMOVE, (ids[at : at + REMOVED_AT_ONCE],))

    async def current(self, states: Mapping[str, str], *, model_checksum: str) -> frozenset[str]:
        """Those products whose vectors of this state, by this model, are kept."""
        async with _told(), self._database.connection() as connection:
            cursor = await connection.execute(
                CURRENT, (list(states.keys()), list(states.values()), model_checksum)
            )
            return frozenset(row[0] for row in await cursor.fetchall())

    async def nearest(
        self, company_id: str, vector: Sequence[float], *, limit: int, model_checksum: str | None = None
    ) -> list[VectorHit]:
        """The company's products whose text or image is nearest, best first."""
        limit = max(1, min(limit, MOST_HITS))
        async with _told(), self._database.connection() as connection:
            cursor = await connection.execute(
                NEAREST, (company_id, _literal(vector), 2 * limit, model_checksum, limit)
            )
            return [VectorHit(product, float(best)) for product, best in await cursor.fetchall()]

    async def check(self) -> None:
        """Prove that the table is there."""
        async with _told(), self._database.connection() as connection:
            row = await (await connection.execute(CHECK)).fetchone()
        if row is None or not row[0]:
            raise _missing()

    async def aclose(self) -> None:
        """Nothing: the database is its opener's."""


def _rows(one: ProductVectors) -> list[tuple[Any, ...]]:
    kinds = [("text", one.text)] + ([("image", one.image)] if one.image is not None else [])
    return [
        (one.product_id, kind, one.company_id, one.content_hash, one.model_checksum, _literal(vector))
        for kind, vector in kinds
    ]


def _literal(vector: Sequence[float]) -> str:
    """As pgvector reads it; nine digits are all that a 32-bit number has."""
    return "[" + ",".join(f"{value:.9g}" for value in vector) + "]"


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Say of a missing table, type or function what is missing for it to be there."""
    try:
        yield
    except (
        SchemaMismatchError,
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedFunction,
        psycopg.errors.UndefinedObject,
    ) as error:
        raise _missing() from error


def _missing() -> VectorIndexUnavailableError:
    return VectorIndexUnavailableError(
        "this PostgreSQL keeps no embeddings: it lacks the extension vector (pgvector 0.8 or newer), or was not"
        " migrated since that was added. Install it and let the operator's migration run again, or set"
        " VECTOR_INDEX=milvus"
    )
