"""What a page changes, decided without any database."""

from dataclasses import replace
from typing import Any

import pytest

from import_core.adapters.postgres.catalogue import ImageTouch, KnownImage, KnownProduct
from import_core.domain.images import FailedImage, ImageResult, StoredImage, UnchangedImage
from import_core.domain.item_errors import NO_EXTERNAL_ID
from import_core.domain.jobs import Checkpoint, Progress
from import_core.domain.mapping import compile_mapping
from import_core.domain.products import Page, ProductFailure, SourceImage, SourceProduct
from import_worker.pipeline.pages import one_ahead, summary, with_removals
from import_worker.pipeline.planning import ImportedItem, counted_before, ended_progress, plan_page
from import_worker.pipeline.products import ImageOptions, MappedPage, map_page

MAPPING = compile_mapping("shopify")


def source(number: int, *urls: str, **document: Any) -> SourceProduct:
    content = {"id": str(number), "title": f"Product {number}", **document}
    return SourceProduct(str(number), content, tuple(SourceImage(url, f"alt {url}") for url in urls))


async def mapped(*products: SourceProduct, failures: Any = (), **options: Any) -> MappedPage:
    page = Page(products, cursor=None, failures=failures)
    return await map_page(page, MAPPING, ImageOptions(**options))


def known_image(url: str, position: int, **values: Any) -> KnownImage:
    defaults: dict[str, Any] = {
        "alt_text": f"alt {url}",
        "etag": '"1"',
        "last_modified": None,
        "key": "key",
        "sha256": "0" * 64,
        "thumbnails": {},
    }
    return KnownImage(source_url=url, position=position, **{**defaults, **values})


def stored(url: str, position: int) -> StoredImage:
    return StoredImage(url, position, "alt", '"2"', None, "1" * 64, "key", "image/png", 1, 2, 3, {})


def unchanged(url: str, position: int, known: KnownImage) -> UnchangedImage:
    return UnchangedImage(url, position, f"alt {url}", known.etag, known.last_modified, known)


def plan(page: MappedPage, entries: list[ImportedItem], *, before: Checkpoint | None = None, **values: Any):
    cursor = values.pop("cursor", {"after": "x"})
    return plan_page(
        import_source="shopify",
        page=Page((), cursor=cursor, total=values.pop("total", None)),
        mapped=page,
        imported=entries,
        before=before or Checkpoint(),
        options=ImageOptions(**values),
    )


async def one(known: KnownProduct | None, results: list[ImageResult], *urls: str, **options: Any):
    page = await mapped(source(1, *urls), **options)
    return plan(page, [ImportedItem(page.items[0], known, results)], **options)


async def test_a_new_product_is_written_with_its_images() -> None:
    write = await one(None, [stored("a", 0), FailedImage("b", 1, "download", "NotFound", "m")], "a", "b")
    assert [product.product.title for product in write.products] == ["Product 1"]
    assert [(image.source_url, image.external_id, image.position) for image in write.images] == [
        ("a", "1", 0)
    ]
    assert [(e.external_id, e.stage, e.reason, e.url) for e in write.errors] == [
        ("1", "download", "NotFound", "b")
    ]
    progress = write.checkpoint.progress
    assert (progress.products_imported, progress.images_total) == (1, 2)
    assert (progress.images_imported, progress.images_failed) == (1, 1)


async def test_an_unchanged_product_writes_nothing() -> None:
    page = await mapped(source(1, "a", "b"))
    images = {"a": known_image("a", 0), "b": known_image("b", 1)}
    row = KnownProduct("row", page.items[0].content_hash, images)
    results = [unchanged(url, position, images[url]) for position, url in enumerate(("a", "b"))]
    write = plan(page, [ImportedItem(page.items[0], row, results)])
    assert (write.products, write.images, write.touched_images, write.removed_images) == ([], [], [], [])
    assert write.checkpoint.progress.products_unchanged == 1
    assert write.checkpoint.progress.images_unchanged == 2


@pytest.mark.parametrize(
    ("change", "touch"),
    [
        ({"position": 3}, ("row", "a", 0, "alt a", '"1"', None)),
        ({"alt_text": "old"}, ("row", "a", 0, "alt a", '"1"', None)),
    ],
)
async def test_a_moved_or_renamed_image_is_touched(change: dict[str, Any], touch: tuple[Any, ...]) -> None:
    image = replace(known_image("a", 0), **change)
    row = KnownProduct("row", None, {"a": image})
    write = await one(row, [unchanged("a", 0, image)], "a")
    assert write.touched_images == [ImageTouch(*touch)]


async def test_newer_validators_are_kept() -> None:
    image = known_image("a", 0)
    result = replace(unchanged("a", 0, image), etag='"9"', last_modified="now")
    write = await one(KnownProduct("row", None, {"a": image}), [result], "a")
    assert [(t.etag, t.last_modified) for t in write.touched_images] == [('"9"', "now")]


