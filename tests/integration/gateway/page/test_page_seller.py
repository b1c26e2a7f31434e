"""A seller's page by a link, on a real gateway: what is shown, what stays hidden, and how it ends."""

import json

from axe_playwright_python.async_playwright import Axe
from gateway_world import World
from page_world import BrowserPage
from playwright.async_api import Browser, expect
from redis.asyncio import Redis

LINKS = "/v1/sessions/links"
OVER = "This link shows nothing any more"
DEAD_PRODUCT = """
WITH product AS (
    INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, "createdAt", "updatedAt")
    VALUES (%s, 'acme', %s, 'shopify', 'Tea', now(), now()) RETURNING id)
INSERT INTO imports.product_step
    (product_id, step, company_id, job_id, content_hash, state, attempts, retryable, reason, message, updated_at)
SELECT id, 'generate-embedding', 'acme', %s, 'h', 'Dead', 4, true, 'Timeout', 'no answer', clock_timestamp()
FROM product
"""


async def test_a_seller_follows_his_imports_until_the_link_is_revoked(
    browser: Browser, world: World, redis_url: str
) -> None:
    own = await world.job("seller-own", enrich={"embedding": True})
    other = await world.job("seller-foreign")
    await world.execute("""UPDATE "ProductImportJob" SET "companyId" = 'zeta' WHERE id = %s""", (other,))
    async with (
        world.gateway(redis_url=redis_url, reread_seconds=0.2) as gateway,
        BrowserPage.opened(browser, viewport={"width": 360, "height": 740}) as opened,
    ):
        link = (await gateway.call("POST", LINKS, json={"companyId": "acme"})).json()
        page = opened.page
        await page.goto(link["url"])
        row = page.locator(f'.seller-job[data-id="{own}"]')
        await expect(row).to_contain_text("seller-own")
        await expect(row).to_contain_text("Waiting")
        await expect(page.locator(".seller-job")).to_have_count(1)
        await expect(page.get_by_role("heading", name="Imports of acme")).to_be_visible()
        assert page.url == f"{gateway.url}/seller"
        assert await page.evaluate("document.cookie") == ""
        await world.set(own, "IN_PROGRESS")
        await world.checkpoint(own, products_total=40, products_imported=10)
        await expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
        await expect(row.locator(".job-letters")).to_be_empty()
        for product in ("p1", "p2"):
            await world.execute(DEAD_PRODUCT, (product, product, own))
        await world.checkpoint(own, products_total=40, products_imported=10)
        await expect(row.locator(".job-letters")).to_have_text("2 products could not be published")
        found = (await Axe().run(page)).response["violations"]
        assert [f"{each['id']}: {json.dumps(each['nodes'][0]['target'])}" for each in found] == []
        assert not await page.evaluate("document.documentElement.scrollWidth > innerWidth")
        # The cookie is enough after a reload; the live page of accounts stays closed.
        await page.reload()
        await expect(row).to_be_visible()
        await page.goto(f"{gateway.url}/")
        await expect(page.get_by_label("Token")).to_be_visible()
        await page.goto(f"{gateway.url}/seller")
        await expect(row).to_be_visible()
        await gateway.call("DELETE", f"{LINKS}/{link['id']}")
        await expect(page.get_by_role("heading", name=OVER)).to_be_visible()
        await expect(page.locator(".seller-job")).to_have_count(0)


async def test_a_link_that_redis_lost_and_a_closed_page_say_so(
    browser: Browser, world: World, redis_url: str
) -> None:
    async with (
        world.gateway(redis_url=redis_url, reread_seconds=0.2) as gateway,
        BrowserPage.opened(browser) as opened,
    ):
        page = opened.page
        link = (await gateway.call("POST", LINKS, json={"companyId": "acme"})).json()
        await page.goto(link["url"])
        await expect(page.get_by_text("There is no import yet.")).to_be_visible()
        await page.get_by_role("button", name="Close").click()
        await expect(page.get_by_role("heading", name="The page is closed")).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("heading", name=OVER)).to_be_visible()
        async with Redis.from_url(redis_url) as redis:
            await redis.flushall()
        await page.goto("about:blank")
        other = (await gateway.call("POST", LINKS, json={"companyId": "acme"})).json()
        async with Redis.from_url(redis_url) as redis:
            await redis.flushall()
        await page.goto(other["url"])
        await expect(page.get_by_role("heading", name=OVER)).to_be_visible()
