"""The retry of failed items, decided without any database: the place, the errors that stay, the last words."""

from dataclasses import replace
from typing import Any

import pytest

from import_core.adapters.postgres.catalogue import (
    ItemErrorRestatement,
    ItemErrorWrite,
    ItemsLeft,
    KnownProduct,
    PageWrite,
)
from import_core.domain.errors import CatalogueIncompleteError, EveryProductFailedError
from import_core.domain.images import FailedImage, ImageResult
from import_core.domain.item_errors import GONE_FROM_SOURCE, EarlierFailure
from import_core.domain.jobs import Checkpoint, ItemsPlace, Progress
from import_core.domain.mapping import compile_mapping
from import_core.domain.products import Page, ProductFailure, SourceImage, SourceProduct
from import_worker.pipeline.items import as_retry, conclude, ids_of, place_of, reached_place
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
    ("answered", "after"),
    [
        ([], "a"),
        (["b"], "b"),
        (["b", "c", "d"], "d"),
        (["c", "d"], "a"),
        (["b", "d"], "b"),
        (["b", "other"], "b"),
    ],
)
def test_the_place_stands_before_the_first_that_is_not_answered(answered: list[str], after: str) -> None:
    assert reached_place(PLACE, ["b", "c", "d"], answered) == ItemsPlace("run-1", after)


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
    imported = [
        ImportedItem(item, known, (results or {}).get(item.product.external_id, [])) for item in mapped.items
    ]
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
