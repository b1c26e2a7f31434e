"""Parts of Shopify's bulk reading: grouping on disk, allowed addresses, the stored cursor, the query text."""

import json
import sqlite3

import pytest

from import_core.domain.limits import PageShape
from import_core.domain.products import SourceImage
from import_worker.providers.shopify.bulk import is_allowed_download
from import_worker.providers.shopify.queries import bulk_query, search_for
from import_worker.providers.shopify.settings import ShopifyCursor
from import_worker.providers.shopify.spool import Spool

SHOP = "http://127.0.0.1:8000/shopify/acme"


@pytest.fixture
def spool():
    made = Spool()
    yield made
    made.close()


class _Unstorable:
    """What no column can hold."""


def line(**document) -> bytes:
    return json.dumps(document).encode()


def test_children_find_their_parents_wherever_they_stand(spool):
    first, second = "gid://shopify/Product/1", "gid://shopify/Product/2"
    spool.add(
        [
            line(id="gid://shopify/ProductVariant/21", __parentId=second),
            line(id=first, title="One"),
            line(
                id="gid://shopify/MediaImage/11", alt="Front", image={"url": "https://x/11"}, __parentId=first
            ),
            line(id=second, title="Two ☕"),
        ]
    )
    spool.add(
        [
            line(id="gid://shopify/ProductVariant/11", price="1.00", __parentId=first),
            line(__parentId=first),
            line(id="gid://shopify/ProductVariant/12", __parentId=first),
            line(id="gid://shopify/ProductVariant/99", __parentId="gid://shopify/Product/gone"),
            line(id=first, title="Again"),
        ]
    )
    assert spool.finish() == 2
    one, two = spool.page(0, 10)
    assert (one.external_id, one.document["title"], two.document["title"]) == (first, "One", "Two ☕")
    assert [variant["id"][-2:] for variant in one.document["variants"]] == ["11", "12"]
    assert one.images == (SourceImage("https://x/11", "Front"),)
    assert [variant["id"][-2:] for variant in two.document["variants"]] == ["21"]
    assert "__parentId" not in one.document["variants"][0]


@pytest.mark.parametrize("broken", [{"id": None}, {}, {"id": ""}, {"id": {"x": 1}}])
def test_a_product_without_an_id_is_a_failure_in_its_place(spool, broken):
    spool.add([line(id="gid://shopify/Product/1"), line(**broken, title="A")])
    spool.clear()
    spool.add([line(id="gid://shopify/Product/1"), line(**broken, title="A")])
    spool.add([line(**broken, title="B"), line(id="gid://shopify/Product/2")])
    assert spool.finish() == 4
    one, first, second, two = spool.page(0, 10)
    assert [one.external_id[-1], two.external_id[-1]] == ["1", "2"]
    assert first[:2] == ("number 2 of the bulk result", "NoExternalId")
    assert second[:2] == ("number 3 of the bulk result", "NoExternalId")
    assert (first.document, second.document) == (broken | {"title": "A"}, broken | {"title": "B"})
    assert spool.page(2, 1) == [second]


def test_text_that_is_no_unicode_is_stored_and_comes_back(spool):
    spool.add(
        [
            line(id="gid://shopify/Product/\ud800", title="half \udc00"),
            line(
                id="gid://shopify/ProductVariant/1", title="\ud801", __parentId="gid://shopify/Product/\ud800"
            ),
        ]
    )
    assert spool.finish() == 1
    (product,) = spool.page(0, 5)
    assert product.document["title"] == "half \udc00"
    assert product.document["variants"][0]["title"] == "\ud801"


