"""The page of dead letters: why, which and what is decided, with confirmation; it can be used by everybody."""

import asyncio
import json
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from dead_letter_stand_in import GOING_ON, dead_letter, failed_item
from gateway_world import Gateway, World
from page_world import BrowserPage, PageWorld
from playwright.async_api import Browser, Page, Route, expect
from stand_in import StandIn

from import_core.domain.dead_letters import letter_id
from import_core.domain.steps import StepKind

HOSTILE = "<img src=x onerror=alert(1)>"


def letters() -> list[dict[str, Any]]:
    """Forty-five that timed out, ten that are invalid, one that somebody wrote to do harm."""
    return [
        *(dead_letter(f"p{number:02}") for number in range(45)),
        *(
            dead_letter(f"q{number}", "NothingToEmbed", retryable=False, companyId="bean")
            for number in range(10)
        ),
        dead_letter(
            "h1",
            HOSTILE,
            title=HOSTILE,
            externalId=HOSTILE,
            companyId=HOSTILE,
            message=HOSTILE,
            step="quality-control",
            fix=HOSTILE,
            product={**dead_letter("x")["product"], "title": HOSTILE, "vendor": HOSTILE},
        ),
    ]


async def open_letters(live: PageWorld) -> Page:
    await live.sign_in()
    await live.page.get_by_role("link", name="Dead letters").click()
    await expect(live.page.locator("#letters")).to_have_attribute("aria-busy", "false")
    return live.page


def row(page: Page, product: str) -> Any:
    return page.locator("#letter-list").get_by_role("button", name=f"Tea {product}", exact=True)


