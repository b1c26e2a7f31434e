"""The step generate-embedding and archived products: what is taken out at once, and what with the claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from import_core.adapters.postgres.pool import Connection
from import_core.adapters.vectors.base import ProductVectors, VectorHit
from import_core.domain.steps import StepDone, StepProduct
from import_worker.steps.embedding import EmbeddingStep


class Embedder:
    """A model that knows one vector."""

    checksum = "0123456789abcdef"

    async def embed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    async def embed_images(self, images: Sequence[bytes]) -> list[list[float] | None]:
        return [None for _ in images]

    async def aclose(self) -> None: ...


@dataclass
class Index:
    """A VectorIndex that notes what it is told, in its order."""

    name: str = "noting"
    told: list[tuple[str, Any]] = field(default_factory=list)

    async def put(self, vectors: Sequence[ProductVectors]) -> None:
        self.told.append(("put", {one.product_id: one.version for one in vectors}))

    async def write(self, connection: Connection, vectors: Sequence[ProductVectors]) -> None:
        self.told.append(("write", [one.product_id for one in vectors]))

    async def remove(self, versions: Mapping[str, int]) -> None:
        self.told.append(("remove", dict(versions)))

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        self.told.append(("forget", list(product_ids)))

    async def current(self, states: Mapping[str, str], *, model_checksum: str) -> frozenset[str]:
        assert "gone" not in states
        return frozenset()

    async def nearest(
        self, company_id: str, vector: Sequence[float], *, limit: int, model_checksum: str | None = None
    ) -> list[VectorHit]:
        raise AssertionError

    async def check(self) -> None: ...

    async def aclose(self) -> None: ...


@dataclass
class Transaction:
    """A transaction that notes the values of its statements."""

    told: list[Sequence[object]] = field(default_factory=list)

    async def execute(self, statement: str, values: Sequence[object]) -> None:
        self.told.append(values)


class NoImages:
    async def get(self, key: str, *, at_most: int | None = None) -> bytes | None:
        raise AssertionError


async def test_archived_products_lose_their_vectors_and_the_others_get_theirs() -> None:
    index = Index()
    step = EmbeddingStep(Embedder(), index, NoImages())
    batch = await step.run(
        [
            StepProduct("gone", "acme", "h", "Mug", status="ARCHIVED", version=7),
            StepProduct("stays", "acme", "h", "Cup", status="active", version=8),
        ]
    )
    setup = {"model": "0123456789ab", "index": "noting"}
    assert batch.outcomes == [
        StepDone("gone", {**setup, "removed": True}),
        StepDone("stays", {**setup, "image": None}),
    ]
    assert index.told == [("remove", {"gone": 7}), ("put", {"stays": 8})]
    assert batch.write is not None
    transaction = Transaction()
    await batch.write(cast("Connection", transaction))
    assert transaction.told == [("0123456789ab", "noting")], "who embeds now"
    assert index.told[2:] == [("forget", ["gone"]), ("write", ["stays"])]
