"""What must hold whatever is shown: hostile names are inert, nothing breaks the policy, and everybody can use it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from eventually import eventually
from page_world import PageWorld
from playwright.async_api import Browser, expect
from scenes import job, queue
from stand_in import StandIn

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>window.hacked = true</script>",
    "\u202egnp.exe\u202c evil",
    "שלום עולם · 👩‍👩‍👧‍👦 · \u202eabc",
    "javascript:alert(1)//" + "x" * 300,
    "Zoë " + "\u0301" * 60,
)
STATIC = (
    "",
    "dead-letters",
    "search",
    "page/app.js",
    "page/asking.js",
    "page/deadletters.js",
    "page/style.css",
    "page/jobs.css",
    "page/icon.svg",
)


@pytest_asyncio.fixture(loop_scope="session")
async def dark(browser: Browser, stand_in: StandIn) -> AsyncIterator[PageWorld]:
    async with PageWorld.open(browser, stand_in, color_scheme="dark") as live:
        yield live


@pytest_asyncio.fixture(loop_scope="session")
async def phone(browser: Browser, stand_in: StandIn) -> AsyncIterator[PageWorld]:
    small = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    async with PageWorld.open(browser, stand_in, **small) as live:
        yield live


def hostile_jobs() -> list[dict[str, Any]]:
    return [
        job(
            text,
            phase,
            id=f"id-hostile-{number}-{phase}",
            companyId=text,
            provider=text,
            message=text,
            reason=text,
            waitingReason=text if phase == "Queued" else None,
        )
        for number, text in enumerate(HOSTILE)
        for phase in ("Running", "Queued", "Failed", "Succeeded")
    ]


async def test_hostile_names_are_shown_and_do_nothing(live: PageWorld) -> None:
    dialogs: list[str] = []
    live.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    live.stand_in.errors = {
        text: {
            "total": 1,
            "reasons": [{"stage": text, "reason": text, "count": 1}],
            "items": [
                {
                    "externalId": text,
                    "stage": text,
                    "url": text,
                    "reason": text,
                    "message": text,
                    "at": "2026-01-01T00:00:00Z",
                }
            ],
        }
        for text in HOSTILE
    }
    await live.sign_in()
    live.stand_in.put_jobs(*hostile_jobs())
    live.stand_in.put_queue(queue(paused=True, pausedBy=HOSTILE[0], pausedReason=HOSTILE[1]))
    name = live.page.locator('[data-id="id-hostile-0-Failed"] .job-name')
    await expect(name).to_have_text(HOSTILE[0])
    await expect(live.page.locator(".flow-note")).to_contain_text(HOSTILE[1])
    for number in (0, 3):
        await live.page.locator(f'[data-id="id-hostile-{number}-Failed"] .job-name').click()
        await expect(live.page.locator("#details .errors li")).to_contain_text(HOSTILE[number])
        await live.page.keyboard.press("Escape")
    await live.page.get_by_role("button", name=f"Cancel {HOSTILE[0]}").first.click()
    await expect(live.page.locator("#confirm-title")).to_have_text(f"Cancel {HOSTILE[0]}?")
    await live.page.keyboard.press("Escape")
    assert await live.page.evaluate("window.hacked") is None
    assert await live.page.locator("main script, main img, dialog script, dialog img").count() == 0
    assert dialogs == []
    assert await live.page.evaluate("probes.overflow()") == []


async def test_a_name_written_from_right_to_left_does_not_turn_its_neighbours(live: PageWorld) -> None:
    await live.sign_in(scene=False)
    live.stand_in.put_jobs(job("\u202eevil", companyId="acme", id="id-turned"))
    row = live.row("turned")
    await expect(row).to_be_visible()
    company = await row.locator(".job-company").bounding_box()
    provider = await row.locator(".job-provider").bounding_box()
    assert company["x"] < provider["x"]


@pytest.mark.parametrize("path", STATIC)
async def test_files_are_guarded_and_asked_about_again(live: PageWorld, path: str) -> None:
    request = live.context.request
    answer = await request.get(live.stand_in.url + path)
    headers = answer.headers
    assert answer.status == 200
    assert headers["content-security-policy"].startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'"
    )
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"
    again = await request.get(live.stand_in.url + path, headers={"If-None-Match": headers["etag"]})
    assert again.status == 304


@pytest.mark.parametrize(
    "path", ["page/nothing.js", "page/..%2froutes.py", "page/%2e%2e%2fassets.py", "page/routes.py"]
)
async def test_nothing_but_the_pages_files_is_served(live: PageWorld, path: str) -> None:
    answer = await live.context.request.get(live.stand_in.url + path)
    assert answer.status == 404
    assert "import" not in await answer.text()


async def test_the_policy_stops_inline_script_and_other_hosts(live: PageWorld) -> None:
    await live.sign_in()
    await live.page.evaluate(
        """() => {
            const script = document.createElement("script");
            try { script.textContent = "window.inline = true"; document.body.append(script); } catch {}
            fetch("http://127.0.0.1:1/").catch(() => {});
            new Image().src = "http://127.0.0.1:1/image.png";
        }"""
    )
    wanted = {"connect-src", "img-src", "require-trusted-types-for"}

    async def stopped() -> bool:
        return wanted <= {text.split()[0] for text in await live.page.evaluate("probes.violations")}

    await eventually(stopped)
    assert await live.page.evaluate("window.inline") is None
    await live.page.evaluate("probes.violations.splice(0)")


async def test_everything_can_be_done_with_the_keyboard(live: PageWorld) -> None:
    page = live.page
    await live.sign_in()
    await expect(live.row("acme-autumn")).to_be_visible()
    await page.reload()
    await expect(live.row("dune-shoes")).to_be_visible()
    order = []
    for _ in range(16):
        await page.keyboard.press("Tab")
        order.append(await page.evaluate("probes.focused()"))
    assert [name for name, _ in order] == [
        "Skip to the imports",
        "Live",
        "Figures",
        "Dead letters",
        "Search",
        "Sign out",
        "Pause dispatch",
        "Name",
        "Company",
        "Phase",
        "acme-autumn",
        "Cancel acme-autumn",
        "bolt-spring",
        "Cancel bolt-spring",
        "dune-shoes",
        "Retry dune-shoes",
    ]
    assert all(visible for _, visible in order)
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="dune-shoes")).to_be_visible()
    for _ in range(6):
        await page.keyboard.press("Tab")
        inside = await page.evaluate("document.activeElement.closest('#details, body') !== null")
        assert inside
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert (await page.evaluate("probes.focused()"))[0] == "dune-shoes"


async def test_the_confirmation_starts_at_the_harmless_answer_and_gives_the_focus_back(
    live: PageWorld,
) -> None:
    page = live.page
    await live.sign_in()
    await page.get_by_role("button", name="Cancel bolt-spring").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    # Changes meanwhile must not take the focus out of the dialog, nor the row that it goes back to.
    live.stand_in.put_jobs(
        job("bolt-spring", companyId="bolt", progress={"productsTotal": 9, "productsDone": 3, "percent": 33})
    )
    await expect(live.row("bolt-spring")).to_contain_text("33 %")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Cancel bolt-spring")).to_be_focused()
    assert live.stand_in.calls.writes == []


async def test_a_row_that_moves_to_another_group_keeps_the_focus(live: PageWorld) -> None:
    await live.sign_in()
    name = live.page.get_by_role("button", name="acme-autumn", exact=True)
    await name.focus()
    live.stand_in.put_jobs(job("acme-autumn", "Succeeded"))
    await expect(live.group("finished").locator('[data-id="id-acme-autumn"]')).to_be_visible()
    await expect(name).to_be_focused()


async def test_a_phone_needs_no_sideways_scrolling(phone: PageWorld) -> None:
    page = phone.page
    await page.goto(phone.stand_in.url)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert await page.evaluate("probes.overflow()") == []
    await phone.sign_in()
    phone.stand_in.put_jobs(*hostile_jobs())
    await expect(page.locator('[data-id="id-hostile-0-Running"]')).to_be_visible()
    assert await page.evaluate("probes.overflow()") == []
    await page.get_by_role("button", name="dune-shoes", exact=True).click()
    await expect(page.get_by_role("dialog", name="dune-shoes")).to_be_visible()
    assert await page.evaluate("probes.overflow()") == []
    small = await page.evaluate("probes.smallTargets()")
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast_is_enough(live: PageWorld, dark: PageWorld, scheme: str) -> None:
    chosen = live if scheme == "light" else dark
    page = chosen.page
    await page.goto(chosen.stand_in.url)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert await page.evaluate("probes.contrast()") == []
    await chosen.sign_in()
    chosen.stand_in.put_jobs(job("gone", "Cancelled"), job("new", "Pending"))
    await expect(chosen.row("gone")).to_be_visible()
    for level in ("healthy", "degraded", "critical", "overload", "unknown"):
        chosen.stand_in.put_queue(
            queue(level=level, paused=level == "critical", pausedReason="store is down")
        )
        await expect(page.locator(".level")).to_have_attribute("data-level", level)
        assert await page.evaluate("probes.contrast()") == []
    page_background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (page_background == "rgb(14, 17, 22)") is (scheme == "dark")
    await page.get_by_role("button", name="dune-shoes", exact=True).click()
    assert await page.evaluate("probes.contrast()") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(browser: Browser, stand_in: StandIn, scheme: str) -> None:
    # axe is put into the page from outside, which the page's own policy rightly forbids.
    async with PageWorld.open(browser, stand_in, color_scheme=scheme, bypass_csp=True) as live:
        await live.page.goto(stand_in.url)
        await expect(live.page.get_by_label("Token")).to_be_visible()
        found = await _axe(live)
        await live.sign_in()
        await expect(live.row("dune-shoes")).to_be_visible()
        found += await _axe(live)
        await live.page.get_by_role("button", name="dune-shoes", exact=True).click()
        found += await _axe(live)
        await live.page.keyboard.press("Escape")
        await live.page.get_by_role("button", name="Pause dispatch").click()
        found += await _axe(live)
    assert found == []


async def _axe(live: PageWorld) -> list[str]:
    results = await Axe().run(live.page)
    return [
        f"{violation['id']}: {json.dumps(violation['nodes'][0]['target'])} {violation['help']}"
        for violation in results.response["violations"]
    ]


async def test_who_wants_no_motion_gets_none(browser: Browser, stand_in: StandIn) -> None:
    async with PageWorld.open(browser, stand_in, reduced_motion="reduce") as live:
        await live.sign_in()
        stand_in.put_jobs(job("reading", progress={}))
        await expect(live.row("reading")).to_be_visible()
        assert await live.page.evaluate("document.getAnimations().length") == 0
