"""The step index-product: a product's words go into the search index or out of it; the catalogue's version goes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from import_core.adapters.postgres.catalogue_versions import bump
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.postgres.quality import QualityStore
from import_core.adapters.search.base import SearchIndex
from import_core.adapters.search.opening import open_search_index
from import_core.domain.errors import HandBackError, ProductsRefusedError
from import_core.domain.search import is_archived
from import_core.domain.steps import StepDone, StepFailed, StepKind, StepOutcome, StepProduct
from import_worker.steps.base import StepBatch
from import_worker.steps.registry import StepContext


async def make_step(context: StepContext) -> IndexStep:
    """The step over the index that the settings name. Raises MissingPackageError."""
    settings = context.settings
    return IndexStep(
        open_search_index(settings, context.database),
        index_name=settings.search_index,
        decisions=QualityStore(context.database),
    )


class Decisions(Protocol):
    """What quality control has decided."""

    async def withheld(self, product_ids: Sequence[str]) -> set[str]:
        """Those of the products that were checked and not approved."""

    async def withheld_in(self, connection: Connection, product_ids: Sequence[str]) -> set[str]:
        """The same, inside the transaction that ends the batch."""


class IndexStep:
    """A Step over any SearchIndex; `index_name` is kept with each product, so that one sees where it was indexed.

    A product that is archived or not approved any more comes again, and is taken out.
    """

    kind = StepKind.INDEX

    def __init__(self, index: SearchIndex, *, index_name: str, decisions: Decisions) -> None:
        self._index = index
        self._index_name = index_name
        self._decisions = decisions

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        """Index products. Raises DependencyUnavailableError when the index does not answer.

        Its `write` raises HandBackError where decisions have changed since: the batch runs again by the new ones.
        """
        if not products:
            return StepBatch([])
        ids = [product.product_id for product in products]
        withheld = await self._decisions.withheld(ids)
        removed = withheld | {product.product_id for product in products if is_archived(product.status)}
        if removed:
            await self._index.remove([product for product in products if product.product_id in removed])
        shown = [product for product in products if product.product_id not in removed]
        refused = await self._put(shown) if shown else {}
        taken = [product for product in shown if product.product_id not in refused]

        async def write(connection: Connection) -> None:
            if await self._decisions.withheld_in(connection, ids) != withheld:
                raise HandBackError("Decisions on products of this batch have changed meanwhile.")
            await self._index.forget(connection, sorted(removed))
            await self._index.write(connection, taken)
            # Last, as the company's row stays locked until the transaction ends.
            await bump(connection, {product.company_id for product in products})

        outcomes = [self._outcome(product.product_id, removed, refused) for product in products]
        return StepBatch(outcomes, write)

    def _outcome(self, product_id: str, removed: set[str], refused: Mapping[str, str]) -> StepOutcome:
        if product_id in refused:
            return StepFailed(product_id, ProductsRefusedError.reason, refused[product_id], retryable=False)
        result = {"index": self._index_name}
        return StepDone(product_id, {**result, "removed": True} if product_id in removed else result)

    async def aclose(self) -> None:
        """Close the index's connections."""
        await self._index.aclose()

    async def _put(self, products: Sequence[StepProduct]) -> dict[str, str]:
        try:
            await self._index.put(products)
        except ProductsRefusedError as error:
            return error.refused
        return {}
