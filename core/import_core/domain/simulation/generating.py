"""Traces made from a seed: daily waves, bursts, heavy-tailed sizes, a provider's outage, a provider's limit."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from import_core.domain.jobs import Tier
from import_core.domain.simulation.trace import PROVIDERS, Arrival, Outage, ProviderRule, Trace, Wave

DAY = 86_400.0
COMPANIES = 1000
IMAGES_PER_PRODUCT = 3
SMALLEST, LARGEST = 1, 10_000
"""Products of an import."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Products of an import: lognormal around `median`, with a Pareto tail of `tail_share` of the jobs."""

    median: float = 30.0
    spread: float = 0.9
    tail_share: float = 0.02
    tail_start: float = 300.0
    tail_exponent: float = 1.5


class _Maker:
    """Draws arrivals; everything follows from the seed."""

    def __init__(self, seed: int, sizes: Sizes) -> None:
        self._random = random.Random(seed)  # noqa: S311 - load, not secrets
        self._sizes = sizes

    def arrival(self, at: float, *, provider: str | None = None, connection: str | None = None) -> Arrival:
        draw = self._random
        # The first company has 3 % of all jobs, the last one 0.05 %.
        number = int(COMPANIES * draw.random() ** 2)
        company = f"company-{number}"
        products = self._products()
        return Arrival(
            at=at,
            company=company,
            connection=connection or company,
            provider=provider or ("roastify" if number % 4 == 0 else "shopify"),
            products=products,
            images=sum(draw.randrange(2 * IMAGES_PER_PRODUCT + 1) for _ in range(min(products, 8)))
            * max(1, products // 8),
            tier=(Tier.ENTERPRISE, Tier.PRO, Tier.PRO, Tier.BASIC)[min(number % 10, 3)],
        )

    def over(self, start: float, end: float, count: int) -> list[float]:
        return [self._random.uniform(start, end) for _ in range(count)]

    def by_rate(self, count: int, rate: Callable[[float], float], highest: float) -> list[float]:
        """Moments of a day, as often as `rate` says (at most `highest`)."""
        moments: list[float] = []
        while len(moments) < count:
            at = self._random.uniform(0, DAY)
            if self._random.uniform(0, highest) <= rate(at):
                moments.append(at)
        return moments

    def _products(self) -> int:
        sizes, draw = self._sizes, self._random
        if draw.random() < sizes.tail_share:
            products = sizes.tail_start * draw.paretovariate(sizes.tail_exponent)
        else:
            products = draw.lognormvariate(math.log(sizes.median), sizes.spread)
        return min(max(int(products), SMALLEST), LARGEST)


def _daylight(at: float) -> float:
    """More at 14:00 than at 02:00, seven times as many."""
    return 4.0 - 3.0 * math.cos((at - 2 * 3600) / DAY * 2 * math.pi)


def daily(seed: int, jobs: int) -> Trace:
    """A day's curve, and a tenth of the jobs by nightly schedules from 02:00 to 03:00."""
    maker = _Maker(seed, Sizes())
    wave = Wave(2 * 3600.0, 3 * 3600.0, jobs // 10)
    moments = maker.by_rate(jobs - wave.jobs, _daylight, 7.0) + maker.over(wave.start, wave.end, wave.jobs)
    return _trace("daily", maker, moments, waves=(wave,))


def waves(seed: int, jobs: int) -> Trace:
    """Most of the jobs by schedules: six waves of 20 minutes each, little between them."""
    maker = _Maker(seed, Sizes())
    share = jobs * 9 // 60
    known = tuple(Wave(hour * 3600.0, hour * 3600.0 + 1200, share) for hour in (1, 5, 9, 13, 17, 21))
    moments = maker.over(0, DAY, jobs - 6 * share)
    for wave in known:
        moments += maker.over(wave.start, wave.end, wave.jobs)
    return _trace("waves", maker, moments, waves=known)


def bursts(seed: int, jobs: int) -> Trace:
    """Half of the jobs in 16 bursts of two minutes that nobody knows ahead."""
    maker = _Maker(seed, Sizes())
    share = jobs // 32
    moments = maker.over(0, DAY, jobs - 16 * share)
    for start in maker.over(0, DAY - 120, 16):
        moments += maker.over(start, start + 120, share)
    return _trace("bursts", maker, moments)


def heavy(seed: int, jobs: int) -> Trace:
    """A day's curve of jobs of which a tenth are very large: jobs are a poor measure of work."""
    maker = _Maker(seed, Sizes(median=15, tail_share=0.1, tail_start=200, tail_exponent=1.1))
    return _trace("heavy", maker, maker.by_rate(jobs, _daylight, 7.0))


def outage(seed: int, jobs: int) -> Trace:
    """A day's curve; the larger provider is away from 10:00 to 11:30, and its jobs wait."""
    maker = _Maker(seed, Sizes())
    moments = maker.by_rate(jobs, _daylight, 7.0)
    return _trace("outage", maker, moments, outages=(Outage("shopify", 10 * 3600.0, 11.5 * 3600.0),))


def limited(seed: int, jobs: int) -> Trace:
    """A day's curve, and a tenth of the jobs all of one connection whose provider takes a call for each product."""
    maker = _Maker(seed, Sizes())
    slow = jobs // 10
    moments = maker.by_rate(jobs - slow, _daylight, 7.0)
    arrivals = [maker.arrival(at) for at in moments]
    for start in (8 * 3600.0, 16 * 3600.0):
        for at in maker.over(start, start + 600, slow // 2):
            drawn = maker.arrival(at, provider="per-product", connection="per-product")
            arrivals.append(replace(drawn, company="company-slow", tier=Tier.BASIC))
    rules: Mapping[str, ProviderRule] = {**PROVIDERS, "per-product": ProviderRule(600, 1)}
    arrivals.sort(key=lambda arrival: arrival.at)
    return Trace("limited", DAY, tuple(arrivals), providers=rules)


def quiet(seed: int, jobs: int) -> Trace:
    """Few jobs, evenly over a day: what the minimum costs."""
    maker = _Maker(seed, Sizes())
    return _trace("quiet", maker, maker.over(0, DAY, jobs))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A trace that can be made: by which function, and of how many jobs if not said."""

    make: Callable[[int, int], Trace]
    jobs: int


SCENARIOS: Mapping[str, Scenario] = {
    "daily": Scenario(daily, 100_000),
    "waves": Scenario(waves, 40_000),
    "bursts": Scenario(bursts, 40_000),
    "heavy": Scenario(heavy, 20_000),
    "outage": Scenario(outage, 40_000),
    "limited": Scenario(limited, 20_000),
    "quiet": Scenario(quiet, 1000),
}


def _trace(
    name: str,
    maker: _Maker,
    moments: list[float],
    *,
    waves: tuple[Wave, ...] = (),
    outages: tuple[Outage, ...] = (),
) -> Trace:
    return Trace(name, DAY, tuple(maker.arrival(at) for at in sorted(moments)), waves=waves, outages=outages)
