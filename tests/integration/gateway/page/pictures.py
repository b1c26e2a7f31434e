"""Makes the pictures of docs/how-to/live-page.md and dead-letters.md.

`python tests/integration/gateway/page/pictures.py`
"""

import asyncio
import random
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dead_letter_stand_in import dead_letter
from page_world import ARGUMENTS, PageWorld
from playwright.async_api import Browser, async_playwright
from scenes import job, queue, when, worker
from stand_in import StandIn

from import_worker.browsing.browser import EXECUTABLES

Json = dict[str, Any]
FOLDER = Path(__file__).parents[4] / "docs" / "pictures"
COMPANIES = ("acme", "bolt", "cafe-nord", "dune", "echo", "fjord", "gable", "harbor", "iris", "juno")
SEASONS = ("autumn", "full", "menu", "spring", "outlet", "shoes")


def busy_scene(stand_in: StandIn) -> None:
    """An ordinary afternoon: eight running, many waiting, two failed."""
    draw = random.Random(7)
    stand_in.put_queue(
        queue(level="degraded", depth=1_284, due=1_252, running=32, intakeOpen=True, workersDesired=10)
    )
    stand_in.put_workers(*(worker(number, jobs=(5, 5, 4, 5, 3, 5, 5, 0)[number]) for number in range(8)))
    stand_in.put_jobs(*(_running(number, draw) for number in range(8)))
    stand_in.put_jobs(*(_waiting(number) for number in range(6)))
    stand_in.put_jobs(*FAILED, *(_finished(number, draw) for number in range(5)))
    stand_in.errors["dune-shoes"] = ERRORS


def _running(number: int, draw: random.Random) -> Json:
    total = draw.choice((84, 240, 1_310, 5_204, 9_870))
    done = int(total * (number + 1.4) / 10)
    failed = done // 60 if number % 3 == 1 else 0
    company = COMPANIES[number]
    return job(
        f"{company}-{SEASONS[number % len(SEASONS)]}",
        companyId=company,
        provider=f"{company}-{'shopify' if number % 3 else 'roastify'}",
        startedAt=when(60 + 55 * number),
        progress={
            "productsTotal": total,
            "productsDone": done,
            "productsImported": done - failed,
            "productsFailed": failed,
            "percent": done * 100 // total,
            "imagesTotal": done * 4,
            "imagesImported": done * 4 - failed,
        },
    )


def _waiting(number: int) -> Json:
    company = COMPANIES[9 - number]
    reason = ("ProviderLimit", "QueueFull", "QueueFull", "QueueFull", "Retry", "Backpressure")[number]
    due = reason in {"Retry", "Backpressure"}
    return job(
        f"{company}-{SEASONS[5 - number]}",
        "Queued",
        companyId=company,
        provider=f"{company}-shopify",
        waitingReason=reason,
        estimate={"secondsUntilDue": 24.0 + 60 * number}
        if due
        else {"place": number, "secondsUntilStart": 4.0 + 6 * number},
    )


def _finished(number: int, draw: random.Random) -> Json:
    company = COMPANIES[(3 * number + 2) % 10]
    total = draw.randint(60, 2400)
    progress = {"productsTotal": total, "productsDone": total, "productsUnchanged": total, "percent": 100}
    return job(
        f"{company}-nightly",
        "Cancelled" if number == 3 else "Succeeded",
        companyId=company,
        provider=f"{company}-shopify",
        startedAt=when(400 + 190 * number),
        completedAt=when(30 + 140 * number),
        progress={**progress, "imagesTotal": total * 3, "imagesUnchanged": total * 3},
    )


FAILED = (
    job(
        "dune-shoes",
        "Failed",
        companyId="dune",
        provider="dune-shopify",
        reason="TooManyFailures",
        message="14 of 260 products could not be imported; the mapping of “price” does not fit this store",
        queuedAt=when(700),
        startedAt=when(520),
        completedAt=when(190),
        attempts=4,
        progress={
            "productsTotal": 260,
            "productsDone": 240,
            "productsImported": 226,
            "productsFailed": 14,
            "percent": 92,
            "imagesTotal": 960,
            "imagesImported": 951,
            "imagesFailed": 9,
        },
    ),
    job(
        "iris-outlet",
        "Failed",
        companyId="iris",
        provider="iris-roastify",
        reason="CredentialsInvalid",
        message="The store refused the token: make a new one in the store’s settings",
        queuedAt=when(790),
        startedAt=when(712),
        completedAt=when(700),
        progress={},
    ),
)


