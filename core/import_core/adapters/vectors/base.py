"""What every vector index offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from import_core.adapters.postgres.pool import Connection

DIMENSIONS = 768


@dataclass(frozen=True, slots=True)
class ProductVectors:
    """The embeddings of one product in one state; each has DIMENSIONS numbers and length 1."""

    product_id: str
    company_id: str
    content_hash: str
    model_checksum: str
    text: Sequence[float]
    image: Sequence[float] | None
    version: int = 0
    """The product's, which only goes up (`StepProduct.version`)."""


@dataclass(frozen=True, slots=True)
class VectorHit:
    """A product near a vector; `similarity` is the cosine, 1 for the same direction."""

    product_id: str
    similarity: float


def check_dimensions(vectors: ProductVectors) -> ProductVectors:
    """The same. Raises ValueError for vectors of another size: a mistake of the program."""
    for vector in (vectors.text, vectors.image):
        if vector is not None and len(vector) != DIMENSIONS:
            raise ValueError(f"product {vectors.product_id}: {len(vector)} numbers and not {DIMENSIONS}")
    return vectors


class VectorIndex(Protocol):
    """Every method raises DependencyUnavailableError (or a subclass) when the index does not answer."""

    name: str
    """Kept with each product's step: what is in an index of another name is embedded again."""

    async def put(self, vectors: Sequence[ProductVectors]) -> None:
        """Insert or exchange the vectors of products, outside PostgreSQL, unless those of a later version are kept.

        Does nothing where `write` keeps them.
        """

    async def write(self, connection: Connection, vectors: Sequence[ProductVectors]) -> None:
        """The part of it that belongs into the caller's transaction; does nothing where the index is not PostgreSQL."""

    async def remove(self, versions: Mapping[str, int]) -> None:
        """Forget products (id → version) outside PostgreSQL, unless a later version is kept; ignores unknown ones.

        Does nothing where `forget` does it.
        """

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        """The part of it that belongs into the caller's transaction; does nothing where the index is not PostgreSQL."""

    async def current(self, states: Mapping[str, str], *, model_checksum: str) -> frozenset[str]:
        """Those products (id → content hash) whose vectors of this state, by this model, are kept."""

    async def nearest(
        self, company_id: str, vector: Sequence[float], *, limit: int, model_checksum: str | None = None
    ) -> list[VectorHit]:
        """The company's products whose text or image is nearest, best first; of one model where it is given."""

    async def check(self) -> None:
        """Prove that it can be used, and set up what it can set up by itself."""

    async def aclose(self) -> None:
        """Close its connections."""
