"""A product whose source is as it was when its row was written is not mapped again, and in any doubt it is."""

from typing import Any

import pytest

from import_core.adapters.postgres.catalogue import KnownProduct
from import_core.domain.mapping import compile_mapping
from import_core.domain.products import KnownSource, Page, SourceImage, SourceProduct
from import_worker.pipeline.planning import is_outdated
from import_worker.pipeline.products import ImageOptions, MappedPage, map_page

MAPPING = compile_mapping("shopify")
OPTIONS = ImageOptions(per_product=1)


def source(*urls: str, number: str = "1", **document: Any) -> SourceProduct:
    images = tuple(SourceImage(url) for url in urls or ("https://cdn.example/1.jpg",))
    return SourceProduct(number, {"id": number, "title": "Tea", **document}, images)


async def mapped(*products: SourceProduct, known: Any = (), fingerprint: str = "f") -> MappedPage:
    page = Page(products, cursor=None)
    return await map_page(page, MAPPING, OPTIONS, fingerprint=fingerprint, known=dict(known))


async def written(*products: SourceProduct) -> dict[str, KnownSource]:
    """What the rows say once these products are written."""
    page = await mapped(*products)
    return {
        item.external_id: KnownSource(item.content_hash, item.write.source_hash)
        for item in page.items
        if item.write is not None and item.write.source_hash is not None
    }


async def test_a_source_that_is_as_it_was_is_not_mapped_and_its_images_are_looked_at() -> None:
    before = await mapped(source("https://cdn.example/1.jpg", "https://cdn.example/2.jpg"))
    known = await written(source("https://cdn.example/1.jpg", "https://cdn.example/2.jpg"))
    page = await mapped(source("https://cdn.example/1.jpg", "https://cdn.example/2.jpg"), known=known)
    (item,) = page.items
    assert item.write is None
    (first,) = before.items
    assert (item.external_id, item.content_hash) == (first.external_id, first.content_hash)
    assert (item.images, item.listed) == (first.images, first.listed)


async def test_what_is_wrong_with_its_images_is_said_again() -> None:
    odd = source("https://cdn.example/" + "a" * 3000)
    page = await mapped(odd, known=await written(odd))
    assert [item.write for item in page.items] == [None]
    assert [error.reason for error in page.errors] == ["InvalidUrl"]


@pytest.mark.parametrize(
    "changed",
    [
        source(title="Coffee"),
        source(title="Tea", updatedAt="2026-01-02"),
        source("https://cdn.example/other.jpg"),
        source(tags=[]),
        source(number="2"),
    ],
)
async def test_a_source_that_changed_is_mapped(changed: SourceProduct) -> None:
    page = await mapped(changed, known=await written(source()))
    assert all(item.write is not None for item in page.items)


@pytest.mark.parametrize(("before", "after"), [(1, 1.0), (True, 1), (None, float("nan")), ("1", 1)])
async def test_values_that_only_look_alike_differ(before: Any, after: Any) -> None:
    page = await mapped(source(odd=after), known=await written(source(odd=before)))
    assert page.items[0].write is not None


async def test_other_settings_map_everything() -> None:
    page = await mapped(source(), known=await written(source()), fingerprint="other")
    assert page.items[0].write is not None


async def test_a_row_that_something_else_wrote_since_is_mapped() -> None:
    known = await written(source())
    by_others = {"1": known["1"]._replace(content_hash="f" * 64)}
    assert (await mapped(source(), known=by_others)).items[0].write is not None


async def test_a_source_that_stopped_to_fit_fails_though_its_row_stands() -> None:
    known = await written(source())
    page = await mapped(source(title=""), known=known)
    assert (page.items, page.failed) == ((), ("1",))
    assert (await mapped(source(), known=known)).items[0].write is None


async def test_a_document_without_a_hash_is_mapped_each_time() -> None:
    odd = source(vendor="\ud83d")
    assert await written(odd) == {}
    assert (await mapped(odd)).items[0].write is not None


async def test_of_a_product_that_comes_twice_the_last_word_counts() -> None:
    known = await written(source())
    page = await mapped(source(title="Coffee"), source(), known=known)
    assert [item.write for item in page.items] == [None]
    page = await mapped(source(), source(title="Coffee"), known=known)
    assert [item.write is None for item in page.items] == [False]


async def test_a_row_that_changed_after_it_was_asked_for_outdates_the_page() -> None:
    known = await written(source())
    page = await mapped(source(), source(number="2"), known=known)
    row = KnownProduct("row", known["1"].content_hash)
    assert not is_outdated(page, {"1": row})
    assert is_outdated(page, {})
    assert is_outdated(page, {"1": KnownProduct("row", None)})
    assert is_outdated(page, {"1": KnownProduct("row", "f" * 64)})
