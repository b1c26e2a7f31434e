"""Every panel of every dashboard shows something of a real installation that imports, fails and is throttled.

`DASHBOARD_PICTURES=docs/pictures` has the pictures written there; `DASHBOARD_JOBS` makes the story longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from eventually import eventually

from e2e.dashboard_answers import Answer, Span, ask_dashboard, ask_expression
from e2e.test_refusals import connect
from e2e.world import World, job, provider, secret
from import_core.adapters.kube.resources import WORKER_POOL
from import_dashboards.boards import BOARDS
from import_dashboards.model import Board, without_zero
from import_dashboards.picture import Line, picture
from import_local.demo.manifests import POOL
from import_local.parts.prometheus import PrometheusServer
from import_local.pod_targets import pod_scrape_configs
from import_local.samples.settings import ROASTIFY_KEY

JOBS = int(os.environ.get("DASHBOARD_JOBS", "26"))
COMPANIES = 4
SCRAPE_SECONDS = 1.0
ONLY_WHEN_SOMETHING_IS_WRONG = {
    "In and out/Recorded and handed over",
    "In and out/Refused by the operator",
    "Limits and breakers/Breakers by state",
    "Limits and breakers/Breakers opened and closed",
    "Now/Open breakers",
    "Now/Restarts in an hour",
    "Each worker/Restarts by cause",
    "Each worker/Errors of the queue",
    "Loops/Errors",
    "Loops/Repairs",
    "Loops/Schedules",
    "The cluster/Finished objects",
    "The cluster/Watches and Events",
    "The fleet follows the queue/Changes",
    "Gateway/Unanswered questions and listeners",
}
"""Panels that say zero where what they count has not happened: without that word they may be empty."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def prometheus(world: World, servers_folder: Path) -> AsyncIterator[PrometheusServer]:
    """Prometheus that asks all pods of the installation, as the PodMonitors say."""
    configs = pod_scrape_configs(world.installation.kubeconfig, interval_seconds=SCRAPE_SECONDS)
    server = PrometheusServer(
        servers_folder / "prometheus-dashboards",
        log_path=servers_folder / "prometheus-dashboards.log",
        configuration={"scrape_configs": configs},
    )
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def span(world: World, prometheus: PrometheusServer) -> Span:
    """A time in which everything happened that dashboards are about."""
    start = time.time()

    async def all_are_asked() -> bool:
        targets = await prometheus.targets()
        jobs = {target["labels"]["job"].split("/")[1] for target in targets if target["health"] == "up"}
        return jobs == {"import-operator", "import-gateway", "import-worker"}

    await eventually(all_are_asked, seconds=90, what="asking all processes")
    await _tell_a_story(world)
    scraped = time.time()

    async def all_is_told() -> bool:
        newest = await prometheus.query("min(timestamp(imports_build_info))")
        return bool(newest) and newest[0].value > scraped + SCRAPE_SECONDS

    await eventually(all_is_told, seconds=90, what="the last values")
    return Span(start, time.time(), step=max(1.0, (time.time() - start) / 200))


async def _tell_a_story(world: World) -> None:
    """Jobs of two providers: most succeed, one can't, one is throttled and failed by its provider."""
    for number in range(COMPANIES):
        await connect(world, f"seen-{number}", shop=f"tiny-8-2-seen{number}")
    await connect(world, "seen-wrong", token="shpat_mistyped")
    await connect(world, "seen-troubled", shop="tiny-6-1-seentroubled")
    await connect(world, "seen-slow", shop="tiny-6-1-seenslow")
    await world.apply(
        secret("seen-roast", apiKey=ROASTIFY_KEY),
        provider(
            "seen-roast",
            company="seen-roast",
            kind="roastify",
            url=f"{world.installation.roastify_url}/tiny-12-1-seenroast/v1",
        ),
    )
    faults = {
        "seentroubled": [{"status": 429, "retryAfter": 1, "times": 1}, {"status": 500, "times": 2}],
        # Long enough for a lease to be renewed.
        "seenslow": [{"kind": "slow", "seconds": 12}],
    }
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        for shop, following in faults.items():
            control = f"{world.sample_root}/control/shopify/tiny-6-1-{shop}/faults"
            (await client.put(control, json={"api": {"next": following}})).raise_for_status()
        await client.get(f"{world.installation.environment['GATEWAY_URL']}/v1/imports")
    jobs = [
        *(
            job(
                f"seen-{number}",
                company=f"seen-{number % COMPANIES}",
                provider_name=f"seen-{number % COMPANIES}",
            )
            for number in range(JOBS)
        ),
        *(job(f"seen-r{number}", company="seen-roast", provider_name="seen-roast") for number in range(3)),
        job("seen-wrong", company="seen-wrong", provider_name="seen-wrong"),
        job("seen-troubled", company="seen-troubled", provider_name="seen-troubled"),
        job("seen-slow", company="seen-slow", provider_name="seen-slow"),
    ]
    # The fleet grows for what waits; on a fast machine nothing would.
    await world.imports("drain", "--reason", "until all are there")
    await world.apply(*jobs)
    await world.until(
        WORKER_POOL, POOL, lambda pool: ((pool.get("status") or {}).get("desiredReplicas") or 0) > 2
    )
    await world.imports("resume")
    for each in jobs:
        status = await world.finished(each["metadata"]["name"])
        wanted = "Failed" if each["metadata"]["name"] == "seen-wrong" else "Succeeded"
        assert status["phase"] == wanted, status


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
async def test_every_panel_shows_something(
    prometheus: PrometheusServer, span: Span, board: Board, tmp_path: Path
) -> None:
    answers = await ask_dashboard(prometheus, board, span)
    assert [answer.place for answer in answers if not answer.has_data] == []
    empty = []
    for answer in answers:
        bare = without_zero(answer.expression)
        if bare != answer.expression:
            lines = await ask_expression(prometheus, bare, "", span)
            if not Answer(answer.place, bare, lines).has_data:
                empty.append(answer.place)
    assert set(empty) <= ONLY_WHEN_SOMETHING_IS_WRONG
    by_panel: dict[str, list[Line]] = {}
    for answer in answers:
        by_panel.setdefault(answer.place, []).extend(answer.lines)
    drawn = picture(board, by_panel, start=span.start, end=span.end)
    assert "nothing measured" not in drawn
    folder = Path(os.environ.get("DASHBOARD_PICTURES", tmp_path))
    (folder / f"dashboard-{board.name}.svg").write_text(drawn, encoding="utf-8")
