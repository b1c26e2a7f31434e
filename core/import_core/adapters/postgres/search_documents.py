"""Documents of the full-text search: which products are indexed in which state, and their words."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from import_core.adapters.postgres.pool import Connection, Database
from import_core.domain.search import SearchQuery, search_text
from import_core.domain.steps import StepProduct

# Only what is so still: the step is asked for just this state of the product, and its row has the text that the words
# were made of. A batch that was overtaken by another import leaves the newer state's document alone.
_AS_GIVEN = """
JOIN imports.product_step s ON s.product_id = r.id AND s.step = 'index-product' AND s.content_hash = r.hash
JOIN "Product" p ON p.id = r.id AND r.text = encode(sha256(convert_to(concat_ws(E'\\n', p.title,
    coalesce(p.description, ''), coalesce(p.vendor, ''), coalesce(p."productType", ''),
    coalesce(array_to_string(p.tags, E'\\n'), '')), 'UTF8')), 'hex')
"""
# Words are folded already, so the configuration needs no dictionary but 'simple'. A company's lexeme has a blank
# before its id, which no word has.
WRITE = f"""
INSERT INTO imports.search_document AS d (product_id, company_id, content_hash, product_hash, words)
SELECT r.id, r.company, r.hash, p."contentHash",
    array_to_tsvector(ARRAY['company ' || r.company])
    || setweight(to_tsvector('simple', r.title), 'A') || setweight(to_tsvector('simple', r.labels), 'B')
    || setweight(to_tsvector('simple', r.tags), 'C') || setweight(to_tsvector('simple', r.description), 'D')
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r
    (id text, company text, hash text, text text, title text, labels text, tags text, description text)
{_AS_GIVEN}
ORDER BY r.id
ON CONFLICT (product_id) DO UPDATE SET
    company_id = excluded.company_id, content_hash = excluded.content_hash, product_hash = excluded.product_hash,
    words = excluded.words, indexed_at = clock_timestamp()
WHERE (d.content_hash, d.product_hash, d.company_id, d.words) IS DISTINCT FROM
      (excluded.content_hash, excluded.product_hash, excluded.company_id, excluded.words)
"""
# That a product is indexed is known here wherever its words are.
WRITE_ELSEWHERE = f"""
INSERT INTO imports.search_document AS d (product_id, company_id, content_hash, product_hash)
SELECT r.id, r.company, r.hash, p."contentHash"
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (id text, company text, hash text, text text)
{_AS_GIVEN}
ORDER BY r.id
ON CONFLICT (product_id) DO UPDATE SET
    company_id = excluded.company_id, content_hash = excluded.content_hash, product_hash = excluded.product_hash,
    words = NULL, indexed_at = clock_timestamp()
"""
STILL_SO = f"""
SELECT p.id FROM jsonb_to_recordset(%(rows)s::jsonb) AS r (id text, hash text, text text)
{_AS_GIVEN}
"""
REMOVE = """
DELETE FROM imports.search_document WHERE product_id = ANY(ARRAY(
    SELECT product_id FROM imports.search_document WHERE product_id = ANY(%s) ORDER BY product_id FOR UPDATE))
"""

# The query's text is one that a person may have written: websearch_to_tsquery takes any. `:*` goes to its last word.
_ASKED = """(nullif(websearch_to_tsquery('simple', %(query)s)::text, '') || %(prefix)s)::tsquery"""
# The company's id is not a person's word: the vector's own text form puts it in quotes.
_OF_COMPANY = "array_to_tsvector(ARRAY['company ' || %(company)s::text])::text::tsquery"
MATCHING = f"""
SELECT m.product_id, ts_rank_cd('{{0.1, 0.3, 0.6, 1.0}}', m.words, {_ASKED}, 1) AS score
FROM (
    SELECT d.product_id, d.words FROM imports.search_document d
    WHERE d.words @@ ({_OF_COMPANY} && {_ASKED}) AND d.company_id = %(company)s
    LIMIT %(ranked)s) m
ORDER BY score DESC, m.product_id LIMIT %(limit)s
"""


def get_values(company_id: str, query: SearchQuery, *, ranked: int, limit: int) -> dict[str, Any]:
    """Parameters of MATCHING; `ranked` matches are ranked at most."""
    prefix = ":*" if query.unfinished else ""
    return {"company": company_id, "query": query.text, "prefix": prefix, "ranked": ranked, "limit": limit}


async def write_documents(connection: Connection, products: Sequence[StepProduct]) -> None:
    """Insert or exchange the documents of products that are still as they are given, in the caller's transaction."""
    rows = await asyncio.to_thread(_encode, products)
    await connection.execute(WRITE, {"rows": rows})


async def write_elsewhere(connection: Connection, products: Sequence[StepProduct]) -> None:
    """Note that products are indexed in another search index, in the caller's transaction."""
    rows = json.dumps([_identity(product) for product in products])
    await connection.execute(WRITE_ELSEWHERE, {"rows": rows})


async def still_so(database: Database, products: Sequence[StepProduct]) -> set[str]:
    """Those of the products that are still as given."""
    rows = json.dumps([_identity(product) for product in products])
    async with database.connection() as connection:
        return {row[0] for row in await (await connection.execute(STILL_SO, {"rows": rows})).fetchall()}


async def forget_documents(connection: Connection, product_ids: Sequence[str]) -> None:
    """Products are indexed no more, in the caller's transaction; unknown ones are ignored."""
    await connection.execute(REMOVE, (sorted(product_ids),))


def _identity(product: StepProduct) -> dict[str, Any]:
    return {
        "id": product.product_id,
        "company": product.company_id,
        "hash": product.content_hash,
        "text": _text_hash(product),
    }


def _text_hash(product: StepProduct) -> str:
    """Of all that words are made of, as _AS_GIVEN calculates it of the row."""
    parts = (
        product.title,
        product.description,
        product.vendor,
        product.product_type,
        "\n".join(product.tags),
    )
    return hashlib.sha256("\n".join(part or "" for part in parts).encode()).hexdigest()


def _encode(products: Sequence[StepProduct]) -> str:
    rows = []
    for product in products:
        words = search_text(product)
        rows.append(
            {
                **_identity(product),
                "title": words.title,
                "labels": words.labels,
                "tags": words.tags,
                "description": words.description,
            }
        )
    return json.dumps(rows)