def test_a_batch_that_fails_leaves_nothing_and_the_next_one_goes_in(spool, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("import_worker.providers.shopify.spool._key", lambda value: _Unstorable())
        with pytest.raises(sqlite3.Error):
            spool.add([line(id="gid://shopify/Product/1")])
    spool.add([line(id="gid://shopify/Product/2")])
    assert spool.finish() == 1


@pytest.mark.parametrize(("kind", "limit"), [("ProductVariant", 2048), ("MediaImage", 1000)])
def test_a_product_with_too_many_children_is_a_failure(spool, kind, limit):
    large, small = "gid://shopify/Product/1", "gid://shopify/Product/2"
    spool.add([line(id=large), line(id=small)])
    spool.add([line(id=f"gid://shopify/{kind}/{number}", __parentId=large) for number in range(limit + 1)])
    spool.add([line(id=f"gid://shopify/{kind}/{number}", __parentId=small) for number in range(limit)])
    spool.finish()
    failure, product = spool.page(0, 5)
    assert failure[:2] == (large, "TooLarge")
    assert product.external_id == small


def test_pages_are_cut_from_any_place(spool):
    spool.add([line(id=f"gid://shopify/Product/{number}") for number in range(7)])
    spool.finish()
    assert [product.external_id[-1] for product in spool.page(5, 3)] == ["5", "6"]
    assert spool.page(7, 3) == []


def test_a_page_ends_where_its_products_have_enough_children(spool):
    products = [f"gid://shopify/Product/{number}" for number in range(4)]
    spool.add([line(id=product) for product in products])
    for product in products:
        spool.add(
            [line(id=f"gid://shopify/ProductVariant/{number}", __parentId=product) for number in range(3)]
        )
    spool.finish()
    assert [item.external_id for item in spool.page(0, 4, children=5)] == products[:2]
    assert [item.external_id for item in spool.page(2, 1, children=5)] == products[2:3]
    assert [item.external_id for item in spool.page(3, 4, children=1)] == products[3:]


@pytest.mark.parametrize("text", [b"{", b"[1]", b"null", b"\xff"])
def test_a_broken_line_is_refused_and_a_new_start_is_clean(spool, text):
    spool.add([line(id="gid://shopify/Product/1")])
    with pytest.raises(ValueError):
        spool.add([text])
    spool.clear()
    spool.add([line(id="gid://shopify/Product/2")])
    assert spool.finish() == 1
    assert spool.page(0, 5)[0].external_id.endswith("/2")


def test_nothing_is_left_after_closing():
    spool = Spool()
    spool.close()
    with pytest.raises(sqlite3.ProgrammingError):
        spool.finish()


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://storage.googleapis.com/bulk.jsonl?signature=x", True),
        ("http://127.0.0.1:8000/shopify/acme/bulk/1", True),
        ("http://127.0.0.1:8001/bulk", False),
        ("http://storage.googleapis.com/bulk", False),
        ("http://169.254.169.254/latest", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("https://[1:2]/bulk", False),
        ("https://999.1.1.1/bulk", False),
        ("bulk.jsonl", False),
    ],
)
def test_results_come_over_https_or_from_the_shop_itself(url, allowed):
    assert is_allowed_download(url, SHOP) is allowed


@pytest.mark.parametrize(
    "cursor",
    [
        ShopifyCursor(after="abc", shape=PageShape(12, 10, 10), total=45, counted=True),
        ShopifyCursor(after=None, shape=None, total=None, counted=True),
        ShopifyCursor(bulk="gid://shopify/BulkOperation/7", index=300, total=2000, counted=True),
    ],
)
def test_a_cursor_survives_its_stored_form(cursor):
    assert ShopifyCursor.parse(json.loads(json.dumps(cursor.to_json()))) == cursor


@pytest.mark.parametrize("value", [None, {}, {"version": 2, "after": "x"}])
def test_an_unknown_cursor_is_the_beginning(value):
    assert ShopifyCursor.parse(value) == ShopifyCursor()


def test_a_bulk_query_holds_the_search_and_no_page_sizes():
    text = bulk_query(search_for("2026-01-01T00:00:00Z"))
    assert "products(query: \"updated_at:>'2026-01-01T00:00:00Z'\", sortKey: ID)" in text
    assert "first" not in text
    assert "products(sortKey: ID)" in bulk_query(None)
