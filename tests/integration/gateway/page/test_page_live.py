"""What a person sees: sign-in, progress that arrives by itself, actions with confirmation, errors with reasons."""

from page_world import PageWorld
from playwright.async_api import expect
from scenes import job, queue, when
from stand_in import TOKEN


async def test_who_is_not_signed_in_is_told_how_to_get_a_token(live: PageWorld) -> None:
    page = live.page
    await page.goto(live.stand_in.url)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(page.locator("#token-command")).to_have_text(
        "kubectl -n imports create token ACCOUNT --audience=import-gateway --duration=8h"
    )
    await expect(page.locator("#dashboard")).to_be_hidden()
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("does not know this token")


async def test_the_token_is_where_no_script_reads_it_and_signing_out_ends_the_session(
    live: PageWorld,
) -> None:
    await live.sign_in()
    await expect(live.page.locator("#account-name")).to_have_text("imports/on-call")
    readable = await live.page.evaluate(
        "document.cookie + JSON.stringify([localStorage, sessionStorage]) + document.documentElement.outerHTML"
    )
    assert TOKEN not in readable
    await live.page.get_by_role("button", name="Sign out").click()
    await expect(live.page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(live.page.locator("#dashboard")).to_be_hidden()
    await live.page.reload()
    await expect(live.page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_progress_arrives_without_reload(live: PageWorld) -> None:
    await live.sign_in()
    row = live.row("acme-autumn")
    bar = row.get_by_role("progressbar", name="Progress of acme-autumn")
    await expect(bar).to_have_attribute("aria-valuenow", "25")
    # Three quarters are left, and what is told in whole minutes stays the same for 18 s.
    live.stand_in.put_jobs(job("acme-autumn", startedAt=when(52)))
    await expect(row).to_contain_text("about 3 min left")
    await live.page.evaluate("window.loadedOnce = true")
    progress = {
        "productsTotal": 200,
        "productsDone": 150,
        "productsImported": 140,
        "productsFailed": 10,
        "percent": 75,
        "imagesTotal": 900,
        "imagesImported": 640,
    }
    live.stand_in.put_jobs(job("acme-autumn", progress=progress))
    await expect(bar).to_have_attribute("aria-valuenow", "75")
    await expect(row).to_contain_text("150 / 200 products")
    await expect(row).to_contain_text("640 images")
    await expect(row).to_contain_text("10 failed")
    live.stand_in.put_jobs(job("acme-autumn", "Succeeded"))
    await expect(live.group("finished").locator('[data-id="id-acme-autumn"]')).to_be_visible()
    await expect(live.page.locator("#announcer")).to_have_text("acme-autumn succeeded")
    assert await live.page.evaluate("window.loadedOnce")


async def test_waiting_jobs_say_where_they_stand_and_why(live: PageWorld) -> None:
    await live.sign_in()
    # Asked for once in 10 s: where the first time was too soon, it is the second that tells.
    await expect(live.row("cafe-menu").locator(".job-note")).to_have_text(
        "12 ahead · starts in about 40 s · all workers are busy",
        timeout=30_000,
    )


async def test_queue_and_workers_are_shown_and_follow(live: PageWorld) -> None:
    await live.sign_in()
    page = live.page
    await expect(page.locator(".queue-card .depth")).to_have_text("42")
    await expect(page.locator(".level")).to_have_text("Healthy")
    await expect(page.locator("#workers-ready")).to_have_text("2")
    await expect(page.locator("#workers-busy")).to_have_text("1")
    await expect(page.locator("#workers-desired")).to_have_text("3")
    await expect(page.locator("#workers-note")).to_have_text("4 jobs in 10 slots, 1 on the way")
    await expect(page.locator(".thresholds")).to_have_text(
        "degraded above 1,000, critical 5,000, overload 10,000"
    )
    await expect(page.get_by_role("meter", name="Depth of the queue")).to_have_attribute(
        "aria-valuenow", "42"
    )
    await expect(page.locator(".intake-line")).to_be_hidden()
    live.stand_in.put_queue(
        queue(level="overload", depth=12_000, intakeOpen=False, intakeReason="The queue is full")
    )
    await expect(page.locator(".intake")).to_have_text("Stopped")
    await expect(page.locator(".flow-note")).to_have_text("The queue is full")
    live.stand_in.put_queue(queue(level="critical", depth=7_200))
    await expect(page.locator(".level")).to_have_text("Critical")
    await expect(page.locator(".queue-card .depth")).to_have_text("7,200")
    live.stand_in.put_queue(queue(level="unknown", depth=None))
    await expect(page.locator(".queue-card .depth")).to_have_text("unknown")


async def test_cancel_asks_first_and_says_what_came_of_it(live: PageWorld) -> None:
    await live.sign_in()
    page = live.page
    await page.get_by_role("button", name="Cancel acme-autumn").click()
    dialog = page.get_by_role("dialog", name="Cancel acme-autumn?")
    await dialog.get_by_role("button", name="Keep it").click()
    await expect(dialog).to_be_hidden()
    assert live.stand_in.calls.writes == []
    await page.get_by_role("button", name="Cancel acme-autumn").click()
    await dialog.get_by_role("button", name="Cancel the import").click()
    await expect(page.get_by_role("status").filter(has_text="acme-autumn is being cancelled")).to_be_visible()
    assert live.stand_in.calls.writes == [("POST", "/v1/imports/imports/acme-autumn/cancel", None)]


async def test_a_refusal_is_told_in_the_gateways_own_words(live: PageWorld) -> None:
    await live.sign_in()
    live.stand_in.problem = {
        "type": "about:blank",
        "title": "Too many requests",
        "status": 429,
        "detail": "You called 100 times in a minute",
    }
    live.stand_in.problem_headers = {"Retry-After": "7"}
    await live.page.get_by_role("button", name="Retry dune-shoes").click()
    await expect(live.page.get_by_role("alert").filter(has_text="Could not retry")).to_contain_text(
        "Could not retry dune-shoes. Too many requests: You called 100 times in a minute. Try again in 7 s."
    )


async def test_a_queue_is_paused_with_a_reason_and_resumed(live: PageWorld) -> None:
    await live.sign_in()
    page = live.page
    await page.get_by_role("button", name="Pause dispatch").click()
    await page.get_by_label("Reason, for whoever comes next").fill("store is down")
    await page.get_by_role("dialog").get_by_role("button", name="Pause dispatch").click()
    await expect(page.locator(".flow-note")).to_contain_text("Paused by on-call: store is down")
    await page.get_by_role("button", name="Resume dispatch").click()
    await expect(page.get_by_role("button", name="Pause dispatch")).to_be_visible()
    assert [call[1:] for call in live.stand_in.calls.writes] == [
        ("/v1/queue/pause", {"queue": "product-imports", "reason": "store is down"}),
        ("/v1/queue/resume", {"queue": "product-imports"}),
    ]


async def test_errors_of_a_job_are_shown_with_reasons(live: PageWorld) -> None:
    live.stand_in.errors["dune-shoes"] = {
        "total": 2,
        "reasons": [{"stage": "map", "reason": "InvalidPrice", "count": 2}],
        "items": [
            {
                "externalId": "gid://1",
                "stage": "map",
                "url": "",
                "reason": "InvalidPrice",
                "message": "price: “free” is no number",
                "at": "2026-01-01T00:00:00Z",
            },
            {
                "externalId": "gid://2",
                "stage": "image",
                "url": "https://cdn.example/a.jpg",
                "reason": "NotFound",
                "message": "HTTP 404",
                "at": "2026-01-01T00:00:00Z",
            },
        ],
    }
    await live.sign_in()
    await live.page.get_by_role("button", name="dune-shoes", exact=True).click()
    drawer = live.page.get_by_role("dialog", name="dune-shoes")
    await expect(drawer).to_contain_text("CredentialsInvalid: The store refused the token")
    await expect(drawer.get_by_text("2 × InvalidPrice (map)")).to_be_visible()
    await expect(drawer.locator(".errors li")).to_have_count(2)
    await expect(drawer.locator(".errors li").nth(0)).to_contain_text("price: “free” is no number")
    await expect(drawer.locator(".errors li").nth(1)).to_contain_text("https://cdn.example/a.jpg")


async def test_failed_items_alone_can_be_retried(live: PageWorld) -> None:
    await live.sign_in()
    await live.page.get_by_role("button", name="dune-shoes", exact=True).click()
    await live.page.get_by_role("button", name="Retry failed items only").click()
    await expect(
        live.page.get_by_role("status").filter(has_text="failed items of dune-shoes")
    ).to_be_visible()
    assert live.stand_in.calls.writes == [
        ("POST", "/v1/imports/imports/dune-shoes/retry", {"itemsOnly": True})
    ]


async def test_who_may_only_look_is_told_so(live: PageWorld) -> None:
    live.stand_in.may |= {"retry": False, "cancel": False, "pause": False}
    await live.sign_in()
    page = live.page
    await expect(page.get_by_text("Your account may look, but not retry or cancel.")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel acme-autumn")).to_have_count(0)
    await expect(page.get_by_role("button", name="Pause dispatch")).to_be_disabled()
    await expect(page.get_by_text("Your account may not pause or resume.")).to_be_visible()


async def test_jobs_are_filtered_by_company_phase_and_name(live: PageWorld) -> None:
    await live.sign_in()
    page = live.page
    await page.get_by_label("Company").fill("BOLT")
    await expect(page.locator(".job")).to_have_count(1)
    await expect(live.row("bolt-spring")).to_be_visible()
    await page.get_by_label("Company").fill("")
    await page.get_by_role("radio", name="Failed 1").check()
    await expect(page.locator(".job:visible")).to_have_count(1)
    await page.get_by_role("radio", name="All 5").check()
    await page.get_by_label("Name").fill("tea")
    await expect(page.locator(".job")).to_have_count(1)
    await expect(live.group("running")).to_contain_text("None matches the filter.")


async def test_older_imports_are_read_when_somebody_asks(live: PageWorld) -> None:
    old = [
        job(f"old-{number}", "Succeeded", companyId="bolt", completedAt=when(90_000)) for number in range(4)
    ]
    live.stand_in.history = [
        [job("echo-tea", "Succeeded"), old[0]],
        [],
        old[1:3],
        [old[3], job("older-but-running")],
    ]
    await live.sign_in()
    await live.page.get_by_label("Company").fill("bolt")
    await live.page.get_by_role("button", name="Load older imports").click()
    for number in range(4):
        await expect(live.row(f"old-{number}")).to_be_visible()
    await expect(live.row("older-but-running")).to_have_count(0)
    await expect(live.page.get_by_role("button", name="These are all")).to_be_visible()
    assert [(call.get("company"), call.get("cursor")) for call in live.stand_in.calls.lists] == [
        ("bolt", cursor) for cursor in (None, "1", "2", "3")
    ]
    await live.page.get_by_label("Company").fill("echo")
    await expect(live.row("old-0")).to_have_count(0)
    await expect(live.page.get_by_role("button", name="Load older imports")).to_be_visible()
