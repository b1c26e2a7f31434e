"""The page of figures: what is drawn is what was answered, in words too; it can be used by everybody."""

import json
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from gateway_world import Gateway, World
from page_world import BrowserPage, PageWorld
from playwright.async_api import Browser, Page, expect
from stand_in import StandIn

HOSTILE = "<img src=x onerror=alert(1)>"
QUEUES = ("product-imports", "quality-control")


def figures(days: int = 14) -> dict[str, Any]:
    return {
        "days": [
            {
                "day": f"2026-03-{day:02}",
                "queue": queue,
                "completed": day * 10,
                "failed": day % 3 if queue == "product-imports" else 0,
                "isAtLeast": False,
            }
            for day in range(1, days + 1)
            for queue in QUEUES
        ],
        "durations": [
            {"queue": queue, "jobs": 100, "medianSeconds": 12.0 * number, "p95Seconds": 90.0 * number}
            for number, queue in enumerate(QUEUES, 1)
        ],
        "failures": [
            {"queue": QUEUES[0], "reason": "ProviderUnavailable", "jobs": 9},
            {"queue": QUEUES[0], "reason": HOSTILE, "jobs": 3},
            {"queue": "index-product", "reason": "Invalid", "jobs": 1, "products": 2},
            {"queue": "index-product", "reason": "ImageUnreadable", "jobs": 0, "products": 1},
        ],
        "measuredAt": "2026-03-14T12:00:00Z",
    }


async def open_figures(live: PageWorld) -> Page:
    await live.sign_in()
    await live.page.get_by_role("link", name="Figures").click()
    await expect(live.page.locator("#figures")).to_have_attribute("aria-busy", "false")
    return live.page


async def test_figures_are_drawn_by_day_step_and_reason(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.figures = figures()
    page = await open_figures(live)
    await expect(page.locator("#total-jobs")).to_have_text("2,115")
    await expect(page.locator("#total-failed")).to_have_text("15")
    await expect(page.locator("#total-success")).to_have_text("99.2 %")
    await expect(page.locator("#per-day rect.completed")).to_have_count(14)
    heights = await page.locator("#per-day rect.completed").evaluate_all(
        "all => all.map(each => Number(each.getAttribute('height')))"
    )
    assert heights == sorted(heights)
    await page.get_by_text("As a table").click()
    first = page.locator("#per-day-rows tr").first
    await expect(first).to_contain_text("14 Mar")
    await expect(first).to_contain_text("280")
    await expect(page.locator("#durations li")).to_contain_text(["12 s · 95 % within 1 min 30 s", "24 s"])
    await expect(page.locator("#failures li")).to_contain_text(
        ["ProviderUnavailable", HOSTILE, "1 job, 2 products", "1 product"]
    )


async def test_a_step_and_a_span_are_chosen(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.figures = figures()
    page = await open_figures(live)
    await page.get_by_role("combobox", name="Step").select_option("quality-control")
    await expect(page.locator("#total-failed")).to_have_text("0")
    await expect(page.locator("#durations li")).to_have_count(1)
    await expect(page.get_by_text("None has failed.")).to_be_visible()
    stand_in.figures = figures(7)
    await page.get_by_role("combobox", name="Days").select_option("7")
    await expect(page.locator("#per-day rect.completed")).to_have_count(7)
    await expect(page.get_by_role("combobox", name="Step")).to_have_value("quality-control")
    assert stand_in.calls.figures == ["14", "7"]


async def test_without_a_session_the_page_says_where_to_sign_in(live: PageWorld, stand_in: StandIn) -> None:
    await live.page.goto(stand_in.url + "figures")
    await expect(live.page.get_by_text("You are not signed in.")).to_be_visible()
    await live.page.get_by_role("link", name="Sign in").click()
    await expect(live.page.get_by_label("Token")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_figures_pass_the_accessibility_checks(
    browser: Browser, stand_in: StandIn, scheme: Any
) -> None:
    stand_in.figures = figures()
    async with PageWorld.open(
        browser, stand_in, color_scheme=scheme, viewport={"width": 360, "height": 740}
    ) as live:
        page = await open_figures(live)
        await page.get_by_text("As a table").click()
        found = (await Axe().run(page)).response["violations"]
        wider = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert [f"{each['id']}: {json.dumps(each['nodes'][0]['target'])}" for each in found] == []
    assert not wider


async def test_figures_of_a_real_gateway(browser: Browser, gateway: Gateway, world: World) -> None:
    for number, state in enumerate(("COMPLETED", "COMPLETED", "FAILED")):
        job_id = await world.job(f"figure-{number}")
        await world.execute(
            """UPDATE "ProductImportJob" SET status = %s, "startedAt" = now() - interval '30 seconds',
            "completedAt" = now(), "failureReason" = CASE WHEN %s = 'FAILED' THEN 'CredentialsRefused' END
            WHERE id = %s""",
            (state, state, job_id),
        )
    assert (await gateway.call("GET", "/v1/figures?days=0")).status_code == 422
    assert (await gateway.call("GET", "/v1/figures", caller="nobody")).status_code == 403
    assert (await gateway.call("GET", "/v1/figures", caller=None)).status_code == 401
    async with BrowserPage.opened(browser) as opened:
        page = opened.page
        await page.goto(gateway.url + "/")
        await page.get_by_label("Token").fill(gateway.cluster.tokens["viewer"])
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name="Figures").click()
        await expect(page.locator("#total-jobs")).to_have_text("3")
        await expect(page.locator("#total-success")).to_have_text("66.6 %")
        await expect(page.locator("#durations li")).to_contain_text("30 s")
        await expect(page.locator("#failures li")).to_contain_text("CredentialsRefused")
