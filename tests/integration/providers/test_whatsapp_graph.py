"""WhatsApp catalogues by Meta's Graph API, beyond the contract: repeats, misses, forgotten places, refusals."""

from contextlib import asynccontextmanager

import pytest

from import_core.domain.addresses import parse_allow_list
from import_core.domain.errors import (
    CredentialsError,
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.resources.whatsapp import GraphSettings
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.settings import GRAPH_CATALOGUE
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.http import CallPolicy
from import_worker.providers.whatsapp import GraphProvider, graph

NAME = "tiny-45-1-graph"
QUICK = CallPolicy(first_throttle_delay=0.01, throttle_retries=1, first_outage_delay=0.01)


@pytest.fixture
def account(samples):
    return samples.account("whatsapp", NAME)


@pytest.fixture
def opened(samples, limiter_type):
    @asynccontextmanager
    async def opened(*, suffix="", current=False, **graph):
        settings = GraphSettings.model_validate({"catalogId": GRAPH_CATALOGUE, "pageSize": 10, **graph})
        connection = Connection(
            "imports/graph",
            "whatsapp",
            "acme",
            f"{samples.graph_url}/{NAME}",
            {"accessToken": f"EAA{suffix or 'example'}"},
            allow=parse_allow_list("127.0.0.1"),
        )
        chosen = CatalogueFilter(is_current=current)
        provider = GraphProvider(connection, limiter_type(), chosen, graph=settings, policy=QUICK)
        try:
            yield provider
        finally:
            await provider.aclose()

    return opened


def order(account, **faults):
    set_faults(account, FaultOrder.model_validate(faults))


async def collect(provider, cursor=None):
    return [page async for page in provider.pages(cursor)]


def ids(pages):
    return [product.external_id for page in pages for product in page.products]


async def test_an_item_that_pages_repeat_comes_once(opened, account):
    order(account, listing="repeats")
    async with opened() as provider:
        pages = await collect(provider)
        resumed = await collect(provider, pages[1].cursor)
    assert len(ids(pages)) == len(set(ids(pages))) == pages[-1].total == 45
    assert ids(resumed) == ids(pages[2:])


async def test_what_the_first_listing_missed_comes_by_a_second_one(opened, account):
    order(account, listing="misses")
    async with opened(current=True) as provider:
        pages = await collect(provider)
    assert len(ids(pages)) == len(set(ids(pages))) == pages[-1].total == 45
    assert [page.cursor is None for page in pages] == [False] * (len(pages) - 1) + [True]


async def test_nothing_may_be_archived_by_a_listing_that_still_lacks_products(opened, account, monkeypatch):
    order(account, listing="misses")
    # Whatever is listed, it is the first listing of each.
    monkeypatch.setattr(account, "listed_again", Never())
    async with opened(current=False) as provider:
        assert len(ids(await collect(provider))) == 41
    async with opened(current=True) as provider:
        with pytest.raises(ProviderUnavailableError, match=r"45 products, but lists 41"):
            await collect(provider)


async def test_what_came_before_a_restart_is_not_counted_again_for_the_catalogue(
    opened, account, monkeypatch
):
    # A cursor that remembers few of the ids that came, as it does in a catalogue of more than a thousand.
    monkeypatch.setattr(graph, "REMEMBERED", 5)
    order(account, listing="misses")
    async with opened(current=True) as provider:
        pages = await collect(provider)
    assert len(ids(pages)) == 45
    within = [page.cursor for page in pages if page.cursor is not None and page.cursor["again"]]
    assert within
    monkeypatch.setattr(account, "listed_again", Never())
    async with opened(current=True) as provider:
        for cursor in within:
            with pytest.raises(ProviderUnavailableError, match=r"45 products, but lists 41"):
                await collect(provider, cursor)


async def test_a_first_listing_that_was_resumed_counts_the_second_one_by_itself(opened, account, monkeypatch):
    monkeypatch.setattr(graph, "REMEMBERED", 5)
    order(account, listing="misses")
    monkeypatch.setattr(account, "listed_again", Never())
    async with opened() as provider:
        first = await collect(provider)
    async with opened(current=True) as provider:
        with pytest.raises(ProviderUnavailableError, match=r"45 products, but lists 41"):
            await collect(provider, first[1].cursor)


class Never(set):
    def add(self, _element):
        pass


async def test_a_forgotten_place_starts_the_catalogue_over(opened):
    cursor = {"version": 1, "after": "Zm9yZ290dGVu", "seen": 20, "recent": [], "again": False}
    async with opened() as provider:
        pages = await collect(provider, cursor)
    assert pages[0].restarted
    assert len(ids(pages)) == 45


async def test_a_token_without_the_permission_is_told_apart_from_a_wrong_one(opened):
    async with opened(suffix="example-no-permission") as provider:
        with pytest.raises(CredentialsError, match=r"code 200.*catalog_management"):
            await provider.check()
    async with opened(suffix="expired") as provider:
        with pytest.raises(CredentialsError, match=r"code 190.*accessToken.*Invalid OAuth access token"):
            await provider.check()


async def test_another_catalogue_names_the_field(opened):
    async with opened(catalogId="42") as provider:
        with pytest.raises(ProviderRejectedError, match=r"spec\.whatsapp\.graph\.catalogId"):
            await provider.check()


async def test_a_transient_error_runs_again(opened, account):
    order(account, api={"next": [{"status": 400}]})
    async with opened() as provider:
        with pytest.raises(ProviderUnavailableError, match=r"passing reason \(code 1\)"):
            await provider.check()
        assert len(ids(await collect(provider))) == 45


async def test_the_catalogues_own_limit_throttles_with_http_400(opened, account):
    order(account, api={"next": [{"kind": "throttled", "times": 3}]})
    async with opened() as provider:
        with pytest.raises(ProviderThrottledError):
            await provider.check()
