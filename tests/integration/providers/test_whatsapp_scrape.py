"""WhatsApp catalogues' pages in a real Chromium, beyond the contract: walls, changed pages, hostile pages, deaths."""

import asyncio
import contextlib
import copy
import sys
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
import pytest_asyncio
from test_provider_contract import SCRAPED

from import_core.domain.addresses import parse_allow_list
from import_core.domain.errors import (
    BrowserMissingError,
    CatalogueTooLargeError,
    HandBackError,
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.resources.whatsapp import ScrapeSettings
from import_local.samples.app import serve_samples
from import_local.samples.catalogue import expected_products
from import_local.samples.catalogue.live import ProductChange
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.settings import SampleSettings
from import_worker.browsing.browser import ChromiumBrowser
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.http import CallPolicy
from import_worker.providers.whatsapp import ScrapeProvider
from import_worker.providers.whatsapp.page_client import ROBOTS

NAME = "tiny-5-2-scrape"
QUICK = CallPolicy(first_throttle_delay=0.01, throttle_retries=1, first_outage_delay=0.01, outage_retries=1)
ITEM_PAGE = {"title": ".name", "price": ".amount", "description": ".about", "image": ".photo"}


class Private:
    """A port of loopback that no page may reach: counts what comes, by TCP and UDP."""

    def __init__(self) -> None:
        self.touched = 0
        self.port = 0

    def data_received(self, *_args: object) -> None:
        self.touched += 1

    async def connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.touched += 1
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, private: Private) -> None:
        self._private = private

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._private.touched += 1


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def private():
    private = Private()
    server = await asyncio.start_server(private.connected, "127.0.0.1", 0)
    private.port = server.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Datagrams(private), local_addr=("127.0.0.1", private.port)
    )
    yield private
    transport.close()
    server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sellers(private):
    async with serve_samples(SampleSettings(loopback_port=private.port)) as running:
        yield running


@pytest.fixture
def account(sellers):
    ROBOTS.clear()
    account = sellers.account("whatsapp", NAME)
    account.reset()
    return account


@pytest.fixture
def opened(sellers, limiter_type, browser, account):
    """Opens a provider: (provider, limiter). `changes` are laid over the settings, by path."""

    @asynccontextmanager
    async def opened(changes=(), *, limiter=None, own_browser=None, seconds=10.0, path=None):
        body: dict[str, Any] = copy.deepcopy(SCRAPED["scrape"])
        for place, value in dict(changes).items():
            *steps, last = place.split(".")
            target = body
            for step in steps:
                target = target.setdefault(step, {})
            target[last] = value
        limiter = limiter or limiter_type()
        connection = Connection(
            "imports/scrape",
            "whatsapp",
            "acme",
            f"{sellers.base_url}{path or f'/whatsapp/{NAME}/c/491700000001'}",
            {},
            timeout_seconds=seconds,
            allow=parse_allow_list(sellers.base_url.removeprefix("http://")),
            browser=own_browser or browser,
        )
        provider = ScrapeProvider(
            connection,
            limiter,
            CatalogueFilter(),
            scrape=ScrapeSettings.model_validate(body),
            page_size=2,
            policy=QUICK,
        )
        try:
            yield provider, limiter
        finally:
            await provider.aclose()

    return opened


def order(account, **faults):
    set_faults(account, FaultOrder.model_validate(faults))


async def collect(provider, cursor=None, into=None):
    pages = [] if into is None else into
    async with contextlib.aclosing(provider.pages(cursor)) as found:
        async for page in found:
            pages.append(page)
    return pages


def products(pages):
    return [product for page in pages for product in page.products]


async def test_a_hostile_page_reaches_nothing_and_is_read_as_plain_text(opened, account, private, tmp_path):
    order(account, page="hostile")
    before = private.touched
    async with opened({"scroll.quietMilliseconds": 600}) as (provider, limiter):
        pages = await collect(provider)
    (product,) = products(pages)
    document = product.document
    assert document["name"].endswith("<script>alert(1)</script>")
    assert "leaked" not in document["name"]
    # A link that is script and an image that is data are no addresses.
    assert document["url"] is None
    assert [image.url for image in product.images] == [document["image_url"]]
    assert document["image_url"].startswith("http://")
    assert private.touched == before
    # One page load and robots.txt: what the page wanted to load was no call, and nowhere else.
    assert limiter.acquired == 2 == len(account.counters.calls) + 1


