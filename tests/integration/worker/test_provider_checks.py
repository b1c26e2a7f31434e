"""Checks of connections: what the operator asks for and learns."""

import asyncio
from contextlib import aclosing

import pytest
from chromium import require_chromium
from prometheus_client import CollectorRegistry

from import_core.adapters.postgres.connections import ConnectionStore
from import_core.adapters.postgres.notifications import CONNECTION_CHANNEL, listen
from import_core.adapters.redis.limiter import declare_no_recent_calls
from import_core.adapters.tasks import end_tasks
from import_core.observability.metrics import WorkerMetrics
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.faults import FaultSettings
from import_worker.breakers import Breakers
from import_worker.browsing.browser import ChromiumBrowser
from import_worker.checks import ProviderChecks
from import_worker.connections import ConnectionOpener


def open_connections(stage):
    return ConnectionOpener(
        stage.directory,
        stage.queue._client,
        namespace="imports",
        breakers=Breakers(stage.database, WorkerMetrics(CollectorRegistry())),
        wait_seconds=0,
        allow=stage.settings.allowed_providers,
        browser=ChromiumBrowser(),
    )


@pytest.fixture
async def check(stage):
    """Check one connection and return what is recorded of it."""
    await declare_no_recent_calls(stage.queue._client)
    opener = open_connections(stage)
    checks = ProviderChecks(stage.database, opener, WorkerMetrics(CollectorRegistry()))
    store = ConnectionStore(stage.database)

    async def check(name: str):
        await store.request_check("imports", name, "uid", 1)
        assert await checks.check_one()
        assert not await checks.check_one()
        (state,) = await store.read("imports", [name])
        return state.result

    return check


@pytest.mark.parametrize("kind", ["shopify", "roastify", "whatsapp"])
async def test_a_good_connection(stage, check, kind) -> None:
    result = await check(stage.connect(kind, "tiny-1-0"))
    assert (result.reachable, result.credentials_valid, result.reason) == (True, True, "Checked")


SCRAPED = {
    "mode": "Scrape",
    "scrape": {"selectors": {"item": "article", "title": "h3", "idAttribute": "data-product-id"}},
}


async def test_a_page_that_is_read_needs_no_credentials(stage, check) -> None:
    require_chromium()
    url = f"{stage.samples.whatsapp_url}/tiny-1-0/c/491700000001"
    name = stage.connect("whatsapp", "tiny-1-0", whatsapp=SCRAPED, baseUrl=url)
    del stage.directory.providers[name]["spec"]["credentialsSecretRef"]
    result = await check(name)
    assert (result.reachable, result.credentials_valid, result.reason) == (True, True, "Checked")


async def test_a_worker_without_a_browser_says_so_and_nothing_of_the_page(stage, check, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    url = f"{stage.samples.whatsapp_url}/tiny-1-0/c/491700000001"
    result = await check(stage.connect("whatsapp", "tiny-1-0", whatsapp=SCRAPED, baseUrl=url))
    assert (result.reachable, result.credentials_valid, result.reason) == (None, None, "BrowserMissing")
    assert "worker-scraping" in result.message


async def test_the_operator_is_told(stage, check) -> None:
    async with aclosing(listen(stage.database, [CONNECTION_CHANNEL])) as hints:
        await anext(hints)
        name = stage.connect("shopify", "tiny-1-0")
        await check(name)
        assert (await anext(hints)).payload == f"imports/{name}"


async def test_refused_credentials_prove_that_the_provider_answers(stage, check) -> None:
    name = stage.connect("shopify", "tiny-1-0")
    stage.directory.secrets[name] = {"accessToken": "shpat_wrong_one"}
    result = await check(name)
    assert (result.reachable, result.credentials_valid, result.reason) == (True, False, "InvalidCredentials")


async def test_a_missing_secret_says_nothing_of_the_provider(stage, check) -> None:
    name = stage.connect("shopify", "tiny-1-0")
    del stage.directory.secrets[name]
    result = await check(name)
    assert (result.reachable, result.credentials_valid) == (None, False)
    assert result.message == f"there is no Secret {name} in namespace imports"


async def test_an_unreachable_provider_says_nothing_of_the_credentials(stage, check) -> None:
    name = stage.connect("shopify", "tiny-1-0", baseUrl="http://127.0.0.1:9/shop")
    result = await check(name)
    assert (result.reachable, result.credentials_valid) == (False, None)
    assert result.reason == "ProviderUnavailable"


async def test_an_outage_is_not_the_credentials_fault(stage, check) -> None:
    set_faults(stage.samples.account("shopify", "tiny-1-0"), FaultOrder(api=FaultSettings(outage=True)))
    result = await check(stage.connect("shopify", "tiny-1-0"))
    assert (result.reachable, result.credentials_valid) == (False, None)


async def test_a_check_within_a_used_up_call_limit_is_left_for_later(stage, check) -> None:
    name = stage.connect("roastify", "tiny-1-0", rateLimit={"requests": 1, "perSeconds": 600})
    assert (await check(name)).reachable
    await stage.rows("UPDATE imports.connection SET check_due_at = now(), reachable = NULL")
    checked = await stage.rows("SELECT checked_at FROM imports.connection")
    opener = open_connections(stage)
    assert await ProviderChecks(stage.database, opener, WorkerMetrics(CollectorRegistry())).check_one()
    assert await stage.rows("SELECT checked_at FROM imports.connection") == checked


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("rty_é", "printable ASCII"),
        ("rty_live_1\n", "ends in a line break"),
        ("rty_\x7f1", "printable ASCII"),
    ],
)
async def test_credentials_that_can_not_be_sent_are_named(stage, check, key, words) -> None:
    name = stage.connect("roastify", "tiny-1-0")
    stage.directory.secrets[name] = {"apiKey": key}
    result = await check(name)
    assert (result.reachable, result.credentials_valid, result.reason) == (None, False, "InvalidCredentials")
    assert "apiKey" in result.message
    assert words in result.message
    assert key.strip() not in result.message


