"""Shopify's bulk operation against the sample: started once, adopted, waited for, resumed, given up."""

import asyncio
from contextlib import aclosing

import httpx2
import pytest

from import_core.domain.addresses import parse_allow_list
from import_core.domain.errors import ProviderUnavailableError
from import_local.samples.catalogue import expected_products
from import_local.samples.control import FaultOrder, set_faults
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.http import CallPolicy
from import_worker.providers.shopify import ShopifyProvider, ShopifySettings
from import_worker.providers.shopify.queries import GRAPHQL_PATH, RUN_BULK, bulk_query

CATALOGUE = "tiny-120-2"
FAST = {"first_poll": 0.05, "longest_poll": 0.1, "policy": CallPolicy(first_outage_delay=0.01)}


@pytest.fixture
def account(samples):
    return samples.account("shopify", CATALOGUE)


@pytest.fixture
async def shop(samples, limiter_type):
    """Opens providers for which every catalogue above 100 products is large."""
    opened = []

    def shop(catalogue=CATALOGUE, catalogue_filter=None, **settings):
        connection = Connection(
            key="imports/acme",
            type="shopify",
            company_id="acme",
            base_url=f"{samples.shopify_url}/{catalogue}",
            credentials={"accessToken": "shpat_example"},
            allow=parse_allow_list("127.0.0.1"),
        )
        chosen = ShopifySettings(**(FAST | {"bulk_above": 100, "bulk_page_size": 50} | settings))
        provider = ShopifyProvider(
            connection, limiter_type(), catalogue_filter or CatalogueFilter(), settings=chosen
        )
        opened.append(provider)
        return provider

    yield shop
    for provider in opened:
        await provider.aclose()


def order(account, **faults):
    set_faults(account, FaultOrder.model_validate({"rateScale": 1000} | faults))


async def collect(provider, cursor=None):
    return [page async for page in provider.pages(cursor)]


