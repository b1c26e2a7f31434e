"""Shopify's calls: cost respected, throttling obeyed, errors sorted, tokens renewed."""

import asyncio
from types import SimpleNamespace

import pytest
from shopify_shop import SETTINGS, collect, graphql_error, numbers

from import_core.domain.errors import (
    CredentialsError,
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.limits import CostBucket
from import_worker.providers.base import CatalogueFilter
from import_worker.providers.shopify import ShopifyProvider, tokens


async def test_a_call_tells_what_it_costs_and_what_its_answer_said(shopify, shop, limiter):
    shop.cost_per_product = 100
    shop.available = 250.0
    await collect(shopify)
    # The first of a kind costs nobody knows what.
    assert limiter.points[-3:] == [0.0, 400.0, 400.0]
    assert limiter.observed[-1] == (400.0, CostBucket(maximum=2000.0, available=250.0, restore_rate=100.0))
    assert len(limiter.observed) == limiter.acquired


async def test_shopifys_call_limit_is_obeyed_for_all_workers(shopify, shop, limiter):
    for calls, blocks in (("12/40", []), ("40/40", [2.0])):
        answer = shop.answer({"shop": {"id": "gid://shopify/Shop/1"}})
        answer.headers = {"X-Shopify-Shop-Api-Call-Limit": calls}
        shop.errors = [answer]
        await shopify.check()
        assert limiter.blocks == blocks


@pytest.mark.parametrize("status", [200, 429])
async def test_a_throttled_answer_blocks_the_connection_until_its_cost_is_there(
    shopify, shop, reply, limiter, status
):
    cost = {
        "requestedQueryCost": 400,
        "throttleStatus": {"maximumAvailable": 2000, "currentlyAvailable": 100, "restoreRate": 100},
    }
    throttled = graphql_error(reply, "THROTTLED", "Throttled", extensions={"cost": cost})
    throttled.status = status
    shop.errors = [throttled]
    assert len(numbers(await collect(shopify))) == 10
    assert limiter.blocks == [3.0]


async def test_endless_throttling_ends_the_try(shopify, shop, reply, server):
    server.script(graphql_error(reply, "THROTTLED"))
    with pytest.raises(ProviderThrottledError):
        await collect(shopify)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ACCESS_DENIED", CredentialsError),
        ("INTERNAL_SERVER_ERROR", ProviderUnavailableError),
        ("undefinedField", ProviderRejectedError),
    ],
)
async def test_graphql_errors_are_sorted_by_their_code(shopify, server, reply, code, kind):
    server.script(graphql_error(reply, code, "Something " + "x" * 1000))
    with pytest.raises(kind, match="Something") as raised:
        await shopify.check()
    assert len(raised.value.message) < 600


@pytest.mark.parametrize("body", [b"<html>", [], {"data": None}, {}])
async def test_an_unreadable_answer_is_an_outage(shopify, server, reply, body):
    server.script(reply(body))
    with pytest.raises(ProviderUnavailableError):
        await shopify.check()


async def test_a_refused_static_token_says_what_to_check_and_is_not_told(shopify, server, reply):
    server.script(reply({"errors": "[API] Invalid API key or access token shpat_1"}, status=401))
    with pytest.raises(CredentialsError, match="read_products") as raised:
        await shopify.check()
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