@pytest.mark.parametrize("base_url", ["http://999.1.1.1", "http://[1:2]", "http://a..b.invalid"])
async def test_an_address_that_is_none_is_named(stage, check, base_url) -> None:
    result = await check(stage.connect("roastify", "tiny-1-0", baseUrl=base_url))
    assert (result.reachable, result.credentials_valid, result.reason) == (None, None, "InvalidProvider")
    assert "baseUrl" in result.message


async def test_an_address_that_is_not_public_is_not_called(stage, check) -> None:
    result = await check(stage.connect("roastify", "tiny-1-0", baseUrl="http://169.254.169.254/v1"))
    assert (result.reachable, result.credentials_valid, result.reason) == (None, None, "ProviderRejected")
    assert "spec.baseUrl" in result.message
    assert "PROVIDER_ALLOW" in result.message


async def test_what_nobody_expected_is_recorded_too(stage, check, monkeypatch) -> None:
    def broken(*_):
        raise LookupError("a bug")

    monkeypatch.setattr("import_worker.connections.PROVIDERS", {"roastify": broken})
    result = await check(stage.connect("roastify", "tiny-1-0"))
    assert (result.reachable, result.credentials_valid, result.reason) == (None, None, "UnexpectedError")
    assert "LookupError" in result.message


async def test_no_check_ends_the_worker(stage, monkeypatch) -> None:
    """Whatever goes wrong around one check, the next ones are made."""
    await declare_no_recent_calls(stage.queue._client)
    name, store = stage.connect("roastify", "tiny-1-0"), ConnectionStore(stage.database)
    checks = ProviderChecks(
        stage.database,
        open_connections(stage),
        WorkerMetrics(CollectorRegistry()),
        look_every_seconds=0.01,
    )
    take = checks.check_one
    failures = iter([LookupError("a bug")])

    async def broken_once() -> bool:
        if (error := next(failures, None)) is not None:
            raise error
        return await take()

    monkeypatch.setattr(checks, "check_one", broken_once)
    async with aclosing(listen(stage.database, [CONNECTION_CHANNEL])) as hints:
        await anext(hints)
        await store.request_check("imports", name, "uid", 1)
        running = asyncio.create_task(checks.run())
        assert (await asyncio.wait_for(anext(hints), 20)).payload == f"imports/{name}"
        await end_tasks([running])


async def test_a_running_worker_makes_checks_by_itself(stage) -> None:
    name = stage.connect("shopify", "tiny-1-0")
    store = ConnectionStore(stage.database)
    async with aclosing(listen(stage.database, [CONNECTION_CHANNEL])) as hints, stage.worker():
        await anext(hints)
        await store.request_check("imports", name, "uid", 1)
        assert (await anext(hints)).payload == f"imports/{name}"
