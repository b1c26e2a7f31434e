"""Full text in PostgreSQL: the default search index, written in the transaction that marks the step as done."""

from __future__ import annotations

from collections.abc import Sequence

from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.search_documents import (
    MATCHING,
    forget_documents,
    get_values,
    write_documents,
)
from import_core.adapters.search.base import TextHit
from import_core.domain.search import parse_query
from import_core.domain.steps import StepProduct

RANKED = 5_000
"""Matches of a company that are ranked at most: a word that more products have says little about which is best."""


class PostgresSearchIndex:
    """A SearchIndex in the platform's own database."""

    name = "postgres"

    def __init__(self, database: Database, *, ranked: int = RANKED) -> None:
        self._database = database
        self._ranked = ranked

    async def put(self, products: Sequence[StepProduct]) -> None:
        """Do nothing: `write` keeps them."""

    async def write(self, connection: Connection, products: Sequence[StepProduct]) -> None:
        """Insert or exchange the documents of products that are still as they are given."""
        await write_documents(connection, products)

    async def remove(self, products: Sequence[StepProduct]) -> None:
        """Do nothing: `forget` takes them out."""

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        """Delete the documents of products; unknown ones are ignored."""
        await forget_documents(connection, product_ids)

    async def matching(self, company_id: str, query: str, *, limit: int) -> list[TextHit]:
        """The company's products that match the words of a person's query, best first."""
        asked = parse_query(query)
        if not asked.text:
            return []
        values = get_values(company_id, asked, ranked=self._ranked, limit=limit)
        async with self._database.connection() as connection:
            cursor = await connection.execute(MATCHING, values)
            return [TextHit(product_id, float(score)) for product_id, score in await cursor.fetchall()]

    async def aclose(self) -> None:
        """Do nothing: the database is the caller's."""
