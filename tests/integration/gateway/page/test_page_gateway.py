"""The page on a real gateway: real tokens and rights, rows that change in PostgreSQL, a gateway that restarts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from eventually import eventually
from gateway_world import Gateway, World
from page_world import BrowserPage
from playwright.async_api import Browser, Page, expect

from import_core.adapters.kube.resources import IMPORT_JOB


@asynccontextmanager
async def signed_in(browser: Browser, gateway: Gateway, caller: str = "operations") -> AsyncIterator[Page]:
    """The page of a caller; the end fails where the browser noted an error or a CSP violation."""
    async with BrowserPage.opened(browser) as opened:
        page = opened.page
        await page.goto(gateway.url + "/")
        await page.get_by_label("Token").fill(gateway.cluster.tokens[caller])
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#live-text")).to_have_text("Live")
        yield page


async def test_a_job_is_followed_from_submission_to_its_errors(
    browser: Browser, gateway: Gateway, world: World
) -> None:
    async with signed_in(browser, gateway) as page:
        job_id = await world.job("page-way")
        row = page.locator(f'.job[data-id="{job_id}"]')
        await expect(page.locator('[data-group="waiting"]').locator(row)).to_be_visible()
        await world.execute(
            """INSERT INTO imports.claim (job_id, claim_id, worker_id, queue, dispatch, expires_at)
            VALUES (%s, gen_random_uuid(), 'w1', 'product-imports', 1, now() + interval '1 minute')""",
            (job_id,),
        )
        await world.set(job_id, "IN_PROGRESS", startedAt=datetime.now(UTC))
        await world.checkpoint(job_id, products_total=40, products_imported=10, products_failed=2)
        await expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "30")
        await expect(row).to_contain_text("12 / 40 products")
        await world.execute(
            """INSERT INTO imports.item_error (job_id, external_id, stage, url, reason, message)
            VALUES (%s, 'gid://7', 'map', '', 'InvalidPrice', 'price: “free” is no number')""",
            (job_id,),
        )
        await world.set(
            job_id, "FAILED", failureReason="TooManyFailures", errorMessage="Too many products failed"
        )
        await expect(page.locator('[data-group="failed"]').locator(row)).to_contain_text(
            "Too many products failed"
        )
        await row.get_by_role("button", name="page-way", exact=True).click()
        await expect(page.locator("#details .errors li")).to_contain_text("InvalidPrice")
        await expect(page.locator("#details .errors li")).to_contain_text("price: “free” is no number")


async def test_cancel_deletes_the_object_after_confirmation(
    browser: Browser, gateway: Gateway, world: World
) -> None:
    await world.job("page-cancel")
    async with signed_in(browser, gateway) as page:
        await page.get_by_role("button", name="Cancel page-cancel").click()
        await page.get_by_role("button", name="Cancel the import").click()
        await expect(page.get_by_role("status").filter(has_text="is being cancelled")).to_be_visible()

    async def gone() -> bool:
        found = await gateway.cluster.kube.get(IMPORT_JOB, gateway.cluster.namespace, "page-cancel")
        return found is None

    await eventually(gone)


async def test_the_queue_is_paused_and_resumed_and_everybody_sees_by_whom(
    browser: Browser, gateway: Gateway, world: World
) -> None:
    async with signed_in(browser, gateway) as page, signed_in(browser, gateway, "viewer") as other:
        await page.get_by_role("button", name="Pause dispatch").click()
        await page.get_by_label("Reason, for whoever comes next").fill("store is down")
        await page.get_by_role("dialog").get_by_role("button", name="Pause dispatch").click()
        for each in (page, other):
            await expect(each.locator(".flow-note")).to_contain_text("/operations")
            await expect(each.locator(".flow-note")).to_contain_text("store is down")
        await expect(other.get_by_role("button", name="Resume dispatch")).to_be_disabled()
        await page.get_by_role("button", name="Resume dispatch").click()
        await expect(other.get_by_role("button", name="Pause dispatch")).to_be_visible()


async def test_who_may_only_look_gets_no_buttons_and_who_may_nothing_is_told(
    browser: Browser, gateway: Gateway, world: World
) -> None:
    await world.job("page-look")
    async with signed_in(browser, gateway, "viewer") as page:
        await expect(page.get_by_role("button", name="page-look", exact=True)).to_be_visible()
        await expect(page.get_by_role("button", name="Cancel page-look")).to_have_count(0)
        await expect(page.get_by_text("Your account may look, but not retry or cancel.")).to_be_visible()
    async with BrowserPage.opened(browser) as opened:
        await opened.page.goto(gateway.url + "/")
        await opened.page.get_by_label("Token").fill(gateway.cluster.tokens["nobody"])
        await opened.page.get_by_role("button", name="Sign in").click()
        await expect(opened.page.locator("#sign-in-error")).to_contain_text(
            "may not see imports: it needs the right to list importjobs.imports.avnz.io"
        )
        await expect(opened.page.locator("#dashboard")).to_be_hidden()


async def test_the_page_finds_a_gateway_that_restarted(browser: Browser, world: World) -> None:
    first = await world.job("page-before")
    async with BrowserPage.opened(browser) as opened:
        page = opened.page
        async with world.gateway() as gateway:
            port = gateway.server.port
            await page.goto(gateway.url + "/")
            await page.get_by_label("Token").fill(gateway.cluster.tokens["operations"])
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.locator(f'.job[data-id="{first}"]')).to_be_visible()
        await expect(page.locator("#live-text")).to_have_text("Connection lost")
        second = await world.job("page-meanwhile")
        await world.set(first, "COMPLETED")
        async with world.gateway(http_port=port):
            await expect(page.locator("#live-text")).to_have_text("Live")
            await expect(page.locator(f'.job[data-id="{second}"]')).to_be_visible()
            await expect(page.locator(f'[data-group="finished"] .job[data-id="{first}"]')).to_be_visible()
