"""What every full-text search index offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from import_core.adapters.postgres.pool import Connection
from import_core.domain.steps import StepProduct


@dataclass(frozen=True, slots=True)
class TextHit:
    """A product that matches a query; `score` compares hits of one answer only."""

    product_id: str
    score: float


class SearchIndex(Protocol):
    """Every method raises DependencyUnavailableError (or a subclass) when the index does not answer."""

    async def put(self, products: Sequence[StepProduct]) -> None:
        """Insert or exchange products, outside PostgreSQL; does nothing where `write` keeps them."""

    async def write(self, connection: Connection, products: Sequence[StepProduct]) -> None:
        """The part of it that belongs into the caller's transaction; does nothing where the index is not PostgreSQL."""

    async def remove(self, products: Sequence[StepProduct]) -> None:
        """Forget products, outside PostgreSQL; unknown ones are ignored, and those that were put in a later version.

        Does nothing where `forget` does it.
        """

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        """The part of it that belongs into the caller's transaction: they count as indexed no more."""

    async def matching(self, company_id: str, query: str, *, limit: int) -> list[TextHit]:
        """The company's products that match the words of a person's query, best first."""

    async def aclose(self) -> None:
        """Close its connections."""
