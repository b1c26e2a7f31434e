"""Shopify by paging: connections made whole, cost respected, throttling obeyed, tokens renewed."""

import asyncio
from types import SimpleNamespace

import pytest

from import_core.domain.errors import (
    CredentialsError,
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.limits import PageShape
from import_core.domain.products import SourceImage
from import_worker.providers.base import CatalogueFilter
from import_worker.providers.http import CallPolicy
from import_worker.providers.shopify import ShopifyProvider, ShopifySettings, client, tokens

POLICY = CallPolicy(first_outage_delay=0.001)
SETTINGS = ShopifySettings(shape=PageShape(products=4, variants=2, media=2), nested_page=3, policy=POLICY)
TOKEN = {"accessToken": "shpat_1"}


def connection(nodes, start, size, name):
    end = min(len(nodes), start + size)
    return {
        "edges": [{"cursor": f"{name}{n + 1}", "node": nodes[n]} for n in range(start, end)],
        "pageInfo": {"hasNextPage": end < len(nodes), "endCursor": f"{name}{end}" if end > start else None},
    }


def position(cursor, name):
    return int(cursor.removeprefix(name)) if cursor else 0


class Shop:
    """A shop that answers the documents by their operation's name; `errors` come first, one per call."""

    def __init__(self, reply, products):
        self.reply = reply
        self.products = products
        self.errors = []
        self.cost_per_product = 1
        self.available = 2000.0
        self.calls = []

    def __call__(self, request):
        if request.target == "/admin/oauth/access_token":
            return self.reply({"access_token": f"shpat_{len(self.calls)}", "expires_in": 86399})
        body = request.json()
        operation = body["query"].split("(")[0].split("{")[0].split()[-1]
        self.calls.append((operation, body["variables"]))
        if self.errors:
            return self.errors.pop(0)
        answers = {
            "Count": self.count,
            "Shop": self.check,
            "Products": self.listing,
            "Variants": self.nested,
            "Media": self.nested,
        }
        return answers[operation](body["variables"], operation.lower())

    def answer(self, data, cost=1):
        status = {"maximumAvailable": 2000.0, "currentlyAvailable": self.available, "restoreRate": 100.0}
        extensions = {"cost": {"requestedQueryCost": cost, "throttleStatus": status}}
        return self.reply({"data": data, "extensions": extensions})

    def count(self, _variables, _name):
        return self.answer({"productsCount": {"count": len(self.products), "precision": "EXACT"}})

    def check(self, _variables, _name):
        return self.answer({"shop": {"id": "gid://shopify/Shop/1"}})

    def products_page(self, variables):
        page = connection(self.products, position(variables["after"], "p"), variables["first"], "p")
        for edge in page["edges"]:
            whole = edge["node"]
            edge["node"] = whole | {
                name: connection(whole[name], 0, variables[name], name) for name in ("variants", "media")
            }
        return {"products": page}

    def listing(self, variables, _name):
        cost = variables["first"] * self.cost_per_product
        if cost > 1000:
            error = {
                "message": "Too costly",
                "extensions": {"code": "MAX_COST_EXCEEDED", "cost": cost, "maxCost": 1000},
            }
            return self.reply({"errors": [error]})
        return self.answer(self.products_page(variables), cost)

    def nested(self, variables, name):
        product = next((item for item in self.products if item["id"] == variables["id"]), None)
        if product is None:
            return self.answer({"product": None})
        start = position(variables["after"], name)
        return self.answer({"product": {name: connection(product[name], start, variables["first"], name)}})


def product(number, variants=1, media=1):
    return {
        "id": f"gid://shopify/Product/{number}",
        "title": f"Tea {number}",
        "options": [{"name": "Size", "values": ["S"]}],
        "variants": [
            {"id": f"gid://shopify/ProductVariant/{number}-{n}", "price": "1.50"} for n in range(variants)
        ],
        "media": [
            {"id": f"m{n}", "alt": None, "image": {"url": f"https://x/{number}-{n}"}} for n in range(media)
        ],
    }


@pytest.fixture
def shop(server, reply):
    server.respond = Shop(reply, [product(number) for number in range(10)])
    return server.respond


@pytest.fixture
async def provider(connect, limiter):
    made = ShopifyProvider(connect(TOKEN), limiter, CatalogueFilter(), settings=SETTINGS)
    yield made
    await made.aclose()


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited for the cost bucket."""
    seconds = []

    async def sleep(wait):
        seconds.append(wait)

    monkeypatch.setattr(
        client, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=asyncio.get_running_loop)
    )
    return seconds


async def collect(provider, cursor=None):
    return [page async for page in provider.pages(cursor)]


def numbers(pages):
    return [int(item.external_id.rpartition("/")[2]) for page in pages for item in page.products]


def operations(shop):
    return [name for name, _ in shop.calls]


def graphql_error(reply, code, message="No", **more):
    return reply({"errors": [{"message": message, "extensions": {"code": code}}], **more})


async def test_every_product_comes_once_with_the_total(provider, shop, server):
    pages = await collect(provider)
    assert numbers(pages) == list(range(10))
    assert {page.total for page in pages} == {10}
    assert operations(shop) == ["Count", "Products", "Products", "Products"]
    assert {request.headers["x-shopify-access-token"] for request in server.requests} == {"shpat_1"}


async def test_every_cursor_resumes_with_exactly_the_rest_without_counting_again(provider, shop):
    pages = await collect(provider)
    for number, page in enumerate(pages[:-1]):
        shop.calls.clear()
        rest = await collect(provider, page.cursor)
        assert numbers(rest) == numbers(pages[number + 1 :])
        assert {page.total for page in rest} == {10}
        assert "Count" not in operations(shop)


async def test_variants_and_media_beyond_the_first_are_fetched_in_order(provider, shop):
    shop.products = [product(1, variants=12, media=7), product(2)]
    (page,) = await collect(provider)
    first = page.products[0]
    assert [variant["id"].rpartition("-")[2] for variant in first.document["variants"]] == [
        str(n) for n in range(12)
    ]
    assert first.images == tuple(SourceImage(f"https://x/1-{n}") for n in range(7))
    assert "media" not in first.document
    assert first.document["options"] == [{"name": "Size", "values": ["S"]}]


async def test_media_without_an_image_are_left_out(provider, shop):
    one = product(1)
    one["media"] = [
        {"id": "a", "alt": "Side", "image": {"url": "https://x/a", "altText": None}},
        {"id": "b", "image": None},
    ]
    shop.products = [one]
    (page,) = await collect(provider)
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


async def test_a_call_waits_until_the_bucket_holds_its_cost(provider, shop, waits):
    shop.cost_per_product = 100
    shop.available = 250.0
    await collect(provider)
    assert len(waits) == 2
    assert all(1.0 < wait <= 1.5 for wait in waits)


@pytest.mark.parametrize("status", [200, 429])
async def test_a_throttled_answer_blocks_the_connection_until_its_cost_is_there(
    provider, shop, reply, limiter, status
):
    cost = {
        "requestedQueryCost": 400,
        "throttleStatus": {"maximumAvailable": 2000, "currentlyAvailable": 100, "restoreRate": 100},
    }
    throttled = graphql_error(reply, "THROTTLED", "Throttled", extensions={"cost": cost})
    throttled.status = status
    shop.errors = [throttled]
    assert len(numbers(await collect(provider))) == 10
    assert limiter.blocks == [3.0]


async def test_endless_throttling_ends_the_try(provider, shop, reply, server):
    server.script(graphql_error(reply, "THROTTLED"))
    with pytest.raises(ProviderThrottledError):
        await collect(provider)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ACCESS_DENIED", CredentialsError),
        ("INTERNAL_SERVER_ERROR", ProviderUnavailableError),
        ("undefinedField", ProviderRejectedError),
    ],
)
async def test_graphql_errors_are_sorted_by_their_code(provider, server, reply, code, kind):
    server.script(graphql_error(reply, code, "Something " + "x" * 1000))
    with pytest.raises(kind, match="Something") as raised:
        await provider.check()
    assert len(raised.value.message) < 600


@pytest.mark.parametrize("body", [b"<html>", [], {"data": None}, {}])
async def test_an_unreadable_answer_is_an_outage(provider, server, reply, body):
    server.script(reply(body))
    with pytest.raises(ProviderUnavailableError):
        await provider.check()


async def test_a_refused_static_token_says_what_to_check_and_is_not_told(provider, server, reply):
    server.script(reply({"errors": "[API] Invalid API key or access token shpat_1"}, status=401))
    with pytest.raises(CredentialsError, match="read_products") as raised:
        await provider.check()
    assert "shpat_1" not in raised.value.message
    assert len(server.requests) == 1


async def test_client_credentials_are_exchanged_and_renewed_once_when_refused(
    connect, limiter, shop, server, reply
):
    credentials = {"clientId": "id", "clientSecret": "shpss_1"}
    provider = ShopifyProvider(connect(credentials), limiter, CatalogueFilter(), settings=SETTINGS)
    await provider.check()
    assert server.requests[0].body == b"grant_type=client_credentials&client_id=id&client_secret=shpss_1"
    assert server.requests[1].headers["x-shopify-access-token"] == "shpat_0"
    shop.errors = [reply({"errors": "expired"}, status=401)]
    await provider.check()
    assert [request.target.rpartition("/")[2] for request in server.requests[2:]] == [
        "graphql.json",
        "access_token",
        "graphql.json",
    ]
    assert limiter.acquired == len(server.requests)
    await provider.aclose()


async def test_a_token_that_ends_soon_is_renewed_before_use(connect, limiter, shop, server, monkeypatch):
    now = 1000.0
    clock = SimpleNamespace(time=lambda: now)
    monkeypatch.setattr(tokens, "asyncio", SimpleNamespace(Lock=asyncio.Lock, get_running_loop=lambda: clock))
    provider = ShopifyProvider(
        connect({"clientId": "id", "clientSecret": "shpss_1"}), limiter, CatalogueFilter(), settings=SETTINGS
    )

    async def grants():
        await provider.check()
        return [request.target.rpartition("/")[2] for request in server.requests].count("access_token")

    assert await grants() == 1
    now += 86_399 - tokens.RENEW_BEFORE - 1
    assert await grants() == 1
    now += 1
    assert await grants() == 2
    await provider.aclose()


async def test_wrong_client_credentials(connect, limiter, server, reply):
    server.script(reply({"error": "invalid_client", "error_description": "shpss_1 is unknown"}, status=400))
    provider = ShopifyProvider(
        connect({"clientId": "id", "clientSecret": "shpss_1"}), limiter, CatalogueFilter(), settings=SETTINGS
    )
    with pytest.raises(CredentialsError, match="clientSecret") as raised:
        await provider.check()
    assert "shpss_1" not in raised.value.message
    await provider.aclose()


@pytest.mark.parametrize("credentials", [{}, {"clientId": "x"}, {"clientSecret": "x"}, {"accessToken": ""}])
def test_a_secret_without_usable_keys_says_which(connect, limiter, credentials):
    with pytest.raises(CredentialsError, match="accessToken"):
        ShopifyProvider(connect(credentials), limiter, CatalogueFilter())


async def test_a_product_that_can_not_be_read_is_a_failure_of_its_own(provider, shop, server):
    shop.products = [product(1), product(2, variants=9), product(3)]
    gone = shop.products[1]
    answer = shop.nested

    def removed_meanwhile(variables, name):
        if variables["id"] == gone["id"]:
            return shop.answer({"product": None})
        return answer(variables, name)

    shop.nested = removed_meanwhile
    (page,) = await collect(provider)
    assert numbers([page]) == [1, 3]
    assert page.failures == (
        (gone["id"], "Malformed", "The product can't be read: it was removed meanwhile."),
    )


async def test_what_was_read_before_an_outage_is_yielded_with_a_cursor_to_the_rest(provider, shop, reply):
    shop.products[2] = product(2, variants=9)
    answer = shop.nested
    shop.nested = lambda variables, name: reply(status=500)
    pages = []
    with pytest.raises(ProviderUnavailableError):
        await collect_into(pages, provider)
    assert numbers(pages) == [0, 1]
    shop.nested = answer
    assert numbers(await collect(provider, pages[-1].cursor)) == list(range(2, 10))


async def test_a_catalogue_that_is_not_counted_is_paged(provider, shop, reply):
    shop.errors = [graphql_error(reply, "undefinedField")]
    pages = await collect(provider)
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


async def test_an_empty_catalogue_is_one_empty_last_page(provider, shop):
    shop.products = []
    (page,) = await collect(provider)
    assert (page.products, page.cursor, page.total) == ((), None, 0)


async def test_a_page_that_comes_again_is_refused(provider, server, reply):
    listing = {"products": {"edges": [], "pageInfo": {"hasNextPage": True, "endCursor": "same"}}}
    server.script(reply({"data": {"productsCount": None}}), reply({"data": listing}))
    with pytest.raises(ProviderRejectedError, match="twice"):
        await collect(provider)


async def collect_into(pages, provider):
    """Keep the pages that came before an error."""
    async for page in provider.pages(None):
        pages.append(page)
