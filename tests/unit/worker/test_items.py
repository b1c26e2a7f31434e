"""The retry of failed items, decided without any database: the place, the errors that stay, the last words."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from import_core.adapters.postgres.catalogue import (
    ItemErrorRestatement,
    ItemErrorWrite,
    ItemsLeft,
    KnownProduct,
    PageWrite,
)
from import_core.domain.errors import CatalogueIncompleteError, EveryProductFailedError, HandBackError
from import_core.domain.images import FailedImage, ImageResult
from import_core.domain.item_errors import GONE_FROM_SOURCE, EarlierFailure
from import_core.domain.jobs import Checkpoint, Claim, ItemsPlace, JobRow, JobState, Progress
from import_core.domain.mapping import compile_mapping
from import_core.domain.products import Page, ProductFailure, SourceImage, SourceProduct
from import_core.observability.metrics import WorkerMetrics
from import_worker.pipeline.items import ItemsImport, as_retry, conclude, ids_of, place_of, reached_place
from import_worker.pipeline.pages import LiveProgress
from import_worker.pipeline.planning import ImportedItem, plan_page
from import_worker.pipeline.products import ImageOptions, map_page

PLACE = ItemsPlace("run-1", "a")
NOTHING_LEFT = ItemsLeft(unidentified=0, gone=0, has_seen=False)
BEFORE = Checkpoint(
    cursor=None,
    progress=Progress(
        products_total=5, products_imported=3, products_failed=2, images_total=3, images_failed=1
    ),
    pages=4,
    items=PLACE,
)


@pytest.mark.parametrize(
    ("answered", "after", "done"),
    [
        ([], "a", ()),
        (["b"], "b", ()),
        (["b", "c", "d"], "d", ()),
        (["c", "d"], "a", ("c", "d")),
        (["b", "d"], "b", ("d",)),
        (["b", "other"], "b", ()),
    ],
)
def test_the_place_stands_before_the_first_that_is_not_answered(
    answered: list[str], after: str, done: tuple[str, ...]
) -> None:
    assert reached_place(PLACE, ["b", "c", "d"], answered) == ItemsPlace("run-1", after, done)


def test_the_place_of_an_earlier_retry_is_not_taken() -> None:
    assert place_of(BEFORE, "run-1") == PLACE
    assert place_of(BEFORE, "run-2") == ItemsPlace("run-2")
    assert place_of(replace(BEFORE, items=None), "run-1") == ItemsPlace("run-1")


def test_a_page_answers_for_its_failures_too() -> None:
    page = Page((SourceProduct("p", {}),), None, failures=(ProductFailure("q", "X", "y"),))
    assert ids_of(page) == ["p", "q"]


async def retried(
    *products: SourceProduct,
    earlier: dict[str, EarlierFailure],
    failures: Any = (),
    results: dict[str, list[ImageResult]] | None = None,
) -> PageWrite:
    page = Page(products, None, failures=failures)
    mapped = await map_page(page, compile_mapping("shopify"), ImageOptions())
    known = KnownProduct("row", None)
    imported = [ImportedItem(item, known, (results or {}).get(item.external_id, [])) for item in mapped.items]
    base = plan_page(
        import_source="shopify",
        page=Page((), cursor=None),
        mapped=mapped,
        imported=imported,
        before=BEFORE,
        options=ImageOptions(),
        records_seen=True,
    )
    return as_retry(base, mapped, imported, earlier, BEFORE)


def product(number: int, *urls: str, **document: Any) -> SourceProduct:
    content = {"id": str(number), "title": f"Product {number}", **document}
    return SourceProduct(str(number), content, tuple(SourceImage(url) for url in urls))


ITSELF = {"1": EarlierFailure("1", is_product=True)}
ITS_IMAGE = {"1": EarlierFailure("1", is_product=False, urls=frozenset({"u"}))}


async def test_a_product_that_succeeds_loses_its_error_and_moves() -> None:
    write = await retried(product(1), earlier=ITSELF)
    assert (write.external_ids, write.errors, write.restated) == (["1"], [], [])
    assert [one.product.external_id for one in write.products] == ["1"]
    progress = write.checkpoint.progress
    assert (progress.products_imported, progress.products_failed, progress.products_total) == (4, 1, 5)


async def test_the_catalogues_place_and_what_was_seen_stay() -> None:
    write = await retried(product(1), earlier=ITSELF)
    assert replace(write.checkpoint, progress=BEFORE.progress) == BEFORE
    assert not write.records_seen


async def test_a_product_that_fails_again_replaces_its_error() -> None:
    write = await retried(product(1, title=""), earlier=ITSELF)
    assert (write.external_ids, write.restated) == (["1"], [])
    assert [(error.stage, error.document) for error in write.errors] == [("map", {"id": "1", "title": ""})]
    assert write.checkpoint.progress == BEFORE.progress


@pytest.mark.parametrize("earlier", [ITSELF, ITS_IMAGE])
async def test_a_product_that_is_gone_keeps_its_items_which_say_so(
    earlier: dict[str, EarlierFailure],
) -> None:
    gone = ProductFailure("1", GONE_FROM_SOURCE, "no more")
    write = await retried(earlier=earlier, failures=(gone,))
    assert (write.external_ids, write.errors) == ([], [])
    assert write.restated == [ItemErrorRestatement("1", GONE_FROM_SOURCE, "no more")]
    assert write.checkpoint.progress == BEFORE.progress


async def test_an_imported_product_that_can_not_be_had_now_stays_imported() -> None:
    write = await retried(product(1, title=""), earlier=ITS_IMAGE)
    assert (write.external_ids, write.errors) == ([], [])
    ((external_id, reason),) = [(one.external_id, one.reason) for one in write.restated]
    assert (external_id, reason) == ("1", "InvalidField")
    assert write.checkpoint.progress == BEFORE.progress


async def test_an_image_that_fails_again_is_one_error_and_counted_once() -> None:
    failed = FailedImage("u", 0, "download", "NotFound", "no")
    write = await retried(product(1, "u"), earlier=ITS_IMAGE, results={"1": [failed]})
    assert write.errors == [
        ItemErrorWrite("1", "download", "NotFound", "no", "u", {"url": "u", "altText": None})
    ]
    assert write.checkpoint.progress == BEFORE.progress


def test_a_job_that_did_not_reach_the_end_of_its_catalogue_stays_failed() -> None:
    for unfinished in (Checkpoint(), replace(BEFORE, cursor={"after": "x"})):
        with pytest.raises(CatalogueIncompleteError, match="retry the job"):
            conclude(unfinished, NOTHING_LEFT)


def test_a_job_without_a_single_product_stays_failed() -> None:
    with pytest.raises(EveryProductFailedError):
        conclude(replace(BEFORE, progress=Progress(products_total=2, products_failed=2)), NOTHING_LEFT)


def test_the_last_words_name_what_is_left() -> None:
    well = replace(BEFORE, progress=Progress(products_total=2, products_imported=2))
    assert conclude(well, NOTHING_LEFT) is None
    said = conclude(BEFORE, ItemsLeft(unidentified=1, gone=2, has_seen=True))
    assert said is not None
    assert said.split("; ")[0] == "2 of 5 products and 1 of 3 images could not be imported"
    for words in ("2 failed products are gone from the source", "1 can't be retried", "were not archived"):
        assert words in said


class Catalogue:
    """Item errors in memory, as the store keeps them: ids that failed."""

    def __init__(self, *failed: str) -> None:
        self.failed = set(failed)
        self.checkpoint = replace(BEFORE, items=None)

    async def failed_products(self, _job_id: str, *, after: str, limit: int) -> list[EarlierFailure]:
        ids = sorted(external_id for external_id in self.failed if external_id > after)
        return [EarlierFailure(external_id, is_product=True) for external_id in ids[:limit]]

    async def items_left(self, _job_id: str) -> ItemsLeft:
        return NOTHING_LEFT

    async def known(self, *_: object, **__: object) -> dict[str, KnownProduct]:
        return {}

    async def commit_page(self, _claim: Claim, page: PageWrite) -> None:
        self.failed -= set(page.external_ids)
        self.failed |= {error.external_id for error in page.errors}
        self.checkpoint = page.checkpoint


class Source:
    """Answers ids in the order of `answers`, a page each; all fail again but the `good` ones."""

    def __init__(self, answers: list[str], good: str = "", *, stops: bool = False) -> None:
        self.answers = answers
        self.good = good
        self.stops = stops
        self.asked: list[str] = []

    async def products(self, external_ids: list[str]) -> AsyncGenerator[Page, None]:
        self.asked += external_ids
        for external_id in self.answers:
            if external_id in external_ids:
                title = "Tea" if external_id in self.good else ""
                document = {"id": external_id, "title": title}
                yield Page((SourceProduct(external_id, document),), None)
        if self.stops:
            raise HandBackError("the limit is used up")


def retry(catalogue: Catalogue, source: Source, run: str = "run-1") -> ItemsImport:
    job = JobRow(
        "job-1",
        "acme",
        "shop",
        JobState.IN_PROGRESS,
        "imports",
        datetime.now(UTC),
        items_only=True,
        items_run=run,
    )
    return ItemsImport(
        claim=Claim("claim", "worker", job, catalogue.checkpoint, 60),
        provider=source,  # type: ignore[arg-type]
        import_source="shopify",
        mapping=compile_mapping("shopify"),
        options=ImageOptions(),
        catalogue=catalogue,  # type: ignore[arg-type]
        images=None,  # type: ignore[arg-type]
        metrics=WorkerMetrics(),
        live=LiveProgress(),
        on_commit=lambda: None,
        connection="shop",
        fingerprint="fingerprint",
    )


async def test_what_was_answered_before_an_interruption_is_not_asked_for_again() -> None:
    catalogue = Catalogue("a", "b", "c", "d", "e")
    with pytest.raises(HandBackError):
        await retry(catalogue, Source(["d", "a", "c"], good="c", stops=True)).run()
    assert catalogue.failed == {"a", "b", "d", "e"}
    assert catalogue.checkpoint.items == ItemsPlace("run-1", "a", ("c", "d"))
    second = Source(["b", "e"], good="e")
    await retry(catalogue, second).run()
    assert second.asked == ["b", "e"]
    assert catalogue.failed == {"a", "b", "d"}
    assert catalogue.checkpoint.progress.products_imported == BEFORE.progress.products_imported + 2
    third = Source(["a", "b", "d"], good="abd")
    await retry(catalogue, third, "run-2").run()
    assert (third.asked, catalogue.failed) == (["a", "b", "d"], set())


async def test_what_a_provider_leaves_unanswered_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("import_worker.pipeline.items.PRODUCTS_PER_READ", 2)
    catalogue = Catalogue("a", "b", "c", "d", "e")
    source = Source(["c", "e"])
    await retry(catalogue, source).run()
    assert source.asked == ["a", "b", "c", "d", "e"]
    assert catalogue.failed == {"a", "b", "c", "d", "e"}


async def test_no_failed_items_are_no_call() -> None:
    source = Source([])
    assert await retry(Catalogue(), source).run() is not None
    assert source.asked == []
