"""The contract that every registered provider keeps, run against its sample over HTTP.

A new provider adds one `Case`; the last test fails until it has one.
"""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import psutil
import pytest

from import_core.domain.addresses import parse_allow_list
from import_core.domain.errors import (
    CredentialsError,
    HandBackError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.resources.whatsapp import WhatsAppSettings
from import_local.samples.app import RunningSamples
from import_local.samples.catalogue import expected_products
from import_local.samples.catalogue.live import ProductChange
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.settings import GRAPH_CATALOGUE
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.registry import PROVIDERS
from import_worker.providers.whatsapp.page_client import ROBOTS

CATALOGUE = "tiny-45-2"
PRODUCTS = 45


@dataclass(frozen=True)
class Case:
    """How to reach a provider's sample.

    `title` and `variants` name these in its documents. `checks`: calls of a check. Without `wrong_credentials` there
    are none that could be wrong.
    """

    base_url: Callable[[RunningSamples, str], str]
    credentials: dict[str, str]
    wrong_credentials: dict[str, str] | None
    type: str = ""
    title: str = "title"
    variants: str | None = "variants"
    whatsapp: WhatsAppSettings | None = None
    checks: int = 1


SCRAPED = {
    "mode": "Scrape",
    "scrape": {
        "selectors": {
            "item": ".catalogue-item",
            "idAttribute": "data-product-id",
            "title": ".item-title",
            "link": ".item-link",
            "price": ".item-price",
            "description": ".item-text",
            "image": ".item-image",
            "empty": ".empty-catalogue",
        },
        "scroll": {"idleRounds": 1, "quietMilliseconds": 80},
    },
}

CASES = {
    "shopify": Case(
        lambda samples, name: f"{samples.shopify_url}/{name}",
        {"accessToken": "shpat_example"},
        {"accessToken": "shpat_wrong_one"},
    ),
    "roastify": Case(
        lambda samples, name: f"{samples.roastify_url}/{name}/v1",
        {"apiKey": "rty_test_example"},
        {"apiKey": "rty_test_wrong_one"},
    ),
    "whatsapp-graph": Case(
        lambda samples, name: f"{samples.graph_url}/{name}",
        {"accessToken": "EAAexample"},
        {"accessToken": "EAAwrong_one"},
        type="whatsapp",
        title="name",
        variants=None,
        whatsapp=WhatsAppSettings.model_validate({"mode": "Graph", "graph": {"catalogId": GRAPH_CATALOGUE}}),
    ),
    # The host's robots.txt is a call, too.
    "whatsapp-scrape": Case(
        lambda samples, name: f"{samples.whatsapp_url}/{name}/c/491700000001",
        {},
        None,
        type="whatsapp",
        title="name",
        variants=None,
        whatsapp=WhatsAppSettings.model_validate(SCRAPED),
        checks=2,
    ),
}
WITH_CREDENTIALS = sorted(name for name, case in CASES.items() if case.wrong_credentials)


def provider_type(name: str) -> str:
    return CASES[name].type or name


@pytest.fixture(params=sorted(CASES))
def kind(request) -> str:
    ROBOTS.clear()
    return request.param


@pytest.fixture
def account(samples, kind):
    """The state of the sample account: faults and counters."""
    samples.sample.robots_requests = 0
    return samples.account(provider_type(kind), CATALOGUE)


@pytest.fixture
def calls_made(samples, account):
    """How many calls the sample has had."""
    return lambda: len(account.counters.calls) + samples.sample.robots_requests


@pytest.fixture
def opened(samples, kind, limiter_type, browser):
    """Opens a provider on a catalogue: (provider, limiter)."""

    @asynccontextmanager
    async def opened(catalogue=CATALOGUE, *, credentials=None, limiter=None, timeout_seconds=10.0):
        case = CASES[kind]
        limiter = limiter or limiter_type()
        connection = Connection(
            key=f"imports/{catalogue}",
            type=provider_type(kind),
            company_id="acme",
            base_url=case.base_url(samples, catalogue),
            credentials=case.credentials if credentials is None else credentials,
            timeout_seconds=timeout_seconds,
            allow=parse_allow_list("127.0.0.1"),
            whatsapp=case.whatsapp,
            browser=browser,
        )
        provider = PROVIDERS[provider_type(kind)](connection, limiter, CatalogueFilter())
        try:
            yield provider, limiter
        finally:
            await provider.aclose()

    return opened


def order(account, **faults):
    set_faults(account, FaultOrder.model_validate(faults))


async def collect(provider, cursor=None, into=None):
    """All pages; `into` keeps those that came before an error."""
    pages = [] if into is None else into
    async for page in provider.pages(cursor):
        pages.append(page)
    return pages


def ids(pages):
    return [product.external_id for page in pages for product in page.products]


async def test_the_account_can_be_checked_with_one_call(opened, kind):
    async with opened() as (provider, limiter):
        await provider.check()
    assert limiter.acquired == CASES[kind].checks


async def test_every_product_comes_once_in_the_sources_order(opened, samples, kind, account):
    async with opened() as (provider, _):
        pages = await collect(provider)
    expected = list(expected_products(account.catalogue, provider_type(kind), samples.base_url))
    products = [product for page in pages for product in page.products]
    assert ids(pages) == [product.id for product in expected]
    title, variants = CASES[kind].title, CASES[kind].variants
    assert [product.document[title] for product in products] == [product.title for product in expected]
    assert [[image.url for image in product.images] for product in products] == [
        [image.url for image in product.images] for product in expected
    ]
    assert variants is None or [
        [variant["id"] for variant in product.document[variants]] for product in products
    ] == [[variant.id for variant in product.variants] for product in expected]
    assert len(pages) > 1
    assert all(page.failures == () for page in pages)
    assert pages[-1].total == PRODUCTS
    assert {page.total for page in pages} <= {None, PRODUCTS}


async def test_a_preview_begins_as_the_catalogue_does(opened):
    async with opened() as (provider, _):
        pages = await collect(provider)
        async with aclosing(provider.preview()) as preview:
            first = await anext(preview)
    assert first == pages[0]


async def test_every_cursor_resumes_with_exactly_the_rest(opened):
    async with opened() as (provider, _):
        pages = await collect(provider)
        assert [page.cursor is None for page in pages] == [False] * (len(pages) - 1) + [True]
        for number, page in enumerate(pages[:-1]):
            assert ids(await collect(provider, page.cursor)) == ids(pages[number + 1 :])


async def test_a_cursor_of_another_version_starts_over(opened):
    async with opened() as (provider, _):
        assert len(ids(await collect(provider, {"version": 99}))) == PRODUCTS


async def test_an_empty_catalogue_is_one_empty_last_page(opened):
    async with opened("empty") as (provider, _):
        (page,) = await collect(provider)
    assert (page.products, page.cursor, page.total) == ((), None, 0)


async def test_every_call_has_its_own_grant(opened, account, calls_made):
    order(account, api={"next": [{"status": 500}, {"kind": "throttled"}, {"kind": "drop"}]})
    async with opened() as (provider, limiter):
        await collect(provider)
    assert limiter.acquired == calls_made() > 3


@pytest.mark.parametrize("kind", WITH_CREDENTIALS, indirect=True)
async def test_wrong_credentials_say_what_to_check_and_tell_no_secret(opened, kind):
    wrong = CASES[kind].wrong_credentials
    async with opened(credentials=wrong) as (provider, _):
        for call in (provider.check, lambda: collect(provider)):
            with pytest.raises(CredentialsError, match="Secret") as raised:
                await call()
            assert not any(value in str(raised.value) for value in wrong.values())


@pytest.mark.parametrize("kind", WITH_CREDENTIALS, indirect=True)
async def test_a_secret_without_the_needed_key_is_refused_before_any_call(opened, account):
    with pytest.raises(CredentialsError, match="key"):
        async with opened(credentials={"password": "x"}):
            pass
    assert not account.counters.calls


async def test_a_passing_outage_is_not_noticed(opened, account):
    order(account, api={"next": [{"status": 502, "times": 2}]})
    async with opened() as (provider, _):
        assert len(ids(await collect(provider))) == PRODUCTS


async def test_after_an_outage_the_last_cursor_yields_exactly_the_rest(opened, account):
    first = []
    async with opened() as (provider, _):
        async with aclosing(provider.pages(None)) as pages:
            first.append(await anext(pages))
            order(account, api={"outage": True})
            with pytest.raises(ProviderUnavailableError):
                first.extend([page async for page in pages])
        order(account)
        rest = await collect(provider, first[-1].cursor)
    assert len(ids(first + rest)) == len(set(ids(first + rest))) == PRODUCTS


async def test_throttling_is_obeyed_for_the_whole_connection(opened, account):
    order(account, api={"next": [{"kind": "throttled", "times": 2}]})
    async with opened() as (provider, limiter):
        assert len(ids(await collect(provider))) == PRODUCTS
    assert len(limiter.blocks) == 2
    assert all(seconds > 0 for seconds in limiter.blocks)


async def test_endless_throttling_ends_the_try_and_says_when_to_come_back(opened, account):
    order(account, api={"next": [{"kind": "throttled", "times": 100}]})
    async with opened() as (provider, _):
        with pytest.raises(ProviderThrottledError) as raised:
            await collect(provider)
    assert raised.value.retry_after >= 15


async def test_a_slow_answer_is_an_outage(opened, account):
    order(account, api={"next": [{"kind": "slow", "seconds": 5}]})
    async with opened(timeout_seconds=0.2) as (provider, _):
        with pytest.raises(ProviderUnavailableError, match=r"0\.2 s"):
            await provider.check()


async def test_a_job_gets_on_however_few_calls_it_is_granted_at_a_time(opened, limiter_type):
    cursor, seen = None, []
    for _ in range(PRODUCTS * 2):
        pages = []
        async with opened(limiter=limiter_type(left=2)) as (provider, _):
            with contextlib.suppress(HandBackError):
                await collect(provider, cursor, into=pages)
            seen += ids(pages)
            assert pages
            cursor = pages[-1].cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == PRODUCTS


async def by_id(provider, wanted):
    return [page async for page in provider.products(wanted)]


async def test_products_asked_for_by_id_are_those_of_the_catalogue(opened):
    async with opened() as (provider, limiter):
        products = [product for page in await collect(provider) for product in page.products]
        wanted = [product.external_id for product in reversed(products[::3])]
        before = limiter.acquired
        pages = await by_id(provider, wanted)
    found = {product.external_id: product for page in pages for product in page.products}
    assert sorted(ids(pages)) == sorted(wanted)
    assert found == {product.external_id: product for product in products[::3]}
    assert all((page.failures, page.cursor, page.total) == ((), None, None) for page in pages)
    assert limiter.acquired > before


async def test_no_ids_are_no_call(opened, account):
    async with opened() as (provider, _):
        assert await by_id(provider, []) == []
    assert not account.counters.calls


async def test_products_that_are_gone_are_named(opened, account):
    async with opened() as (provider, _):
        everything = ids(await collect(provider))
        account.catalogue.change(1, ProductChange(removed=True))
        pages = await by_id(provider, [everything[0], everything[1], "never-was", everything[2]])
    assert sorted(ids(pages)) == sorted([everything[0], everything[2]])
    failures = [failure for page in pages for failure in page.failures]
    assert sorted(failure.external_id for failure in failures) == sorted([everything[1], "never-was"])
    assert {failure.reason for failure in failures} == {"GoneFromSource"}


async def test_every_call_by_id_has_its_own_grant(opened, account, calls_made):
    async with opened() as (provider, limiter):
        wanted = ids(await collect(provider))
        order(account, api={"next": [{"status": 500}, {"kind": "throttled"}, {"kind": "drop"}]})
        assert sorted(ids(await by_id(provider, wanted))) == sorted(wanted)
    assert limiter.acquired == calls_made()


async def test_products_by_id_get_on_however_few_calls_are_granted_at_a_time(opened, limiter_type):
    async with opened() as (provider, _):
        left = ids(await collect(provider))
    seen = []
    for _ in range(PRODUCTS):
        pages = []
        async with opened(limiter=limiter_type(left=2)) as (provider, _):
            with contextlib.suppress(HandBackError):
                async for page in provider.products(left):
                    pages.append(page)  # noqa: PERF401 - those before an error count
        assert pages
        seen += ids(pages)
        left = [external_id for external_id in left if external_id not in set(seen)]
        if not left:
            break
    assert len(seen) == len(set(seen)) == PRODUCTS


async def test_cancelling_leaves_no_connection_open(opened, samples, account):
    port = int(samples.base_url.rpartition(":")[2])
    order(account, api={"next": [{"kind": "slow", "seconds": 20}]})
    async with opened(timeout_seconds=60) as (provider, limiter):
        task = asyncio.create_task(collect(provider))
        # The call has arrived once its fault is taken; a busy machine may be long on the way, and then a call
        # takes a second grant, because the first one is stale.
        async with asyncio.timeout(30):
            while account.api_faults.pending():  # noqa: ASYNC110 - the sample tells of no event
                await asyncio.sleep(0.02)
        assert connections_to(port)
        granted = limiter.acquired
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert limiter.acquired == granted > 0
    assert connections_to(port) == []


def connections_to(port):
    """Client ends of this process's open connections to the sample."""
    return [
        connection
        for connection in psutil.Process().net_connections(kind="tcp")
        if connection.raddr and connection.raddr.port == port and connection.status == "ESTABLISHED"
    ]


def test_every_registered_provider_keeps_the_contract():
    assert set(map(provider_type, CASES)) == set(PROVIDERS)