async def start(samples, query):
    """Start an operation as another part of the same app would; returns its id."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            f"{samples.shopify_url}/{CATALOGUE}{GRAPHQL_PATH}",
            headers={"X-Shopify-Access-Token": "shpat_example"},
            json={"query": RUN_BULK, "variables": {"query": query}},
        )
    return answer.json()["data"]["bulkOperationRunQuery"]["bulkOperation"]["id"]


async def completed(account):
    """Wait until the newest operation has its result."""
    async with asyncio.timeout(10):
        while account.bulk.current()["status"] != "COMPLETED":  # noqa: ASYNC110 - the sample tells of no event
            await asyncio.sleep(0.02)


def ids(pages):
    return [product.external_id for page in pages for product in page.products]


def graphql_calls(account):
    return sum(call.what.endswith("graphql.json") for call in account.counters.calls)


async def test_a_large_catalogue_comes_whole_by_one_operation(shop, account, samples):
    order(account)
    pages = await collect(shop())
    expected = list(expected_products(account.catalogue, "shopify", samples.base_url))
    products = [product for page in pages for product in page.products]
    assert ids(pages) == [product.id for product in expected]
    assert [[image.url for image in product.images] for product in products] == [
        [image.url for image in product.images] for product in expected
    ]
    assert [[variant["id"] for variant in product.document["variants"]] for product in products] == [
        [variant.id for variant in product.variants] for product in expected
    ]
    assert max(len(page.products) for page in pages) == 50
    assert pages[-1].total == len(expected) == 120
    assert graphql_calls(account) < 10


async def test_the_total_is_the_shops_own_count_where_the_result_has_fewer(shop, account):
    """A result that was cut short must not look like a whole catalogue."""
    order(account)
    pages = await collect(shop(), {"version": 1, "total": 125, "after": None, "shape": None})
    assert {page.total for page in pages} == {125}
    operation = (await collect(shop()))[0].cursor["bulk"]
    pages = await collect(shop(), {"version": 1, "total": 125, "bulk": operation, "index": 0})
    assert ({page.total for page in pages}, len(ids(pages))) == ({125}, 120)


async def test_bulk_and_paging_give_the_same_products(shop, account):
    order(account)
    by_bulk = [product for page in await collect(shop()) for product in page.products]
    by_paging = [product for page in await collect(shop(bulk_above=10_000)) for product in page.products]
    assert by_bulk == by_paging


async def test_every_cursor_resumes_the_same_operation(shop, account):
    order(account)
    pages = await collect(shop())
    operation = account.bulk.current()["id"]
    assert pages[0].products == ()
    assert pages[0].cursor["bulk"] == operation
    for number, page in enumerate(pages[:-1]):
        assert ids(await collect(shop(), page.cursor)) == ids(pages[number + 1 :])
    assert account.bulk.current()["id"] == operation


async def test_a_job_interrupted_while_waiting_finds_its_operation_again(shop, account):
    order(account, bulkSeconds=0.5)
    async with aclosing(shop().pages(None)) as pages:
        await anext(pages)
    operation = account.bulk.current()["id"]
    assert len(ids(await collect(shop()))) == 120
    assert account.bulk.current()["id"] == operation


async def test_a_job_that_archives_trusts_no_operation_that_is_older_than_itself(shop, account, samples):
    """A product that is newer than the operation would seem to be gone."""
    order(account, bulkSeconds=0.3)
    older = await start(samples, bulk_query(None))
    pages = await collect(shop(catalogue_filter=CatalogueFilter(is_current=True)))
    assert len(ids(pages)) == 120
    assert pages[0].cursor["bulk"] not in {older, None}


async def test_another_operation_of_the_app_is_waited_for(shop, account, samples):
    order(account, bulkSeconds=0.3)
    foreign = await start(samples, "{ products { edges { node { id } } } }")
    pages = await collect(shop())
    assert len(ids(pages)) == 120
    assert pages[0].cursor["bulk"] != foreign


async def test_an_operation_of_another_filter_is_another_one(shop, account, samples):
    order(account, bulkSeconds=0.2)
    foreign = await start(samples, bulk_query("updated_at:>'2030-01-01T00:00:00Z'"))
    pages = await collect(shop())
    assert len(ids(pages)) == 120
    assert pages[0].cursor["bulk"] != foreign


async def test_paging_takes_over_when_another_operation_does_not_end(shop, account, samples):
    order(account, bulk="stall")
    await start(samples, "{ products { edges { node { id } } } }")
    pages = await collect(shop(foreign_bulk_wait=0.2))
    await account.bulk.close()
    assert len(set(ids(pages))) == len(ids(pages)) == 120
    assert "bulk" not in pages[0].cursor


async def test_paging_takes_over_when_the_operation_fails(shop, account):
    order(account, bulk="fail")
    pages = await collect(shop())
    assert len(set(ids(pages))) == len(ids(pages)) == 120
    assert pages[-1].total == 120


async def test_paging_takes_over_when_the_operation_takes_too_long(shop, account):
    order(account, bulk="stall")
    pages = await collect(shop(bulk_timeout=0.2))
    await account.bulk.close()
    assert len(set(ids(pages))) == 120


async def test_paging_takes_over_when_the_operation_is_forgotten(shop, account):
    order(account)
    cursor = {"version": 1, "total": 120, "bulk": "gid://shopify/BulkOperation/424242", "index": 100}
    assert len(set(ids(await collect(shop(), cursor)))) == 120


async def test_while_waiting_empty_pages_show_that_the_job_is_alive(shop, account):
    order(account, bulk="stall")
    async with aclosing(shop(bulk_heartbeat=0.1).pages(None)) as pages:
        beats = [await anext(pages) for _ in range(4)]
    await account.bulk.close()
    assert [page.products for page in beats] == [()] * 4
    assert {page.cursor["index"] for page in beats} == {0}


async def test_a_broken_download_is_tried_again(shop, account):
    order(account)
    provider = shop()
    async with aclosing(provider.pages(None)) as pages:
        first = await anext(pages)
        await completed(account)
        # The next call asks for the operation's state, the one after it downloads.
        order(account, api={"next": [{"kind": "slow", "seconds": 0}, {"kind": "drop"}, {"status": 503}]})
        rest = [page async for page in pages]
    assert len(ids([first, *rest])) == 120


async def test_a_download_that_stays_broken_is_an_outage_and_resumes_later(shop, account):
    order(account)
    provider = shop()
    async with aclosing(provider.pages(None)) as pages:
        first = await anext(pages)
        await completed(account)
        order(account, api={"next": [{"kind": "slow", "seconds": 0}, {"kind": "drop", "times": 3}]})
        with pytest.raises(ProviderUnavailableError, match="downloaded"):
            await anext(pages)
    order(account)
    assert len(ids(await collect(shop(), first.cursor))) == 120


async def test_a_result_larger_than_allowed_is_refused(shop, account):
    order(account)
    with pytest.raises(Exception, match="more than 1000 bytes") as raised:
        await collect(shop(longest_download=1000))
    assert raised.value.reason == "ProviderRejected"


async def test_a_filter_that_matches_nothing_is_an_empty_result(shop, account):
    order(account)
    later = CatalogueFilter(updated_after="2099-01-01T00:00:00Z")
    pages = await collect(shop(catalogue_filter=later, bulk_above=-1))
    assert ids(pages) == []
    assert (pages[-1].cursor, pages[-1].total) == (None, 0)


async def test_cancelling_while_waiting_ends_at_once(shop, account):
    order(account, bulk="stall")
    task = asyncio.create_task(collect(shop(first_poll=60, longest_poll=60)))
    async with asyncio.timeout(10):
        while account.bulk.current() is None:  # noqa: ASYNC110 - the sample tells of no event
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await account.bulk.close()
