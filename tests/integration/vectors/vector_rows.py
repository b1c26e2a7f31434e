"""Vectors of the tests' own making, and the way that a worker writes them."""

import math
import random
from dataclasses import dataclass

from import_core.adapters.postgres import Database
from import_core.adapters.vectors.base import DIMENSIONS, ProductVectors, VectorIndex

Vector = list[float]


def vector(seed: object, *, near: Vector | None = None, distance: float = 0.1) -> Vector:
    """A direction of its own for each seed; with `near`, one beside that."""
    draw = random.Random(str(seed))
    numbers = [draw.gauss(0, 1) for _ in range(DIMENSIONS)]
    if near is not None:
        numbers = [
            one + distance * other / math.sqrt(DIMENSIONS) for one, other in zip(near, numbers, strict=True)
        ]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]


def vectors(
    product_id: str,
    *,
    company: str = "acme",
    text: Vector | None = None,
    image: Vector | None = None,
    state: str = "state-1",
    model: str = "model-1",
    version: int = 0,
) -> ProductVectors:
    return ProductVectors(product_id, company, state, model, text or vector(product_id), image, version)


@dataclass
class Kept:
    """An index and the way that a worker writes to it."""

    index: VectorIndex
    database: Database

    async def keep(self, *given: ProductVectors) -> None:
        """As a step does: outside first, then inside the transaction that marks it as done."""
        await self.index.put(given)
        async with self.database.transaction(timeout_seconds=15) as connection:
            await self.index.write(connection, given)

    async def remove(self, *product_ids: str, version: int = 0) -> None:
        """The same for products that lose their vectors."""
        await self.index.remove(dict.fromkeys(product_ids, version))
        async with self.database.transaction(timeout_seconds=15) as connection:
            await self.index.forget(connection, product_ids)

    async def found(
        self, company: str, near: Vector, *, limit: int = 10, model: str | None = None
    ) -> list[str]:
        hits = await self.index.nearest(company, near, limit=limit, model_checksum=model)
        assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
        return [hit.product_id for hit in hits]
