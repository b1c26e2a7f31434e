"""Which model and vector index products are embedded with now, and whose embeddings are of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from import_core.adapters.postgres.pool import Connection, Database
from import_core.domain.embedding import EmbeddingSetup, forget_outdated
from import_core.domain.steps import KnownStep

REMEMBER = """
INSERT INTO imports.embedding_setup (model, vector_index) VALUES (%s, %s)
ON CONFLICT (model, vector_index) DO UPDATE SET seen_at = clock_timestamp()
"""
# Only what is old is locked and written: every batch of every worker looks.
STILL = """
UPDATE imports.embedding_setup SET seen_at = clock_timestamp()
WHERE model = %s AND vector_index = %s AND seen_at < clock_timestamp() - interval '1 minute'
"""
# By the key; of setups there are as many as models were ever tried. Where none is known, nothing is outdated.
OUTDATED = """
SELECT s.product_id FROM imports.product_step s,
    (SELECT model, vector_index FROM imports.embedding_setup ORDER BY seen_at DESC LIMIT 1) now
WHERE s.product_id = ANY(%s) AND s.step = 'generate-embedding' AND s.state = 'Done'
  AND (s.result ->> 'model', s.result ->> 'index') IS DISTINCT FROM (now.model, now.vector_index)
"""


async def remember_setup(database: Database, setup: EmbeddingSetup) -> None:
    """Note that a worker embeds with this now. Raises DatabaseUnavailableError."""
    async with database.connection() as connection:
        await connection.execute(REMEMBER, (setup.model, setup.index))


async def still_embedding(connection: Connection, setup: EmbeddingSetup) -> None:
    """Note the same of a worker that goes on, in its batch's transaction: who has gone is then not the newest."""
    await connection.execute(STILL, (setup.model, setup.index))


async def without_outdated(
    connection: Connection, known: Mapping[str, Sequence[KnownStep]]
) -> dict[str, Sequence[KnownStep]]:
    """The rows of products, those as asked for anew whose embedding is of another model or in another index."""
    cursor = await connection.execute(OUTDATED, (list(known),))
    outdated = {row[0] for row in await cursor.fetchall()}
    return {
        product_id: forget_outdated(rows) if product_id in outdated else rows
        for product_id, rows in known.items()
    }
