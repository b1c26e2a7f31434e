"""The page's own resilience: connections that end, sessions that end, and many jobs at once."""

from eventually import eventually
from page_world import PageWorld
from playwright.async_api import Browser, expect
from scenes import job
from stand_in import StandIn

MANY = 1_000


async def test_a_gateway_that_restarts_is_noticed_and_found_again(live: PageWorld) -> None:
    await live.sign_in()
    page, stand_in = live.page, live.stand_in
    await expect(live.row("acme-autumn")).to_be_visible()
    await stand_in.stop()
    await expect(page.locator("#live-text")).to_have_text("Connection lost")
    await expect(page.locator("#lost")).to_contain_text("what you see may be old")
    await expect(live.row("acme-autumn")).to_be_visible()
    stand_in.put_jobs(job("acme-autumn", "Succeeded"), job("while-away"))
    await stand_in.start()
    await expect(page.locator("#live-text")).to_have_text("Live")
    await expect(page.locator("#lost")).to_be_hidden()
    await expect(live.group("finished").locator('[data-id="id-acme-autumn"]')).to_be_visible()
    await expect(live.row("while-away")).to_be_visible()
    assert stand_in.calls.streams[0] is None
    assert stand_in.calls.streams[-1]
    stand_in.put_jobs(job("afterwards"))
    await expect(live.row("afterwards")).to_be_visible()


async def test_a_connection_that_went_silent_is_made_anew(browser: Browser) -> None:
    # It says so, and sends one only at the start; a busy machine has 3 s to open a stream and to show it.
    stand_in = StandIn(heartbeat_seconds=1)
    await stand_in.start()
    async with PageWorld.open(browser, stand_in) as live:
        await live.sign_in()

        async def opened_again() -> bool:
            return len(stand_in.calls.streams) > 2

        await eventually(opened_again)
        await expect(live.page.locator("#live-text")).to_have_text("Live")
    await stand_in.stop()


async def test_an_action_while_the_gateway_is_away_says_so(live: PageWorld) -> None:
    await live.sign_in()
    await live.stand_in.stop()
    await live.page.get_by_role("button", name="Retry dune-shoes").click()
    await expect(live.page.get_by_role("alert").filter(has_text="Could not retry")).to_contain_text(
        "Could not retry dune-shoes. The gateway can’t be reached."
    )
    await live.stand_in.start()


async def test_a_session_that_ends_asks_for_a_new_one(live: PageWorld) -> None:
    await live.sign_in()
    await live.context.clear_cookies()
    await live.stand_in.stop()
    await live.stand_in.start()
    await expect(live.page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(live.page.get_by_role("alert")).to_contain_text("Your session has ended. Sign in again.")
    await expect(live.page.locator("#dashboard")).to_be_hidden()


async def test_an_event_in_many_pieces_and_one_that_is_not_ours_do_no_harm(live: PageWorld) -> None:
    await live.page.goto(live.stand_in.url)
    found = await live.page.evaluate(
        """async (text) => {
            const { EventParser } = await import("/page/stream.js");
            const all = [];
            for (let size = 1; size <= text.length; size++) {
                const parser = new EventParser();
                const events = [];
                for (let at = 0; at < text.length; at += size)
                    events.push(...parser.feed(text.slice(at, at + size)));
                all.push(JSON.stringify([events, parser.lastId]));
            }
            return [...new Set(all)];
        }""",
        ': heartbeat\r\n\r\nid: 7\r\nevent: job\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
        "retry: 10\n\ndata:x\n\nid: 8\ndata: y\n\n",
    )
    assert found == [
        '[[{"name":"job","data":"{\\"a\\":\\n1}"},{"name":"message","data":"x"},{"name":"message","data":"y"}],"8"]'
    ]


async def test_a_thousand_jobs_that_all_change_leave_the_page_usable(live: PageWorld) -> None:
    await live.sign_in(scene=False)
    page, stand_in = live.page, live.stand_in
    stand_in.put_jobs(*(job(f"many-{number:04}", startedAt="2026-01-01T00:00:00Z") for number in range(MANY)))
    running = live.group("running")
    await expect(running.locator(".count")).to_have_text("1,000")
    shown = await running.locator(".job").count()
    assert shown < 100
    await page.evaluate("probes.countWrites('.job-percent')")
    for percent in range(1, 41):
        progress = {"productsTotal": 100, "productsDone": percent, "percent": percent}
        stand_in.put_jobs(
            *(
                job(f"many-{number:04}", startedAt="2026-01-01T00:00:00Z", progress=progress)
                for number in range(MANY)
            )
        )
    await expect(running.locator(".job-percent").first).to_have_text("40 %")
    # 40,000 changes came; the first row was written a few times, not 40.
    assert await page.evaluate("probes.writes") < 30
    await running.get_by_role("button", name="Show 50 more of 1,000").click()
    await expect(running.locator(".job")).to_have_count(shown + 50)
    await page.get_by_label("Name", exact=True).fill("many-0777")
    await expect(page.locator(".job")).to_have_count(1)
