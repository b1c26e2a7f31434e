"""The sample catalogues: the same in every process, of the size asked for, with what importers get wrong."""

import hashlib
import tracemalloc
from datetime import UTC, datetime

import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st

from import_local.samples.catalogue import (
    CatalogueNotFoundError,
    LiveCatalogue,
    ProductChange,
    expected_products,
    open_catalogue,
)
from import_local.samples.catalogue.model import index_of_media, index_of_number, index_of_variant
from import_local.samples.images import draw, watermark
from import_local.samples.settings import default_data_folder
from import_local.samples.shopify.connections import CursorError, page_of_products
from import_local.samples.shopify.search import parse_search


def _live(name: str) -> LiveCatalogue:
    return LiveCatalogue(open_catalogue(name, None))


@pytest.fixture(scope="module")
def vendure() -> LiveCatalogue:
    folder = default_data_folder()
    if folder is None or not (folder / "vendure-catalogue").is_dir():
        pytest.skip("the real catalogue is not beside the project")
    return LiveCatalogue(open_catalogue("vendure", folder))


@pytest.mark.parametrize(
    "name", ["", "Vendure", "generated", "generated-5", "tiny-10001-1", "tiny-1-21", "tiny-1-1-X", "../x"]
)
def test_other_names_are_no_catalogue(name: str) -> None:
    with pytest.raises(CatalogueNotFoundError):
        open_catalogue(name, None)


def test_a_generated_catalogue_is_deterministic_and_its_seed_matters() -> None:
    one, same, other = (open_catalogue(f"generated-60-3{seed}", None) for seed in ("", "", "-b"))
    assert [one.product(index) for index in range(60)] == [same.product(index) for index in range(60)]
    assert [one.product(index).title for index in range(60)] != [
        other.product(index).title for index in range(60)
    ]
    image = one.product(0).images[0]
    assert one.image_bytes(image, 0) == same.image_bytes(image, 0)


def test_a_generated_catalogue_has_the_difficult_products() -> None:
    catalogue = open_catalogue("generated-1300-20", None)
    products = [catalogue.product(index) for index in range(1300)]
    assert {product.status for product in products} == {"ACTIVE", "DRAFT", "ARCHIVED", "UNLISTED"}
    assert any(not product.images for product in products)
    assert max(len(product.variants) for product in products) == 2048
    assert any(250 < len(product.variants) < 300 for product in products)
    titles = "".join(product.title for product in products)
    assert all(part in titles for part in ("☕", "قهوة", "מחברת", "👩‍👩‍👧", "<Pepper>", "DROP TABLE"))
    variants = [variant for product in products for variant in product.variants]
    assert any(variant.compare_at_cents for variant in variants)
    assert any(variant.price_cents == 0 for variant in variants)
    assert any(variant.sku == "" for variant in variants)
    assert any(not image.ready for product in products for image in product.images)
    assert any(image.kind == "VIDEO" for product in products for image in product.images)
    assert any("<em>" in product.description_html for product in products)
    images = [image for product in products for image in product.images if image.ready and image.width]
    assert all(0.9e6 < image.width * image.height < 12.1e6 for image in images)


def test_ids_are_unique_and_lead_back() -> None:
    catalogue = open_catalogue("generated-1300-20", None)
    numbers: set[tuple[str, int]] = set()
    count = 0
    for index in range(1200, 1300):
        product = catalogue.product(index)
        assert index_of_number(catalogue.name, product.number) == index
        assert product.number < 2**53
        for position, variant in enumerate(product.variants):
            assert index_of_variant(catalogue.name, variant.number) == (index, position)
            assert sorted(name for name, _ in variant.selected) == sorted(
                option.name for option in product.options
            )
            numbers.add(("variant", variant.number))
        for image in product.images:
            place = index_of_media(catalogue.name, image.number)
            assert place is not None
            assert place[0] == index
            numbers.add(("media", image.number))
        count += len(product.variants) + len(product.images)
    assert len(numbers) == count


def test_a_large_catalogue_is_not_kept_in_memory() -> None:
    catalogue = _live("generated-1000-20")
    catalogue.order("ID")
    tracemalloc.start()
    for index in range(1000):
        catalogue.product(index)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 500_000