async def test_a_page_that_redirects_to_a_private_address_is_refused(opened, account, private):
    order(account, page="away")
    before = private.touched
    async with opened() as (provider, _):
        with pytest.raises(ProviderRejectedError, match=r"loopback.*PROVIDER_ALLOW"):
            await collect(provider)
    assert private.touched == before


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("consent", r"shows a consent page.*'Before you continue'.*Graph"),
        ("login", r"shows a login page"),
        ("robot-check", r"shows a check for robots"),
        (
            "changed",
            r"nothing that spec\.whatsapp\.scrape\.selectors\.item \(\.catalogue-item\).*title 5.*selectors\.empty",
        ),
        ("download", r"'application/octet-stream' instead of a page|a download"),
    ],
)
async def test_a_page_that_is_not_the_catalogue_says_what_it_is(opened, account, page, words):
    order(account, page=page)
    async with opened() as (provider, _):
        with pytest.raises(ProviderRejectedError, match=words):
            await collect(provider)


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, r"no page.*spec\.baseUrl"), (403, "does not show the page to us"), (400, "HTTP 400")],
)
async def test_a_refused_page_says_so_to_jobs_and_checks(opened, account, status, words):
    order(account, api={"next": [{"status": status, "times": 2}]})
    async with opened() as (provider, _):
        with pytest.raises(ProviderRejectedError, match=words):
            await provider.check()
        with pytest.raises(ProviderRejectedError, match=words):
            await collect(provider)


async def test_robots_are_respected_before_the_page_is_asked_for(opened, account):
    order(account, closedByRobots=True)
    async with opened() as (provider, _):
        for call in (provider.check, lambda: collect(provider)):
            with pytest.raises(ProviderRejectedError, match=r"robots\.txt.*respectRobots"):
                await call()
    assert not account.counters.calls
    async with opened({"respectRobots": False}) as (provider, _):
        await provider.check()
        assert len(products(await collect(provider))) == 5


async def test_item_pages_are_visited_each_with_a_grant_and_a_job_gets_on_by_few(
    opened, account, sellers, limiter_type
):
    wanted = list(expected_products(account.catalogue, "whatsapp", sellers.base_url))
    cursor, seen, runs = None, [], 0
    while True:
        pages = []
        async with opened({"itemPage": ITEM_PAGE}, limiter=limiter_type(left=4)) as (provider, _):
            with contextlib.suppress(HandBackError):
                await collect(provider, cursor, into=pages)
        seen += products(pages)
        runs += 1
        cursor = pages[-1].cursor
        if cursor is None:
            break
    # Two of four calls are robots.txt and the list, later the list alone.
    assert runs == 2
    assert [product.document["name"] for product in seen] == [product.title for product in wanted]
    assert [product.document["description"] for product in seen] == [
        product.description for product in wanted
    ]
    assert [[image.url for image in product.images] for product in seen] == [
        [image.url for image in product.images] for product in wanted
    ]
    # The list twice, and each item once.
    assert len(account.counters.calls) == 7


async def test_what_an_items_page_lacks_is_taken_from_the_list_and_not_waited_for(opened):
    parts = {"title": ".name", "price": ".blank", "description": ".never"}
    # Whoever waited for what never comes would wait for an hour.
    async with opened({"itemPage": parts}, seconds=3600.0) as (provider, _):
        pages = await collect(provider)
    assert len(products(pages)) == 5
    assert all(product.document["price"] and product.document["description"] for product in products(pages))


async def test_an_item_whose_page_is_gone_is_a_failure_of_its_own(opened, account):
    order(
        account, api={"next": [{"kind": "slow", "seconds": 0, "times": 2}, {"status": 404}, {"status": 400}]}
    )
    async with opened({"itemPage": ITEM_PAGE}) as (provider, _):
        pages = await collect(provider)
    failures = [failure for page in pages for failure in page.failures]
    assert [failure.reason for failure in failures] == ["GoneFromSource", "ProviderRejected"]
    assert pages[-1].total == 5
    assert len(products(pages)) == 3


