"""What is kept beside products' rows and goes with them: the platform deletes products, and tells nobody."""

from __future__ import annotations

from collections.abc import Sequence

from import_core.adapters.postgres.pool import Connection

# Each by its key, whose order is that in which others lock several rows of the table.
_OF_PRODUCTS = (
    """DELETE FROM imports.quality_decision WHERE product_id = ANY(ARRAY(
        SELECT product_id FROM imports.quality_decision WHERE product_id = ANY(%s) ORDER BY product_id FOR UPDATE))""",
    """DELETE FROM imports.quality_person WHERE (product_id, content_hash) IN (
        SELECT product_id, content_hash FROM imports.quality_person WHERE product_id = ANY(%s)
        ORDER BY product_id, content_hash FOR UPDATE)""",
    """DELETE FROM imports.search_document WHERE product_id = ANY(ARRAY(
        SELECT product_id FROM imports.search_document WHERE product_id = ANY(%s) ORDER BY product_id FOR UPDATE))""",
)
_KEEPS_EMBEDDINGS = "SELECT to_regclass('imports.product_embedding') IS NOT NULL"
_EMBEDDINGS = """
DELETE FROM imports.product_embedding WHERE (product_id, kind) IN (
    SELECT product_id, kind FROM imports.product_embedding WHERE product_id = ANY(%s)
    ORDER BY product_id, kind FOR UPDATE)
"""


async def forget_products(connection: Connection, product_ids: Sequence[str]) -> None:
    """Delete decisions, words and embeddings of products that are gone, inside the caller's transaction.

    The caller has locked or deleted their steps, as all do who write what is deleted here. What another search or
    vector index keeps of them stays there, and is shown to nobody.
    """
    ids = sorted(set(product_ids))
    if not ids:
        return
    for statement in _OF_PRODUCTS:
        await connection.execute(statement, (ids,))
    row = await (await connection.execute(_KEEPS_EMBEDDINGS)).fetchone()
    if row is not None and row[0]:
        await connection.execute(_EMBEDDINGS, (ids,))
