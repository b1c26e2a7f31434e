"""Shopify by paging: connections made whole, cursors resumed, pages shrunk, bulk operations given up."""

from dataclasses import replace

import pytest
from shopify_shop import (
    POLICY,
    SETTINGS,
    TOKEN,
    collect,
    collect_into,
    graphql_error,
    numbers,
    operations,
    product,
)

from import_core.domain.errors import (
    ProviderRejectedError,
    ProviderUnavailableError,
)
from import_core.domain.limits import PageShape
from import_core.domain.products import SourceImage
from import_worker.providers.base import CatalogueFilter
from import_worker.providers.shopify import ShopifyProvider, ShopifySettings
from import_worker.providers.shopify.queries import bulk_query


async def test_every_product_comes_once_with_the_total(shopify, shop, server):
    pages = await collect(shopify)
    assert numbers(pages) == list(range(10))
    assert {page.total for page in pages} == {10}
    assert operations(shop) == ["Count", "Products", "Products", "Products"]
    assert {request.headers["x-shopify-access-token"] for request in server.requests} == {"shpat_1"}


async def test_every_cursor_resumes_with_exactly_the_rest_without_counting_again(shopify, shop):
    pages = await collect(shopify)
    for number, page in enumerate(pages[:-1]):
        shop.calls.clear()
        rest = await collect(shopify, page.cursor)
        assert numbers(rest) == numbers(pages[number + 1 :])
        assert {page.total for page in rest} == {10}
        assert "Count" not in operations(shop)


async def test_variants_and_media_beyond_the_first_are_fetched_in_order(shopify, shop):
    shop.products = [product(1, variants=12, media=7), product(2)]
    (page,) = await collect(shopify)
    first = page.products[0]
    assert [variant["id"].rpartition("-")[2] for variant in first.document["variants"]] == [
        str(n) for n in range(12)
    ]
    assert first.images == tuple(SourceImage(f"https://x/1-{n}") for n in range(7))
    assert "media" not in first.document
    assert first.document["options"] == [{"name": "Size", "values": ["S"]}]


async def test_media_without_an_image_are_left_out(shopify, shop):
    one = product(1)
    one["media"] = [
        {"id": "a", "alt": "Side", "image": {"url": "https://x/a", "altText": None}},
        {"id": "b", "image": None},
    ]
    shop.products = [one]
    (page,) = await collect(shopify)
    assert page.products[0].images == (SourceImage("https://x/a", "Side"),)


async def test_a_page_too_costly_shrinks_and_its_size_is_kept_in_the_cursor(connect, limiter, shop):
    shop.cost_per_product = 300
    shape = PageShape(products=8, variants=2, media=2)
    settings = ShopifySettings(shape=shape, policy=POLICY)
    provider = ShopifyProvider(connect(TOKEN), limiter, CatalogueFilter(), settings=settings)
    pages = await collect(provider)
    assert numbers(pages) == list(range(10))
    assert [variables["first"] for name, variables in shop.calls if name == "Products"] == [8, 3, 3, 3, 3]
    shop.calls.clear()
    resumed = ShopifyProvider(connect(TOKEN), limiter, CatalogueFilter(), settings=settings)
    await collect(resumed, pages[0].cursor)
    assert {variables["first"] for _, variables in shop.calls} == {3}
    await provider.aclose()
    await resumed.aclose()


async def test_a_product_that_can_not_be_read_is_a_failure_of_its_own(shopify, shop, server):
    shop.products = [product(1), product(2, variants=9), product(3)]
    gone = shop.products[1]
    answer = shop.nested

    def removed_meanwhile(variables, name):
        if variables["id"] == gone["id"]:
            return shop.answer({"product": None})
        return answer(variables, name)

    shop.nested = removed_meanwhile
    (page,) = await collect(shopify)
    assert numbers([page]) == [1, 3]
    (failure,) = page.failures
    assert failure[:3] == (gone["id"], "Malformed", "The product can't be read: it was removed meanwhile.")
    assert failure.document["title"] == gone["title"]