async def test_a_list_without_end_is_cut_off_by_name_and_does_not_look_like_its_end(opened, account):
    order(account, page="endless")
    pages = []
    async with opened({"scroll.maxRounds": 2}) as (provider, _):
        with pytest.raises(ProviderRejectedError, match=r"scroll\.maxRounds"):
            await collect(provider, into=pages)
    assert products(pages)
    assert all(page.cursor is not None for page in pages)


async def test_more_items_than_may_be_are_an_error_after_those_that_may(opened, account):
    pages = []
    async with opened({"maxItems": 3}) as (provider, _):
        with pytest.raises(CatalogueTooLargeError, match=r"more than 3 .*spec\.whatsapp\.scrape\.maxItems"):
            await collect(provider, into=pages)
    assert len(products(pages)) == 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 503, "times": 50}, ProviderUnavailableError),
        ({"kind": "drop", "times": 50}, ProviderUnavailableError),
        ({"kind": "throttled", "times": 50}, ProviderThrottledError),
    ],
)
async def test_items_that_the_page_could_not_load_do_not_look_like_its_end(opened, account, fault, error):
    order(account, api={"next": [{"kind": "slow", "seconds": 0}, fault]})
    async with opened() as (provider, _):
        with pytest.raises(error):
            await collect(provider)


async def test_selectors_that_are_none_are_named_before_anything_is_asked_for(opened, account):
    changes = {"selectors.price": "p[", "itemPage": {"image": "img::::x"}}
    async with opened(changes) as (provider, limiter):
        with pytest.raises(
            ProviderRejectedError, match=r"selectors\.price, .*itemPage\.image: is not a valid CSS"
        ):
            await collect(provider)
    assert limiter.acquired == 0


async def test_a_slow_page_is_an_outage(opened, account):
    order(account, api={"next": [{"kind": "slow", "seconds": 30}]})
    async with opened(seconds=1.0) as (provider, _):
        with pytest.raises(ProviderUnavailableError, match="within 1 s"):
            await collect(provider)


async def test_a_browser_that_died_is_started_again(opened, account, browser):
    async with opened() as (provider, _):
        await collect(provider)
        launches = browser.launches
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                command = " ".join(child.cmdline())
                if "--headless" in command and "--type=" not in command:
                    child.kill()
        assert len(products(await collect(provider))) == 5
    assert browser.launches == launches + 1


def chromiums():
    """The names that the browser's own processes have in their environments, those of its pages' among them, by id."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        # One may end while it is looked at.
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if "--headless" in command or "--type=" in command:
                found[child.pid] = set(child.environ())
    return found


async def test_the_browser_does_not_get_the_workers_secrets(opened, account, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://importer:secret@db/platform")
    before = chromiums()
    own = ChromiumBrowser()
    try:
        async with opened(own_browser=own) as (provider, _):
            assert len(products(await collect(provider))) == 5
            seen = [names for pid, names in chromiums().items() if pid not in before]
    finally:
        await own.aclose()
    assert seen
    assert all("DATABASE_URL" not in names for names in seen)
    assert any("PATH" in names for names in seen)


async def test_products_by_id_are_read_from_the_list_and_their_pages(opened, account):
    async with opened({"itemPage": ITEM_PAGE}) as (provider, _):
        everything = [product.external_id for product in products(await collect(provider))]
        account.catalogue.change(1, ProductChange(removed=True))
        pages = [page async for page in provider.products([everything[2], everything[1]])]
    assert [product.external_id for product in products(pages)] == [everything[2]]
    assert [failure.external_id for page in pages for failure in page.failures] == [everything[1]]


@pytest.mark.parametrize("call", ["check", "pages"])
async def test_without_chromium_the_error_says_what_to_install(opened, account, call, tmp_path, monkeypatch):
    async def fails(browser, words):
        async with opened(own_browser=browser) as (provider, limiter):
            with pytest.raises(BrowserMissingError, match=words):
                await (provider.check() if call == "check" else collect(provider))
        assert limiter.acquired == 0

    await fails(ChromiumBrowser(str(tmp_path / "chromium")), "CHROMIUM_PATH is .*/chromium")
    monkeypatch.setenv("PATH", str(tmp_path))
    await fails(ChromiumBrowser(), "worker-scraping.*package chromium")
    monkeypatch.setitem(sys.modules, "playwright.async_api", None)
    await fails(ChromiumBrowser(), r"playwright.*worker-scraping.*import-operator\[scraping\]")