def test_tiny_images_are_distinct_small_and_correct() -> None:
    catalogue = open_catalogue("tiny-200-1", None)
    digests = set()
    for index in range(200):
        product = catalogue.product(index)
        [image] = product.images
        content = catalogue.image_bytes(image, 0)
        digests.add(hashlib.sha256(content).digest())
        assert len(content) < 5_000
        decoded = pyvips.Image.new_from_buffer(content, "", fail_on="warning")
        assert (decoded.width, decoded.height) == (image.width, image.height)
        assert 32 <= image.width <= 64
    assert len(digests) == 200


@pytest.mark.parametrize(
    ("encoding", "loader"),
    [
        ("jpeg", "jpegload"),
        ("png", "pngload"),
        ("webp", "webpload"),
        ("avif", "heifload"),
        ("gif", "gifload"),
    ],
)
def test_every_encoding_is_what_it_says(encoding, loader: str) -> None:
    content = draw("unit", 320, 200, encoding)
    image = pyvips.Image.new_from_buffer(content, "", fail_on="warning")
    assert image.get("vips-loader").startswith(loader)
    assert (image.width, image.height) == (320, 200)
    assert image.deviate() > 1
    assert content == draw("unit", 320, 200, encoding)


def test_a_watermark_changes_bytes_but_not_the_picture() -> None:
    for encoding in ("jpeg", "png"):
        content = draw("unit", 64, 64, encoding)
        marked = watermark(content, "revision 1")
        before, after = (pyvips.Image.new_from_buffer(item, "") for item in (content, marked))
        assert marked != content
        assert (before - after).abs().max() == 0
    with pytest.raises(ValueError, match="only JPEG and PNG"):
        watermark(b"GIF89a", "x")


def test_the_real_catalogue_is_read_as_it_is(vendure: LiveCatalogue) -> None:
    products = list(expected_products(vendure, "shopify", "http://base"))
    assert len(products) == 54
    assert sum(len(product.variants) for product in products) == 88
    laptop = products[0]
    assert laptop.title == "Laptop"
    assert laptop.vendor == "Apple"
    assert laptop.tags == ("Electronics", "Computers", "Apple")
    assert [(item.title, item.sku, item.price_cents) for item in laptop.variants][:2] == [
        ("13 inch / 8GB", "L2201308", 129900),
        ("15 inch / 8GB", "L2201508", 139900),
    ]
    assert [(option.name, option.values) for option in laptop.source.options] == [
        ("Screen size", ("13 inch", "15 inch")),
        ("RAM", ("8GB", "16GB")),
    ]
    assert [item.sku for item in products[-1].variants] == ["404.038.96"] * 3
    photograph = laptop.images[0].content()
    assert hashlib.sha256(photograph).digest() != hashlib.sha256(products[1].images[0].content()).digest()
    decoded = pyvips.Image.new_from_buffer(photograph, "")
    assert (decoded.width, decoded.height) == (laptop.images[0].width, laptop.images[0].height)


def test_the_liquid_shop_is_read_as_it_is() -> None:
    folder = default_data_folder()
    if folder is None or not (folder / "liquid-shop").is_dir():
        pytest.skip("the real catalogue is not beside the project")
    products = list(expected_products(LiveCatalogue(open_catalogue("liquid", folder)), "shopify", ""))
    assert len(products) == 9
    assert sum(len(product.variants) for product in products) == 28
    assert (products[0].title, products[0].variants[0].price_cents) == ("Arbor Draft", 19900)
    assert products[0].variants[0].compare_at_cents == 49900


@pytest.mark.parametrize(("name", "products"), [("vendure", 54), ("liquid", 9)])
def test_missing_data_is_replaced_by_as_many_products(name: str, products: int) -> None:
    assert open_catalogue(name, None).count() == products


