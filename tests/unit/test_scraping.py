"""What is a product of a page, and what a page is that shows none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.scraping import (
    MAX_IMAGES,
    PageLook,
    ScrapedItem,
    Wall,
    address_of,
    digest,
    id_of,
    id_of_link,
    nameless,
    nothing_found,
    product_of,
    wall_of,
)

PAGE = "https://wa.me/c/491700000001"


@pytest.mark.parametrize(
    ("url", "identifier"),
    [
        ("https://wa.me/p/24051/491700000001", "24051"),
        ("https://wa.me/p/24051/491700000001/?a=b#c", "24051"),
        ("https://shop.example/items/blue%20shirt", "blue shirt"),
        ("https://shop.example/items/7/", "7"),
        ("https://shop.example/", None),
        ("https://shop.example", None),
    ],
)
def test_the_link_says_the_id(url: str, identifier: str | None) -> None:
    assert id_of_link(url) == identifier


def test_the_attribute_goes_before_the_link() -> None:
    link = "/p/2/491700000001"
    assert id_of(ScrapedItem(identifier=" 1 ", link=link), PAGE) == "1"
    assert id_of(ScrapedItem(identifier=" ", link=link), PAGE) == "2"
    assert id_of(ScrapedItem(identifier="x" * 300), PAGE) is None
    assert id_of(ScrapedItem(title="no id"), PAGE) is None


@pytest.mark.parametrize(
    "value", ["javascript:alert(1)", "data:image/gif;base64,R0", "blob:x", "http://[", "http://"]
)
def test_only_web_addresses_are_kept(value: str) -> None:
    assert address_of(value, PAGE) is None


def test_addresses_are_absolute_and_bounded() -> None:
    assert address_of("../i/1.jpg#x", PAGE) == "https://wa.me/i/1.jpg"
    assert address_of("//cdn.example/1.jpg", PAGE) == "https://cdn.example/1.jpg"
    assert address_of("/" + "a" * 3000, PAGE) is None


def test_a_product_is_in_the_words_of_the_catalogue_api() -> None:
    item = ScrapedItem(
        title=" Blue\n shirt ",
        price="49,90 €",
        description=" <b>Soft</b>\n",
        link="/p/1/49",
        images=("/1.jpg", "/1.jpg", "/2.jpg"),
    )
    product = product_of(item, "1", PAGE, currency="USD")
    assert product.document == {
        "id": "1",
        "name": "Blue shirt",
        "description": "<b>Soft</b>",
        "price": "49,90 €",
        "currency": "EUR",
        "url": "https://wa.me/p/1/49",
        "image_url": "https://wa.me/1.jpg",
        "additional_image_urls": ["https://wa.me/2.jpg"],
    }
    assert [image.url for image in product.images] == ["https://wa.me/1.jpg", "https://wa.me/2.jpg"]


@pytest.mark.parametrize(
    ("price", "currency"), [("$5", "USD"), (None, "USD"), ("5-6 €", "USD"), ("5 CHF", "CHF")]
)
def test_the_configured_currency_is_for_prices_that_name_none(price: str | None, currency: str) -> None:
    document = product_of(ScrapedItem(price=price), "1", PAGE, currency="USD").document
    assert document["currency"] == currency


def test_a_product_has_a_bounded_number_of_images() -> None:
    item = ScrapedItem(images=tuple(f"/{number}.jpg" for number in range(500)))
    assert len(product_of(item, "1", PAGE, currency=None).images) == MAX_IMAGES


@pytest.mark.parametrize(
    ("look", "wall"),
    [
        (PageLook("https://consent.example/m?x", 200), Wall.CONSENT),
        (PageLook(PAGE, 200, "Before you continue"), Wall.CONSENT),
        (PageLook(PAGE, 200, "Shop", "Accept all cookies"), Wall.CONSENT),
        (PageLook(PAGE, 200, "WhatsApp", "Log in. Scan the QR code"), Wall.LOGIN),
        (PageLook(PAGE, 200, "Just a moment", "Verify you are human"), Wall.ROBOT_CHECK),
        (PageLook(PAGE, 403, "Access denied"), Wall.ROBOT_CHECK),
        (PageLook(PAGE, 200, "Catalogue", "Shirts and shoes"), None),
        (PageLook(PAGE, 200, "Blogging in style"), None),
    ],
)
def test_walls_are_known(look: PageLook, wall: Wall | None) -> None:
    assert wall_of(look) is wall


def test_where_nothing_is_found_the_message_says_what_was_looked_for_and_what_was_there() -> None:
    look = PageLook(PAGE, 200, "New\n layout", "", 312, {"title": 0, "price": 14})
    message = nothing_found(look, ".catalogue-item")
    for words in (
        "'New layout'",
        "selectors.item (.catalogue-item)",
        "312 elements",
        "title 0, price 14",
        "selectors.empty",
    ):
        assert words in message


def test_an_item_without_an_id_is_named_by_its_place() -> None:
    failure = nameless(ScrapedItem(title="Shirt", price="5 €"), 3)
    assert (failure.external_id, failure.reason) == ("number 3 of the page", "NoExternalId")
    assert failure.document["name"] == "Shirt"


@given(st.sets(st.text(max_size=20), max_size=50))
def test_digests_tell_ids_apart(identifiers: set[str]) -> None:
    assert len({digest(identifier) for identifier in identifiers}) == len(identifiers)


@given(st.text(max_size=100))
def test_any_text_as_link_or_image_fails_nothing(text: str) -> None:
    item = ScrapedItem(text, text, text, text, text, (text,))
    identifier = id_of(item, PAGE)
    assert identifier is None or identifier.strip() == identifier
    product_of(item, identifier or "x", PAGE, currency=None)
