"""Indexes that behave as a test wants: by meaning without a model, and out of order."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from import_core.adapters.postgres.pool import Connection
from import_core.adapters.search.base import TextHit
from import_core.adapters.search.merged import VectorSearch
from import_core.adapters.vectors.base import ProductVectors, VectorHit
from import_core.domain.steps import StepProduct


@dataclass
class FixedEmbedder:
    """An Embedder whose vectors nobody looks at; `fails` is raised instead."""

    checksum: str = "model-1"
    fails: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def embed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += texts
        if self.fails is not None:
            raise self.fails
        return [[1.0] for _ in texts]

    async def embed_images(self, images: Sequence[bytes]) -> list[list[float] | None]:
        return [None for _ in images]

    async def aclose(self) -> None:
        pass


@dataclass
class FixedVectors:
    """A VectorIndex that always finds the same."""

    name = "fixed"
    hits: list[tuple[str, float]] = field(default_factory=list)
    hangs: bool = False
    models: list[str | None] = field(default_factory=list)
    """Whose vectors were asked for."""

    async def put(self, vectors: Sequence[ProductVectors]) -> None:
        raise NotImplementedError

    async def write(self, connection: Connection, vectors: Sequence[ProductVectors]) -> None:
        raise NotImplementedError

    async def remove(self, versions: Mapping[str, int]) -> None:
        raise NotImplementedError

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        raise NotImplementedError

    async def nearest(
        self, company_id: str, vector: Sequence[float], *, limit: int, model_checksum: str | None = None
    ) -> list[VectorHit]:
        self.models.append(model_checksum)
        if self.hangs:
            await asyncio.Event().wait()
        return [VectorHit(*hit) for hit in self.hits[:limit]]

    async def aclose(self) -> None:
        pass


@dataclass
class BrokenText:
    """A SearchIndex that raises."""

    error: Exception

    async def put(self, products: Sequence[StepProduct]) -> None:
        raise self.error

    async def write(self, connection: Connection, products: Sequence[StepProduct]) -> None:
        raise self.error

    async def remove(self, products: Sequence[StepProduct]) -> None:
        raise self.error

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        raise self.error

    async def matching(self, company_id: str, query: str, *, limit: int) -> list[TextHit]:
        raise self.error

    async def aclose(self) -> None:
        pass


def by_meaning(*hits: tuple[str, float], **more: object) -> VectorSearch:
    """A search by meaning that finds `hits`."""
    return VectorSearch(embedder=FixedEmbedder(), index=FixedVectors(list(hits), **more))  # type: ignore[arg-type]