def _error(item: str, stage: str, reason: str, message: str, url: str = "") -> Json:
    return {
        "externalId": item,
        "stage": stage,
        "reason": reason,
        "message": message,
        "url": url,
        "at": "2026-01-01T00:00:00Z",
    }


ERRORS = {
    "total": 23,
    "reasons": [
        {"stage": "map", "reason": "InvalidPrice", "count": 14},
        {"stage": "image", "reason": "NotFound", "count": 7},
        {"stage": "image", "reason": "TooLarge", "count": 2},
    ],
    "items": [
        _error("gid://shopify/Product/8841", "map", "InvalidPrice", "price: “on request” is no number"),
        _error(
            "gid://shopify/Product/8842",
            "image",
            "NotFound",
            "The image server answered 404",
            "https://cdn.example.com/dune/8842-front.jpg",
        ),
        _error("gid://shopify/Product/8850", "map", "InvalidPrice", "price: “€ 12,—” is no number"),
        _error(
            "gid://shopify/Product/8857",
            "image",
            "TooLarge",
            "The image has 31 MB; 25 MB are accepted",
            "https://cdn.example.com/dune/8857-hero.png",
        ),
        _error("gid://shopify/Product/8861", "map", "InvalidPrice", "price: “-” is no number"),
    ],
}


async def take(browser: Browser, name: str, options: Mapping[str, Any], *, details: bool = False) -> None:
    """One picture of the page with the busy scene."""
    stand_in = StandIn()
    await stand_in.start()
    busy_scene(stand_in)
    async with PageWorld.open(browser, stand_in, reduced_motion="reduce", **options) as live:
        await live.sign_in(scene=False)
        await live.row("juno-shoes").get_by_text("starts in").wait_for()
        if details:
            await live.page.get_by_role("button", name="dune-shoes", exact=True).click()
            await live.page.locator(".errors li").first.wait_for()
        await live.page.mouse.move(1, 400)
        await live.page.screenshot(path=FOLDER / name)
    await stand_in.stop()


LETTERS = (
    ("Timeout", "generate-embedding", "the batch took longer than 300 s", ("Kettle", "Tea towel")),
    ("NothingToEmbed", "generate-embedding", "the product has neither title nor description", ("", "")),
    (
        "ProviderRejected",
        "quality-control",
        "The model refused the image: unsupported colour space",
        ("Poster “Fjord”, 50 × 70", "Poster “Dune”, 30 × 40", "Poster “Gable”, 50 × 70"),
    ),
)


def letters_scene(stand_in: StandIn) -> None:
    """Three reasons, of which one passes by itself."""
    for company, (reason, step, message, titles) in zip(COMPANIES, LETTERS, strict=False):
        retryable = reason == "Timeout"
        for number, title in enumerate(titles):
            item = f"gid://shopify/Product/{8840 + len(stand_in.letters)}"
            tried = {"retryable": retryable, "attempts": 4 if retryable else 1, "message": message}
            product = {"title": title or None, "externalId": item, "companyId": company}
            died = {"diedAt": when(400 + 900 * number)}
            made = dead_letter(f"{company}-{number}", reason, step=step, **tried, **product, **died)
            stand_in.letters.append(made)


async def take_letters(browser: Browser, name: str, options: Mapping[str, Any]) -> None:
    """The page of dead letters, with one reason chosen."""
    stand_in = StandIn()
    await stand_in.start()
    letters_scene(stand_in)
    async with PageWorld.open(browser, stand_in, reduced_motion="reduce", **options) as live:
        await live.sign_in()
        await live.page.get_by_role("link", name="Dead letters", exact=True).click()
        await live.page.get_by_role("button", name="ProviderRejected").click()
        await live.page.get_by_role("button", name="Retry all 3").wait_for()
        await live.page.mouse.move(1, 400)
        await live.page.screenshot(path=FOLDER / name)
    await stand_in.stop()


async def main() -> None:
    """Make all of them."""
    path = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if path is None:
        sys.exit(f"no browser on PATH: install one of {', '.join(EXECUTABLES)}")
    desktop = {"viewport": {"width": 1280, "height": 1000}}
    phone = {"viewport": {"width": 360, "height": 800}, "device_scale_factor": 1.5, "is_mobile": True}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        await take(browser, "live-page-light.png", {**desktop, "color_scheme": "light"})
        await take(browser, "live-page-dark.png", {**desktop, "color_scheme": "dark"}, details=True)
        await take(browser, "live-page-phone.png", {**phone, "color_scheme": "light"})
        small = {"viewport": {"width": 1280, "height": 560}}
        await take_letters(browser, "dead-letters-light.png", {**small, "color_scheme": "light"})
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