async def test_a_known_image_that_failed_stays_and_moves() -> None:
    row = KnownProduct("row", None, {"a": known_image("a", 5)})
    write = await one(row, [FailedImage("a", 0, "download", "Timeout", "m")], "a")
    assert write.removed_images == []
    assert [(t.source_url, t.position, t.etag) for t in write.touched_images] == [("a", 0, '"1"')]


async def test_images_that_the_source_dropped_are_removed() -> None:
    row = KnownProduct("row", None, {"a": known_image("a", 0), "gone": known_image("gone", 1)})
    write = await one(row, [unchanged("a", 0, row.images["a"])], "a")
    assert write.removed_images == [("row", "gone")]


async def test_images_beyond_the_jobs_number_are_kept() -> None:
    row = KnownProduct("row", None, {"b": known_image("b", 1)})
    write = await one(row, [stored("a", 0)], "a", "b", per_product=1)
    assert (write.removed_images, write.touched_images) == ([], [])


async def test_a_job_without_images_leaves_them_alone() -> None:
    row = KnownProduct("row", None, {"a": known_image("a", 7)})
    write = await one(row, [], "b", enabled=False)
    assert (write.removed_images, write.touched_images, write.images) == ([], [], [])


async def test_counters_go_on_from_the_checkpoint() -> None:
    page = await mapped(source(1), source(2, title=""), failures=[ProductFailure("3", "NotFound", "gone")])
    before = Checkpoint(progress=Progress(products_total=9, products_imported=4), pages=2)
    write = plan(page, [ImportedItem(page.items[0], None, ())], before=before)
    after = write.checkpoint
    assert (after.pages, after.cursor) == (3, {"after": "x"})
    assert (after.progress.products_imported, after.progress.products_failed) == (5, 2)
    assert after.progress.products_total == 9
    assert {(e.external_id, e.stage) for e in write.errors} == {("2", "map"), ("3", "fetch")}
    documents = {e.external_id: e.document for e in write.errors}
    assert documents == {"2": {"id": "2", "title": ""}, "3": None}
    assert sorted(write.external_ids) == ["1", "2", "3"]


@pytest.mark.parametrize(("records_seen", "seen"), [(True, 3), (False, 0)])
async def test_products_that_have_an_id_count_as_seen(records_seen: bool, seen: int) -> None:
    """A failed product is at the source, and known to be; one without a readable id could be any."""
    failures = [ProductFailure("3", "NotFound", "gone"), ProductFailure("cursor", NO_EXTERNAL_ID, "no id")]
    page = await mapped(source(1), source(2, title=""), SourceProduct(" ", {"id": " "}), failures=failures)
    write = plan_page(
        import_source="shopify",
        page=Page((), cursor=None),
        mapped=page,
        imported=[ImportedItem(page.items[0], None, ())],
        before=Checkpoint(progress=Progress(products_imported=10, products_seen=10)),
        options=ImageOptions(),
        connection="acme-shopify",
        records_seen=records_seen,
    )
    progress = write.checkpoint.progress
    assert (progress.products_done, progress.products_seen) == (15, 10 + seen)
    assert (write.connection, write.records_seen) == ("acme-shopify", records_seen)
    again = counted_before(Page((), cursor=None, restarted=True), write.checkpoint)
    assert again.progress.products_seen == 0


async def test_a_page_that_starts_the_catalogue_over_counts_anew() -> None:
    before = Checkpoint(
        cursor={"bulk": "b1"},
        progress=Progress(products_total=9, products_imported=8, images_total=5, images_failed=5),
        pages=2,
    )
    again = Page((), cursor={"after": "x"}, restarted=True)
    assert counted_before(again, before) == replace(before, progress=Progress(products_total=9))
    assert counted_before(replace(again, restarted=False), before) is before


async def test_the_last_page_settles_the_total() -> None:
    page = await mapped(source(1))
    write = plan(page, [ImportedItem(page.items[0], None, ())], cursor=None, total=77)
    assert write.checkpoint.progress.products_total == 1
    assert write.checkpoint.progress.percent == 100


async def test_a_product_listed_twice_is_written_once_as_last_seen() -> None:
    page = await mapped(source(1, title="old"), source(2), source(1, title="new"))
    assert [item.write.product.title for item in page.items if item.write] == ["new", "Product 2"]
    assert page.external_ids == ["1", "2"]


async def test_a_product_that_failed_and_then_came_is_no_failure() -> None:
    page = await mapped(source(1), failures=[ProductFailure("1", "NotFound", "gone")])
    assert (page.failed, page.errors) == ((), ())