@pytest.fixture
async def wide(connect, limiter, shop):
    """A provider that reads many variants or media by one call."""
    made = ShopifyProvider(
        connect(TOKEN), limiter, CatalogueFilter(), settings=replace(SETTINGS, nested_page=250)
    )
    yield made
    await made.aclose()


@pytest.mark.parametrize(("name", "limit"), [("variants", 2048), ("media", 1000)])
async def test_a_product_with_endless_parts_is_a_failure(wide, shop, name, limit):
    shop.products = [product(1, **{name: 3 * limit}), product(2)]
    (page,) = await collect(wide)
    assert numbers([page]) == [2]
    ((external_id, reason, message, document),) = page.failures
    assert document["id"] == external_id
    assert (external_id, reason) == (shop.products[0]["id"], "TooLarge")
    assert f"more than {limit:,} {name}" in message
    calls = sum(operation == name.capitalize() for operation, _ in shop.calls)
    assert calls <= limit // 250 + 1


async def test_the_largest_product_is_read_whole(wide, shop):
    shop.products = [product(1, variants=2048)]
    (page,) = await collect(wide)
    assert len(page.products[0].document["variants"]) == 2048


async def test_empty_pages_that_go_on_for_ever_are_a_failure(shopify, shop):
    shop.products = [product(1, variants=9)]
    shop.nested = lambda _variables, _name: shop.answer(
        {
            "product": {
                "variants": {
                    "edges": [],
                    "pageInfo": {"hasNextPage": True, "endCursor": str(len(shop.calls))},
                }
            }
        }
    )
    (page,) = await collect(shopify)
    assert [failure[1] for failure in page.failures] == ["Malformed"]


async def test_nested_pages_too_costly_shrink(shopify, shop, reply):
    shop.products = [product(1, variants=9, media=9)]
    answer = shop.nested

    def costly(variables, name):
        if variables["first"] > 1:
            return graphql_error(reply, "MAX_COST_EXCEEDED")
        return answer(variables, name)

    shop.nested = costly
    (page,) = await collect(shopify)
    assert len(page.products[0].document["variants"]) == len(page.products[0].images) == 9


async def test_a_query_that_is_too_costly_at_any_size_is_refused(shopify, server, reply):
    server.script(reply({"data": {"productsCount": None}}), graphql_error(reply, "MAX_COST_EXCEEDED", "Dear"))
    with pytest.raises(ProviderRejectedError, match="Dear"):
        await collect(shopify)


async def test_products_of_another_form_are_failures(shopify, shop):
    shop.products = [product(1), product(2), product(3)]
    listing = shop.products_page

    def broken(variables):
        page = listing(variables)
        edges = page["products"]["edges"]
        edges[0]["node"] = None
        edges[1]["node"]["variants"] = {"edges": [{}]}
        return page

    shop.products_page = broken
    (page,) = await collect(shopify)
    assert numbers([page]) == [3]
    assert [failure[:2] for failure in page.failures] == [
        ("p1", "NoExternalId"),
        (shop.products[1]["id"], "Malformed"),
    ]


async def test_a_product_refused_by_itself_is_a_failure(shopify, shop, reply):
    shop.products = [product(1, variants=9), product(2)]
    shop.nested = lambda _variables, _name: graphql_error(reply, "INVALID", "Corrupt product")
    (page,) = await collect(shopify)
    assert numbers([page]) == [2]
    assert "Corrupt product" in page.failures[0][2]


NO_OPERATION = {"currentBulkOperation": None}
STARTED = {"bulkOperationRunQuery": {"bulkOperation": {"id": "b1", "status": "CREATED"}, "userErrors": []}}


def refused_start(message):
    return {
        "bulkOperationRunQuery": {"bulkOperation": None, "userErrors": [{"field": None, "message": message}]}
    }


@pytest.fixture
async def bulk_provider(connect, limiter):
    """A provider for which every catalogue is large."""
    settings = replace(SETTINGS, bulk_above=-1, first_poll=0.001)
    made = ShopifyProvider(connect(TOKEN), limiter, CatalogueFilter(), settings=settings)
    yield made
    await made.aclose()


