"""The step index-product: what it tells of each product, and what it leaves to the transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.search.base import TextHit
from import_core.adapters.search.settings import SearchSettings
from import_core.domain.errors import ProductsRefusedError, SearchUnavailableError
from import_core.domain.steps import StepDone, StepFailed, StepKind, StepProduct
from import_worker.steps.base import Step
from import_worker.steps.indexing import IndexStep, make_step

PRODUCTS = [StepProduct(one, "acme", "h", "Shirt") for one in ("a", "b")]


@dataclass
class Index:
    """A SearchIndex in memory."""

    fails: Exception | None = None
    taken: list[str] = field(default_factory=list)
    closed: bool = False

    async def put(self, products: Sequence[StepProduct]) -> None:
        if self.fails is not None:
            raise self.fails
        self.taken += [product.product_id for product in products]

    async def write(self, connection: Connection, products: Sequence[StepProduct]) -> None:
        raise AssertionError("written outside the transaction")

    async def remove(self, products: Sequence[StepProduct]) -> None:
        raise AssertionError

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        raise AssertionError("written outside the transaction")

    async def matching(self, company_id: str, query: str, *, limit: int) -> list[TextHit]:
        raise AssertionError

    async def aclose(self) -> None:
        self.closed = True


class Decisions:
    """Of quality control, in memory."""

    def __init__(self, *withheld: str) -> None:
        self._withheld = set(withheld)

    async def withheld(self, product_ids: Sequence[str]) -> set[str]:
        return self._withheld & set(product_ids)

    async def withheld_in(self, connection: Connection, product_ids: Sequence[str]) -> set[str]:
        raise AssertionError("read outside the transaction")


@dataclass
class Removing(Index):
    """An index that forgets as well."""

    removed: list[str] = field(default_factory=list)

    async def remove(self, products: Sequence[StepProduct]) -> None:
        self.removed += [product.product_id for product in products]


async def test_what_is_archived_or_not_approved_any_more_is_taken_out() -> None:
    index = Removing()
    archived = StepProduct("c", "acme", "h", "Shirt", status="archived")
    step = IndexStep(index, index_name="x", decisions=Decisions("b"))
    batch = await step.run([*PRODUCTS, archived])
    assert (index.taken, index.removed) == (["a"], ["b", "c"])
    assert batch.outcomes == [
        StepDone("a", {"index": "x"}),
        StepDone("b", {"index": "x", "removed": True}),
        StepDone("c", {"index": "x", "removed": True}),
    ]


async def test_products_are_put_at_once_and_written_with_the_claim() -> None:
    index = Index()
    step: Step = IndexStep(index, index_name="postgres", decisions=Decisions())
    batch = await step.run(PRODUCTS)
    assert step.kind is StepKind.INDEX
    assert batch.outcomes == [StepDone(one, {"index": "postgres"}) for one in ("a", "b")]
    assert (index.taken, batch.write is not None) == (["a", "b"], True)
    await step.aclose()
    assert index.closed


async def test_a_refused_product_fails_for_good_and_alone() -> None:
    step = IndexStep(
        Index(fails=ProductsRefusedError({"b": "mapper_parsing_exception: why"})),
        index_name="x",
        decisions=Decisions(),
    )
    batch = await step.run(PRODUCTS)
    assert batch.outcomes == [
        StepDone("a", {"index": "x"}),
        StepFailed("b", "SearchRefused", "mapper_parsing_exception: why", retryable=False),
    ]


async def test_an_index_that_is_away_fails_the_batch() -> None:
    with pytest.raises(SearchUnavailableError):
        await IndexStep(Index(fails=SearchUnavailableError()), index_name="x", decisions=Decisions()).run(
            PRODUCTS
        )


async def test_the_step_is_made_of_the_workers_settings() -> None:
    @dataclass
    class Context:
        settings: SearchSettings
        database: Database

    database = Database("postgresql://nobody:x@127.0.0.1:1/none", application="tests", minimum=0)
    batch = await (await make_step(Context(SearchSettings(), database))).run([])
    assert batch.outcomes == []
