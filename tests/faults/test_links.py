"""The links between processes and servers are cut, half-open or slow, one after the other, under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import zip_longest

import pytest

from faults.expected import Expectation
from faults.recovery import after_standstill
from faults.report import FaultReport
from faults.scenario import Scenario, scenario
from faults.world import Fault, FaultWorld
from import_core.domain.failures import RETRY_DELAYS_SECONDS
from import_local.faults.links import LINKS, Link

SECONDS = 3.0
DELAY_SECONDS = 0.3
RUNNING = 3
JOBS = 500
LATENCY_SECONDS = 3.0
"""What a provider's call takes: so long that the jobs last as long as the breaks, and as each takes to be overcome."""
BREAKS: dict[str, Callable[[Link], None]] = {
    "cut": lambda link: link.cut(),
    "half-open": lambda link: link.lose_connections(),
    "swallowing": lambda link: link.black_hole(),
    "slow": lambda link: link.set_rules(delay=DELAY_SECONDS),
}


async def break_links(running: Scenario, names: list[str]) -> None:
    """Break each link in each way for some seconds, in an order drawn from the seed.

    A link of the operators breaks beside two of the workers, as a network's do.
    """
    world = running.world
    source = world.random_for(f"{running.load.scenario}/links")
    lanes = [[(name, how) for name in lane for how in BREAKS] for lane in lanes_of(names)]
    for lane in lanes:
        source.shuffle(lane)
    for breaks in zip_longest(*lanes):
        await running.until_running(RUNNING)  # also: the breaks before are overcome
        links = []
        try:
            for name, how in filter(None, breaks):
                link = world.faults.link(name)
                running.faults.append(Fault(f"{name} {how}", datetime.now(UTC)))
                links.append(link)
                BREAKS[how](link)
            await asyncio.sleep(SECONDS)
        finally:
            for link in links:
                link.heal()


def lanes_of(names: list[str]) -> list[list[str]]:
    """Links that break one after the other; those of different lanes break at the same time."""
    of_operators = [name for name in names if name.startswith("operator-")]
    of_workers = [name for name in names if name not in of_operators]
    return [of_workers[::2], of_workers[1::2], of_operators]


@pytest.mark.long
async def test_links_are_cut_half_open_and_slow(world: FaultWorld, fault_report: FaultReport) -> None:
    async with scenario(world, fault_report, "links", jobs=JOBS, latency_seconds=LATENCY_SECONDS) as running:
        async with running.submitting(late=JOBS // 4, every=1.0):
            await running.until_running(10)
            await break_links(running, list(LINKS))
        await running.settle()
        retried = await running.retry_failed_items()
        checked = await running.check(
            Expectation(
                most_tries=len(RETRY_DELAYS_SECONDS),
                deaths_counted=False,
                reopened=frozenset(retried),
                short_pages=True,
                commits_repeated=True,
            )
        )
        for fault in running.faults:
            running.tell(fault.kind, after_standstill(checked.audit, fault), times=1)
        checked.assert_clean()