@pytest.mark.parametrize(
    "answers",
    [
        {"CurrentBulk": [NO_OPERATION], "RunBulk": [refused_start("Bulk is not for you")]},
        {"CurrentBulk": [NO_OPERATION], "RunBulk": [STARTED], "BulkStatus": [{"node": None}]},
        {
            "CurrentBulk": [NO_OPERATION],
            "RunBulk": [STARTED],
            "BulkStatus": [{"node": {"status": "COMPLETED", "url": "http://169.254.169.254/latest"}}],
        },
        {
            "CurrentBulk": [NO_OPERATION],
            "RunBulk": [STARTED],
            "BulkStatus": [{"node": {"status": "EXPIRED", "url": None}}],
        },
    ],
)
async def test_paging_takes_over_where_a_bulk_operation_can_not_be_had(bulk_provider, shop, answers):
    shop.bulk_answers = answers
    pages = await collect(bulk_provider)
    assert numbers(pages) == list(range(10))
    starts = [number for number, page in enumerate(pages) if page.restarted]
    assert starts == [next(number for number, page in enumerate(pages) if page.products)]


async def test_paging_after_a_resumed_bulk_operation_counts_anew(bulk_provider, shop):
    shop.bulk_answers = {"BulkStatus": [{"node": None}]}
    cursor = {"version": 1, "total": 10, "bulk": "b1", "index": 8}
    pages = await collect(bulk_provider, cursor)
    assert numbers(pages) == list(range(10))
    assert [page.restarted for page in pages] == [True, False, False]


@pytest.mark.parametrize("large", [False, True])
async def test_an_unknown_cursor_version_starts_over(shopify, bulk_provider, shop, large):
    shop.bulk_answers = {
        "CurrentBulk": [NO_OPERATION],
        "RunBulk": [STARTED],
        "BulkStatus": [{"node": {"status": "COMPLETED", "url": None}}],
    }
    pages = await collect(bulk_provider if large else shopify, {"version": 99, "after": "p8"})
    assert numbers(pages) == ([] if large else list(range(10)))
    assert [page.restarted for page in pages] == [True] + [False] * (len(pages) - 1)


async def test_a_new_or_resumed_job_does_not_start_over(shopify, shop):
    pages = await collect(shopify)
    pages += await collect(shopify, pages[0].cursor)
    assert not any(page.restarted for page in pages)


async def test_an_operation_started_by_another_worker_at_the_same_moment_is_adopted(bulk_provider, shop):
    ours = {"id": "b7", "status": "RUNNING", "query": bulk_query(None)}
    shop.bulk_answers = {
        "CurrentBulk": [NO_OPERATION, {"currentBulkOperation": ours}],
        "RunBulk": [
            refused_start("A bulk query operation for this app and shop is already in progress: b7.")
        ],
        "BulkStatus": [{"node": {"status": "RUNNING"}}, {"node": {"status": "COMPLETED", "url": None}}],
    }
    pages = await collect(bulk_provider)
    assert [page.cursor and page.cursor["bulk"] for page in pages] == ["b7", None]


async def test_what_was_read_before_an_outage_is_yielded_with_a_cursor_to_the_rest(shopify, shop, reply):
    shop.products[2] = product(2, variants=9)
    answer = shop.nested
    shop.nested = lambda variables, name: reply(status=500)
    pages = []
    with pytest.raises(ProviderUnavailableError):
        await collect_into(pages, shopify)
    assert numbers(pages) == [0, 1]
    shop.nested = answer
    assert numbers(await collect(shopify, pages[-1].cursor)) == list(range(2, 10))


async def test_a_catalogue_that_is_not_counted_is_paged(shopify, shop, reply):
    shop.errors = [graphql_error(reply, "undefinedField")]
    pages = await collect(shopify)
    assert numbers(pages) == list(range(10))
    assert {page.total for page in pages} == {None}


