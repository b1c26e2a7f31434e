"""The page that searches a catalogue: what is found is shown as plain text, and what is away is said."""

import json
from typing import Any

from axe_playwright_python.async_playwright import Axe
from page_world import PageWorld
from playwright.async_api import Browser, Page, expect
from stand_in import StandIn

HOSTILE = "<img src=x onerror=alert(1)>"


def found(number: int, start: int = 0, **values: Any) -> dict[str, Any]:
    items = [
        {
            "id": f"id-{index}",
            "externalId": f"gid-{index}",
            "importSource": "shopify",
            "title": f"Red shirt {index}",
            "price": "19.90",
            "currency": "EUR",
            "score": 1.0,
        }
        for index in range(start, start + number)
    ]
    return {"items": items, "degraded": [], "cached": False, "catalogueVersion": 1, **values}


async def search(live: PageWorld, words: str = "red shirt") -> Page:
    await live.sign_in()
    await live.page.get_by_role("link", name="Search", exact=True).click()
    await live.page.get_by_label("Company").fill("acme")
    await live.page.get_by_label("Words").fill(words)
    await live.page.get_by_label("Words").press("Enter")
    return live.page


async def test_products_are_found_with_their_price_and_page_by_page(
    live: PageWorld, stand_in: StandIn
) -> None:
    stand_in.found = [found(20), found(3, 20, degraded=["vectors"])]
    page = await search(live)
    await expect(page.locator("#search-found")).to_have_text("20 products so far")
    first = page.locator("#search-list li").first
    await expect(first).to_contain_text("Red shirt 0")
    await expect(first).to_contain_text("19.90 EUR")
    await page.get_by_role("button", name="Show more").click()
    await expect(page.locator("#search-list li")).to_have_count(23)
    await expect(page.locator("#search-found")).to_have_text("23 products. Did not answer in time: meaning.")
    await expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    same = {"companyId": "acme", "q": "red shirt", "limit": "20"}
    assert stand_in.calls.searches == [{**same, "offset": "0"}, {**same, "offset": "20"}]


async def test_nothing_found_and_refusals_are_said(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.found = [found(1)]
    page = await search(live)
    await expect(page.locator("#search-list li")).to_have_count(1)
    stand_in.search_problem = (403, "Not allowed", "You may not get products.imports.avnz.io")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("status").filter(has_text="You may not get products")).to_be_visible()
    await expect(page.locator("#search-list li")).to_have_count(0)
    stand_in.search_problem, stand_in.found = None, [found(0)]
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("#search-found")).to_have_text("No product matches")
    await expect(page.locator("#search-problem")).to_be_hidden()
    await live.context.clear_cookies()
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()


ASK_THREE_TIMES = """async () => {
    const { asking } = await import("/page/asking.js");
    const ask = asking("search");
    const part = (name) => document.getElementById(`search${name}`);
    const [answers, drawn, seen] = [[], [], []];
    const get = () => new Promise((resolve, reject) => answers.push({ resolve, reject }));
    const begun = [1, 2, 3].map(() => ask(get, (answer) => drawn.push(answer), () => drawn.push("failed")));
    const ends = [
        [1, () => answers[1].resolve("second")],
        [0, () => answers[0].reject(new Error("late"))],
        [2, () => answers[2].resolve("third")],
    ];
    for (const [index, end] of ends) {
        end();
        await begun[index];
        seen.push([part("").getAttribute("aria-busy"), part("-problem").hidden, ...drawn]);
    }
    await ask(() => Promise.reject(new Error("Away")), () => {}, () => drawn.push("failed"));
    seen.push([part("").getAttribute("aria-busy"), part("-problem-text").textContent, ...drawn]);
    return seen;
}"""


async def test_only_the_answer_to_what_was_asked_last_is_drawn(live: PageWorld, stand_in: StandIn) -> None:
    await live.page.goto(stand_in.url + "search")
    assert await live.page.evaluate(ASK_THREE_TIMES) == [
        ["true", True],
        ["true", True],
        ["false", True, "third"],
        ["false", "Away.", "third", "failed"],
    ]


async def test_texts_of_products_do_nothing_and_everybody_can_use_it(
    browser: Browser, stand_in: StandIn
) -> None:
    stand_in.found = [found(20)]
    stand_in.found[0]["items"][0] |= {
        "title": HOSTILE,
        "externalId": "x" * 300,
        "price": None,
        "currency": None,
    }
    small: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
    async with PageWorld.open(browser, stand_in, color_scheme="dark", bypass_csp=True, **small) as live:
        page = await search(live)
        await expect(page.locator("#search-list li").first).to_contain_text(HOSTILE)
        assert await page.locator("main img, main script").count() == 0
        violations = (await Axe().run(page)).response["violations"]
        assert await page.evaluate("probes.contrast()") == []
        assert await page.evaluate("probes.overflow()") == []
        assert await page.evaluate("probes.smallTargets()") == []
    assert [f"{each['id']}: {json.dumps(each['nodes'][0]['target'])}" for each in violations] == []