async def test_they_are_shown_by_reason_with_counts_and_page_by_page(
    live: PageWorld, stand_in: StandIn
) -> None:
    stand_in.letters = letters()
    page = await open_letters(live)
    await expect(page.locator("#letter-reasons li")).to_have_count(3)
    await expect(page.locator("#letter-reasons li").first).to_contain_text("Timeout generate-embedding 45")
    await expect(page.locator("#letter-list li")).to_have_count(50)
    await page.get_by_role("button", name="Show more").click()
    await expect(page.locator("#letter-list li")).to_have_count(56)
    await expect(row(page, "q5")).to_be_focused()
    await page.get_by_role("button", name="NothingToEmbed").click()
    await expect(page.get_by_role("button", name="NothingToEmbed")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#letter-list li")).to_have_count(10)
    await expect(page.locator("#letters-fix")).to_contain_text("Look at: title, description.")
    await expect(page.get_by_role("heading", name="NothingToEmbed in generate-embedding")).to_be_visible()
    assert page.url.endswith("/dead-letters?step=generate-embedding&reason=NothingToEmbed")
    await page.reload()
    await expect(page.locator("#letter-list li")).to_have_count(10)
    await page.get_by_role("button", name="NothingToEmbed").click()
    await expect(page.locator("#letter-list li")).to_have_count(50)


async def test_the_fields_choose_and_are_kept_in_the_address(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.letters = letters()
    page = await open_letters(live)
    await page.get_by_label("Company").fill("bean")
    await page.get_by_label("Company").press("Enter")
    await expect(page.locator("#letter-list li")).to_have_count(10)
    await expect(page.locator("#letter-reasons li")).to_have_count(1)
    await page.get_by_role("combobox", name="Step").select_option("index-product")
    await expect(page.get_by_text("None matches.")).to_be_visible()
    assert stand_in.calls.letters[-1][1] == {"limit": "50", "companyId": "bean", "step": "index-product"}
    await expect(page.get_by_role("button", name="Retry all")).to_have_count(0)
    await page.reload()
    await expect(page.get_by_label("Company")).to_have_value("bean")
    await expect(page.get_by_role("combobox", name="Step")).to_have_value("index-product")


async def test_what_is_typed_while_the_page_loads_counts(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.letters = letters()
    await live.sign_in()
    loaded = asyncio.Event()

    async def late(route: Route) -> None:
        await loaded.wait()
        await route.continue_()

    await live.page.route("**/page/deadletters.js", late)
    await live.page.goto(f"{stand_in.url}dead-letters", wait_until="commit")
    await live.page.get_by_label("Company").fill("bean")
    loaded.set()
    await expect(live.page.locator("#letter-list li")).to_have_count(10)
    await expect(live.page.get_by_label("Company")).to_have_value("bean")


async def test_all_that_is_acted_on_is_what_was_shown(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.letters = letters()
    page = await open_letters(live)
    await page.get_by_label("Company").fill("bean")
    await page.get_by_label("Company").press("Enter")
    await expect(page.get_by_role("button", name="Discard all 10")).to_be_visible()
    answering = asyncio.Event()

    async def late(route: Route) -> None:
        await answering.wait()
        await route.continue_()

    await page.route("**/v1/dead-letters*", late)
    await page.get_by_label("Company").fill("")
    await page.get_by_role("button", name="Discard all 10").click()  # it leaves the field, which asks for all
    question = page.get_by_role("dialog", name="Discard 10 dead letters?")
    await expect(question).to_be_visible()
    answering.set()
    await question.get_by_role("button", name="Discard 10").click()
    await expect(page.get_by_role("status").filter(has_text="10 dead letters given up")).to_be_visible()
    await expect(page.locator("#letter-list li")).to_have_count(46)


async def test_one_is_looked_at_and_retried_or_discarded_after_a_question(
    live: PageWorld, stand_in: StandIn
) -> None:
    stand_in.letters = [dead_letter("p1"), dead_letter("p2"), dead_letter("p3", retryable=False)]
    page = await open_letters(live)
    await row(page, "p1").click()
    drawer = page.get_by_role("dialog", name="Tea p1")
    await expect(drawer).to_contain_text("after 4 tries")
    await expect(drawer).to_contain_text("19.90 EUR")
    await expect(drawer).to_contain_text("Mend it.")
    await expect(page.locator("#letter-steps li")).to_contain_text("Timeout: no answer")
    await drawer.get_by_role("button", name="Retry").click()
    question = page.get_by_role("dialog", name="Retry generate-embedding of Tea p1?")
    await expect(question.get_by_role("button", name="Leave it")).to_be_focused()
    await page.keyboard.press("Escape")
    assert stand_in.calls.writes == []
    await drawer.get_by_role("button", name="Retry").click()
    await question.get_by_role("button", name="Retry").click()
    await expect(page.get_by_role("status").filter(has_text="to be tried again")).to_be_visible()
    await expect(page.locator("#letter-list li")).to_have_count(2)
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(page.locator("#letters-title")).to_be_focused()
    await row(page, "p3").click()
    await page.get_by_role("dialog", name="Tea p3").get_by_role("button", name="Discard").click()
    await (
        page.get_by_role("dialog", name="Discard generate-embedding")
        .get_by_role("button", name="Discard")
        .click()
    )
    await expect(page.locator("#letter-list li")).to_have_count(1)
    base = "/v1/dead-letters/"
    assert [(method, path) for method, path, _ in stand_in.calls.writes] == [
        ("POST", f"{base}{letter_id('p1', StepKind.EMBEDDING)}/retry"),
        ("POST", f"{base}{letter_id('p3', StepKind.EMBEDDING)}/discard"),
    ]


async def test_all_of_a_reason_are_acted_on_in_as_many_requests_as_it_takes(
    live: PageWorld, stand_in: StandIn
) -> None:
    stand_in.letters = letters()
    page = await open_letters(live)
    await page.get_by_role("button", name="Timeout").click()
    await page.get_by_role("button", name="Retry all 45").click()
    question = page.get_by_role("dialog", name="Retry 45 dead letters of Timeout in generate-embedding?")
    await question.get_by_role("button", name="Leave them").click()
    assert stand_in.calls.writes == []
    await page.get_by_role("button", name="Retry all 45").click()
    await question.get_by_role("button", name="Retry 45 dead letters").click()
    await expect(
        page.get_by_role("status").filter(has_text="45 dead letters to be tried again.")
    ).to_be_visible()
    wanted = {"step": "generate-embedding", "reason": "Timeout", "until": "1767312000000000"}
    assert [(path, body) for _, path, body in stand_in.calls.writes] == [
        ("/v1/dead-letters/retry", wanted),
        ("/v1/dead-letters/retry", {**wanted, "cursor": GOING_ON}),
    ]
    await page.get_by_role("button", name="Timeout").wait_for(state="detached")
    await expect(page.get_by_text("None matches.")).to_be_visible()
    await page.goto(stand_in.url + "dead-letters")
    await page.get_by_role("button", name="Discard all 11").click()
    await page.get_by_role("button", name="Discard 11 dead letters").click()
    await expect(page.get_by_text("There is no dead letter.")).to_be_visible()
    assert stand_in.calls.writes[-1][2] == {"all": True, "until": "1767312000000000"}


async def test_what_was_not_counted_can_be_acted_on_all_the_same(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.letters = [failed_item(f"gid-{number}") for number in range(3)]
    stand_in.letters_counted = 2
    page = await open_letters(live)
    await expect(page.get_by_role("button", name="Retry all over 1", exact=True)).to_be_visible()
    stand_in.letters_counted = 0  # enough errors of images were looked at before
    await page.get_by_role("button", name="Read again").click()
    await expect(page.locator("#letter-reasons li")).to_have_count(0)
    await expect(page.get_by_role("button", name="Retry all", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Discard all", exact=True).click()
    question = page.get_by_role("dialog", name="Discard all dead letters?")
    await expect(question).to_contain_text("What an import gave up stays among its errors")
    await question.get_by_role("button", name="Discard all dead letters").click()
    await expect(page.get_by_role("status").filter(has_text="3 dead letters given up.")).to_be_visible()
    assert stand_in.calls.writes[-1][2] == {"all": True, "until": "1767312000000000"}


async def test_what_imports_gave_up_is_shown_and_what_cannot_be_retried_is_said(
    live: PageWorld, stand_in: StandIn
) -> None:
    gone = "The ImportJob of autumn is gone"
    stand_in.letters = [dead_letter("p1"), failed_item("gid-1"), failed_item("gid-2", stays=gone)]
    page = await open_letters(live)
    await page.get_by_role("combobox", name="Step").select_option("import")
    await expect(page.locator("#letter-list li")).to_have_count(2)
    await expect(page.locator("#letter-reasons li")).to_have_text("InvalidField import 2")
    await page.locator("#letter-list").get_by_role("button", name="gid-1", exact=True).click()
    drawer = page.get_by_role("dialog", name="gid-1")
    await expect(drawer).to_contain_text("import, invalid")
    await expect(drawer).to_contain_text("It was never imported.")
    await expect(page.locator("#letter-facts")).to_contain_text("Importjob-1")
    await drawer.get_by_role("button", name="Retry").click()
    question = page.get_by_role("dialog", name="Retry import of gid-1?")
    await expect(question).to_contain_text("Its import imports all its failed items again.")
    await question.get_by_role("button", name="Leave it").click()
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Discard all 2").click()
    await expect(page.locator("#confirm-text")).to_have_text(
        "What an import gave up stays among its errors, and its retries leave it out."
    )
    await page.get_by_role("button", name="Leave them").click()
    await page.get_by_role("button", name="Retry all 2").click()
    await page.get_by_role("button", name="Retry 2 dead letters").click()
    await expect(
        page.get_by_role("status").filter(has_text="1 dead letter to be tried again.")
    ).to_contain_text(f"1 dead letter left as they are: {gone}.")
    await expect(page.locator("#letter-list li")).to_have_count(1)


async def test_what_the_gateway_refuses_is_said_in_its_words(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.letters = [dead_letter("p1"), dead_letter("p2")]
    page = await open_letters(live)
    stand_in.problem = {
        "type": "about:blank",
        "title": "Not allowed",
        "status": 403,
        "detail": "You may not.",
    }
    await row(page, "p1").click()
    await page.get_by_role("dialog", name="Tea p1").get_by_role("button", name="Retry").click()
    await page.get_by_role("dialog", name="Retry").get_by_role("button", name="Retry").click()
    await expect(page.locator("#letter-problem")).to_have_text("Not allowed: You may not.")
    await page.keyboard.press("Escape")
    await expect(row(page, "p1")).to_be_focused()
    await page.get_by_role("button", name="Discard all 2").click()
    await page.get_by_role("button", name="Discard 2 dead letters").click()
    await expect(page.get_by_role("alert").filter(has_text="You may not.")).to_be_visible()
    stand_in.problem = None
    # Somebody else was faster.
    await row(page, "p2").click()
    await expect(page.locator("#letter-steps li")).to_have_count(1)
    stand_in.letters = stand_in.letters[:1]
    await page.get_by_role("dialog", name="Tea p2").get_by_role("button", name="Retry").click()
    await page.get_by_role("dialog", name="Retry").get_by_role("button", name="Retry").click()
    await expect(page.get_by_role("alert").filter(has_text="no dead letter any more")).to_be_visible()
    await expect(page.locator("#letter-list li")).to_have_count(1)


async def test_who_may_only_look_gets_no_buttons(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.letters = [dead_letter("p1")]
    stand_in.may |= {"retry": False, "cancel": False}
    page = await open_letters(live)
    await expect(page.get_by_text("Your account may look, but not retry or discard.")).to_be_visible()
    await row(page, "p1").click()
    await expect(page.locator("#letter-steps li")).to_have_count(1)
    for name in ("Retry", "Discard"):
        await expect(page.get_by_role("button", name=name)).to_have_count(0)


async def test_without_a_session_the_page_says_where_to_sign_in(live: PageWorld, stand_in: StandIn) -> None:
    await live.page.goto(stand_in.url + "dead-letters")
    await expect(live.page.get_by_text("You are not signed in.")).to_be_visible()
    await live.page.get_by_role("link", name="Sign in").click()
    await expect(live.page.get_by_label("Token")).to_be_visible()


async def test_texts_of_products_are_shown_and_do_nothing(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.letters = letters()[-1:]
    page = await open_letters(live)
    await expect(page.locator("#letter-reasons li")).to_contain_text(HOSTILE)
    await page.locator("#letter-list").get_by_role("button").click()
    await expect(page.locator("#letter-facts")).to_contain_text(HOSTILE)
    await expect(page.locator("#letter-fix")).to_have_text(HOSTILE)
    await page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    await expect(page.locator("#confirm-title")).to_contain_text(HOSTILE)
    assert await page.locator("main img, dialog img, main script").count() == 0
    assert await page.evaluate("probes.overflow()") == []


async def test_everything_can_be_done_with_the_keyboard(live: PageWorld, stand_in: StandIn) -> None:
    stand_in.letters = [dead_letter("p1")]
    await live.sign_in()
    page = live.page
    await page.goto(stand_in.url + "dead-letters")
    await expect(row(page, "p1")).to_be_visible()
    order = []
    for _ in range(13):
        await page.keyboard.press("Tab")
        order.append(await page.evaluate("probes.focused()"))
    assert [name for name, _ in order] == [
        *("Live", "Figures", "Dead letters", "Search", "Read again"),
        *("Company", "Import", "Product", "Step"),
        *("Timeout generate-embedding 1", "Retry all 1", "Discard all 1", "Tea p1"),
    ]
    assert all(visible for _, visible in order)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Tea p1")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(row(page, "p1")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_passes_the_accessibility_checks_on_a_phone(
    browser: Browser, stand_in: StandIn, scheme: Any
) -> None:
    stand_in.letters = letters()
    small: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
    async with PageWorld.open(browser, stand_in, color_scheme=scheme, bypass_csp=True, **small) as live:
        page = await open_letters(live)
        await page.get_by_role("button", name="Timeout").click()
        found = (await Axe().run(page)).response["violations"]
        assert await page.evaluate("probes.contrast()") == []
        assert await page.evaluate("probes.overflow()") == []
        assert await page.evaluate("probes.smallTargets()") == []
        await row(page, "p00").click()
        await expect(page.locator("#letter-steps li")).to_have_count(1)
        found += (await Axe().run(page)).response["violations"]
        assert await page.evaluate("probes.contrast()") == []
        assert await page.evaluate("probes.overflow()") == []
    assert [f"{each['id']}: {json.dumps(each['nodes'][0]['target'])}" for each in found] == []


async def test_dead_letters_of_a_real_gateway(browser: Browser, gateway: Gateway, world: World) -> None:
    job_id = await world.job("given-up")
    for number in range(3):
        await world.execute(
            """INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, "createdAt", "updatedAt")
            VALUES (%s, 'acme', %s, 'shopify', %s, now(), now())""",
            (f"p{number}", f"gid-{number}", f"Tea p{number}"),
        )
        await world.execute(
            """INSERT INTO imports.product_step
                (product_id, step, company_id, job_id, content_hash, state, attempts, reason, message)
            VALUES (%s, 'generate-embedding', 'acme', %s, 'h', 'Dead', 4, 'Timeout', 'no answer')""",
            (f"p{number}", job_id),
        )
    async with BrowserPage.opened(browser) as opened:
        page = opened.page
        await page.goto(gateway.url + "/")
        await page.get_by_label("Token").fill(gateway.cluster.tokens["submitter"])
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name="Dead letters", exact=True).click()
        await page.get_by_role("searchbox", name="Import").fill("given-up")
        await page.get_by_role("searchbox", name="Import").press("Enter")
        await row(page, "p0").click()
        await page.get_by_role("dialog", name="Tea p0").get_by_role("button", name="Discard").click()
        await page.get_by_role("dialog", name="Discard").get_by_role("button", name="Discard").click()
        await page.get_by_role("button", name="Retry all 2").click()
        await page.get_by_role("button", name="Retry 2 dead letters").click()
        await expect(page.get_by_text("None matches.")).to_be_visible()
    rows = await world.execute("SELECT product_id, state FROM imports.product_step ORDER BY product_id")
    assert rows == [("p0", "Discarded"), ("p1", "Due"), ("p2", "Due")]