async def test_the_filter_becomes_a_search_in_utc(connect, limiter, shop):
    catalogue_filter = CatalogueFilter(updated_after="2026-01-01T02:00:00+02:00")
    provider = ShopifyProvider(connect(TOKEN), limiter, catalogue_filter, settings=SETTINGS)
    await collect(provider)
    assert {variables["query"] for _, variables in shop.calls} == {"updated_at:>'2026-01-01T00:00:00Z'"}
    await provider.aclose()


def test_a_filter_that_is_no_time_is_refused(connect, limiter):
    with pytest.raises(ProviderRejectedError, match="updatedAfter"):
        ShopifyProvider(connect(TOKEN), limiter, CatalogueFilter(updated_after="' OR 1"))


async def test_an_empty_catalogue_is_one_empty_last_page(shopify, shop):
    shop.products = []
    (page,) = await collect(shopify)
    assert (page.products, page.cursor, page.total) == ((), None, 0)


async def test_a_page_that_comes_again_is_refused(shopify, server, reply):
    listing = {"products": {"edges": [], "pageInfo": {"hasNextPage": True, "endCursor": "same"}}}
    server.script(reply({"data": {"productsCount": None}}), reply({"data": listing}))
    with pytest.raises(ProviderRejectedError, match="twice"):
        await collect(shopify)


async def by_id(provider, *ids):
    return [page async for page in provider.products(ids)]


def gid(number):
    return f"gid://shopify/Product/{number}"


async def test_products_are_had_by_their_ids_whole(shopify, shop):
    shop.products = [product(number, variants=9, media=7) for number in range(6)]
    pages = await by_id(shopify, *map(gid, (5, 1, 2, 3, 0)))
    assert numbers(pages) == [5, 1, 2, 3, 0]
    assert {len(item.document["variants"]) for page in pages for item in page.products} == {9}
    assert {len(item.images) for page in pages for item in page.products} == {7}
    assert {(page.cursor, page.total) for page in pages} == {(None, None)}
    asked = [variables["ids"] for name, variables in shop.calls if name == "ProductsById"]
    assert asked == [[gid(5), gid(1), gid(2), gid(3)], [gid(0)]]


async def test_products_that_are_gone_or_never_were_are_named(shopify, shop):
    pages = await by_id(shopify, gid(1), gid(99), "cursor-1", "gid://shopify/ProductVariant/1")
    assert numbers(pages) == [1]
    assert {failure[:2] for page in pages for failure in page.failures} == {
        (gid(99), "GoneFromSource"),
        ("cursor-1", "GoneFromSource"),
        ("gid://shopify/ProductVariant/1", "GoneFromSource"),
    }


async def test_products_by_id_too_costly_shrink(connect, limiter, shop):
    shop.cost_per_product = 300
    settings = ShopifySettings(shape=PageShape(products=8, variants=2, media=2), policy=POLICY)
    provider = ShopifyProvider(connect(TOKEN), limiter, CatalogueFilter(), settings=settings)
    assert numbers(await by_id(provider, *map(gid, range(7)))) == list(range(7))
    asked = [len(variables["ids"]) for name, variables in shop.calls if name == "ProductsById"]
    assert asked == [7, 3, 3, 1]
    await provider.aclose()


async def test_an_answer_of_another_length_is_no_answer(shopify, shop):
    shop.products_by_id = lambda _ids, _variables: []
    with pytest.raises(ProviderUnavailableError, match="can't be read"):
        await by_id(shopify, gid(1))


async def test_a_product_of_another_id_is_a_failure(shopify, shop):
    shop.products_by_id = lambda _ids, _variables: [{"id": gid(2), "title": "Other"}]
    (page,) = await by_id(shopify, gid(1))
    assert [failure[:2] for failure in page.failures] == [(gid(1), "Malformed")]


async def test_an_outage_keeps_what_was_read_by_id(shopify, shop, reply):
    shop.products = [product(1), product(2, variants=9), product(3)]
    shop.nested = lambda _variables, _name: reply(status=500)
    pages = shopify.products([gid(1), gid(2), gid(3)])
    assert numbers([await anext(pages)]) == [1]
    with pytest.raises(ProviderUnavailableError):
        await anext(pages)