async def test_unfit_addresses_and_texts_never_reach_the_database() -> None:
    long = "https://x/" + "ü" * 1100
    product = SourceProduct(
        "1",
        {"id": "1", "title": "a\x00b\ud800"},
        (
            SourceImage(long),
            SourceImage("https://x/\x00a", "alt\x00" + "x" * 5000),
            SourceImage("https://x/a"),
        ),
    )
    page = await mapped(product)
    (item,) = page.items
    assert item.write is not None
    assert item.write.product.title == "ab\ufffd"
    assert [image.url for image in item.images] == ["https://x/a"]
    assert len(item.images[0].alt_text or "") == 2000
    assert [(e.stage, e.reason) for e in page.errors] == [("download", "InvalidUrl")]


async def test_at_most_one_page_is_fetched_ahead() -> None:
    fetched: list[int] = []
    closed = False

    async def pages():
        nonlocal closed
        try:
            for number in range(5):
                fetched.append(number)
                yield Page((), cursor={"n": number})
        finally:
            closed = True

    seen = []
    ahead = one_ahead(pages())
    async for page in ahead:
        seen.append(page.cursor)
        assert len(fetched) <= len(seen) + 1
        if len(seen) == 3:
            break
    await ahead.aclose()
    assert (len(seen), closed) == (3, True)


async def test_an_error_of_the_next_page_comes_after_the_page_in_hand() -> None:
    async def pages():
        yield Page((), cursor={"n": 1})
        raise RuntimeError("broken")

    ahead = one_ahead(pages())
    assert (await anext(ahead)).cursor == {"n": 1}
    with pytest.raises(RuntimeError, match="broken"):
        await anext(ahead)


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(), "the catalogue is empty"),
        (Progress(products_imported=3, images_imported=9, images_total=9), None),
        (
            Progress(products_imported=1999, products_failed=1, images_failed=3, images_total=10),
            "1 of 2,000 products and 3 of 10 images could not be imported; see the item errors",
        ),
    ],
)
def test_the_summary_says_what_did_not_work(progress: Progress, text: str | None) -> None:
    assert summary(progress) == text


@pytest.mark.parametrize(
    ("progress", "removed", "wanted"),
    [
        (Progress(products_imported=3), None, None),
        (Progress(products_imported=3), "x", "3 products imported, 0 unchanged; x"),
        (Progress(), "x", "the catalogue is empty; x"),
        (
            Progress(products_imported=3, products_failed=1),
            "x",
            "1 of 4 products could not be imported; see the item errors; x",
        ),
    ],
)
def test_what_was_removed_is_told_with_the_rest(
    progress: Progress, removed: str | None, wanted: str | None
) -> None:
    assert with_removals(progress, removed) == wanted


@pytest.mark.parametrize(
    ("before_total", "total", "cursor", "unlisted"),
    [
        (None, 3, None, 2),
        (3, None, None, 2),  # told by an earlier page
        (9, 1, None, 0),  # the last word counts
        (None, None, None, 0),
        (None, 1, None, 0),
        (None, 9, {"after": "x"}, 0),  # more pages follow
    ],
)
async def test_the_last_page_keeps_how_many_products_were_promised_and_not_listed(
    before_total: int | None, total: int | None, cursor: Any, unlisted: int
) -> None:
    page = await mapped(source(1))
    before = Checkpoint(progress=Progress(products_total=before_total))
    write = plan(page, [ImportedItem(page.items[0], None, [])], before=before, cursor=cursor, total=total)
    assert write.checkpoint.progress.products_unlisted == unlisted
    if cursor is None:
        assert write.checkpoint.progress.products_total == 1


@pytest.mark.parametrize(
    ("progress", "cursor", "unlisted"),
    [
        (Progress(products_total=9, products_imported=4), {"after": "x"}, 5),
        (Progress(products_imported=4), {"after": "x"}, 1),
        (Progress(products_total=4, products_imported=4), {"after": "x"}, 1),
        (Progress(products_total=4, products_imported=4, products_unlisted=2), None, 2),
        (Progress(products_total=9, products_imported=4), None, 5),
    ],
)
def test_a_catalogue_that_ended_without_a_last_page_is_not_whole(
    progress: Progress, cursor: Any, unlisted: int
) -> None:
    ended = ended_progress(Checkpoint(cursor=cursor, progress=progress, pages=2))
    assert (ended.products_total, ended.products_unlisted) == (4, unlisted)


async def test_an_image_that_failed_shows_no_signature() -> None:
    url = "https://files.test/a%20b.png?Expires=9&Signature=secret#top"
    long = f"https://files.test/{'x' * 3000}?Signature=secret"
    page = await mapped(source(1, url, long))
    failed = FailedImage(url, 0, "download", "NotFound", "m")
    write = plan(page, [ImportedItem(page.items[0], None, [failed])])
    shown = [error.document["url"] for error in write.errors]
    assert sorted(shown) == sorted(["https://files.test/a%20b.png", long.partition("?")[0]])