def test_a_change_lies_over_one_product_and_can_be_taken_back() -> None:
    live = _live("tiny-5-1")
    original = live.product(2)
    assert original is not None
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    live.change(2, ProductChange(title="New", price_cents=5, image_revision=1, updated_at=moment))
    live.change(3, ProductChange(removed=True))
    changed = live.product(2)
    assert changed is not None
    assert (changed.title, changed.updated_at, changed.handle) == ("New", moment, original.handle)
    assert {variant.price_cents for variant in changed.variants} == {5}
    assert live.product(3) is None
    assert live.count() == 4
    assert [index for _, index in live.order("ID")] == [0, 1, 2, 4]
    assert live.order("UPDATED_AT")[-1][1] == 2
    image = original.images[0]
    assert live.image_bytes(2, image) != live.base.image_bytes(image, 0)
    live.reset()
    assert live.product(2) == original
    with pytest.raises(IndexError):
        live.change(5, ProductChange(title="none"))


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 15),
    key=st.sampled_from(["ID", "TITLE", "UPDATED_AT", "VENDOR", "PRODUCT_TYPE", "CREATED_AT"]),
    reverse=st.booleans(),
    backwards=st.booleans(),
)
def test_paging_shows_every_product_once_and_in_order(
    size: int, key: str, reverse: bool, backwards: bool
) -> None:
    live = _live("tiny-23-0")
    live.change(7, ProductChange(removed=True))
    wanted = [index for _, index in live.order(key)]
    wanted = wanted[::-1] if reverse != backwards else wanted
    seen: list[int] = []
    arguments = {"sortKey": key, "reverse": reverse, ("last" if backwards else "first"): size}
    more = True
    while more:
        page = page_of_products(live, parse_search(""), arguments)
        indexes = [product.index for product in page.nodes]
        seen.extend(reversed(indexes) if backwards else indexes)
        more = page.has_previous if backwards else page.has_next
        if backwards:
            arguments["before"] = page.cursors[0]
        else:
            arguments["after"] = page.cursors[-1]
    assert seen == wanted


def test_a_cursor_of_another_order_or_shop_is_refused() -> None:
    live, other = _live("tiny-9-0"), _live("tiny-9-0-other")
    by_title = page_of_products(live, parse_search(""), {"first": 2, "sortKey": "TITLE"}).cursors[0]
    foreign = page_of_products(other, parse_search(""), {"first": 2}).cursors[0]
    for cursor in (by_title, foreign, "nonsense", ""):
        with pytest.raises(CursorError):
            page_of_products(live, parse_search(""), {"first": 2, "after": cursor})


def test_paging_goes_on_when_the_last_product_seen_was_removed() -> None:
    live = _live("tiny-6-0")
    cursor = page_of_products(live, parse_search(""), {"first": 3}).cursors[-1]
    live.change(2, ProductChange(removed=True))
    live.change(3, ProductChange(removed=True))
    page = page_of_products(live, parse_search(""), {"first": 3, "after": cursor})
    assert [product.index for product in page.nodes] == [4, 5]


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("updated_at:>'2025-06-01T00:00:00Z'", lambda p: p.updated_at > datetime(2025, 6, 1, tzinfo=UTC)),
        ("updated_at:<=2025-06-01", lambda p: p.updated_at <= datetime(2025, 6, 1, tzinfo=UTC)),
        ("status:active", lambda p: p.status == "ACTIVE"),
        ("status:draft,archived", lambda p: p.status in {"DRAFT", "ARCHIVED"}),
        (
            'vendor:"Fjord & Sons" AND status:ACTIVE',
            lambda p: (p.vendor, p.status) == ("Fjord & Sons", "ACTIVE"),
        ),
        ("kettle", lambda p: "kettle" in p.title.casefold()),
    ],
)
def test_the_search_finds_what_it_says(text: str, test) -> None:
    live = _live("generated-120-0")
    search = parse_search(text)
    products = [live.product(index) for index in range(120)]
    found = [product.index for product in products if search.matches(live, product.index)]
    assert search.warnings == []
    assert found == [product.index for product in products if test(product)]
    assert 0 < len(found) < 120


def test_a_search_term_that_is_not_understood_is_ignored_with_a_warning() -> None:
    search = parse_search("colour:red updated_at:>yesterday")
    assert [(warning["field"], warning["code"]) for warning in search.warnings] == [
        ("colour", "invalid_field"),
        ("updated_at", "invalid_value"),
    ]
    assert search.tests == []
