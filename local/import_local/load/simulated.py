"""What a cluster of up to 50 workers would do with the same imports, by the scaling simulator. Nothing is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.comparison import Fleets, compare
from import_core.domain.simulation.outcome import Outcome
from import_core.domain.simulation.trace import PROVIDERS, Arrival, ProviderRule, Trace
from import_local.load.mix import PlannedImport
from import_local.load.timeline import Series

POLICIES = ("queue-depth+drain", "drain-time", "keda", "hpa")
FLEETS = Fleets(minimum=2, maximum=50)
PROVIDER_RULES = {
    **PROVIDERS,
    "shopify": ProviderRule(calls_per_minute=40, products_per_call=13),
    "roastify": ProviderRule(calls_per_minute=100, products_per_call=1),
}
"""As the sample providers let through: Shopify a page of 13 products each 1.5 s, by its cost in points; Roastify is
asked for each product."""
SHOWN_SECONDS = 900.0
SAMPLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """The outcome of each policy, the operator's default first, and from what it was made."""

    outcomes: tuple[Outcome, ...]
    assumptions: Assumptions
    fleets: Fleets

    @property
    def default(self) -> Outcome:
        """By the policy that a WorkerPool has unless told otherwise."""
        return self.outcomes[0]

    @property
    def done_seconds(self) -> float:
        """When the default policy's last import was done."""
        return next(
            (each.at for each in self.default.samples if each.at > SAMPLE_SECONDS and each.depth == 0),
            self.default.samples[-1].at,
        )

    def depth(self) -> list[Series]:
        """Depth over time of each policy."""
        return [
            Series(each.policy, each.policy, tuple((s.at, float(s.depth)) for s in each.samples))
            for each in self.outcomes
        ]

    def workers(self) -> list[Series]:
        """Workers asked for over time, of each policy."""
        return [
            Series(each.policy, each.policy, tuple((s.at, float(s.replicas)) for s in each.samples))
            for each in self.outcomes
        ]


def simulate_load(planned: Sequence[PlannedImport], *, seconds: float) -> Simulated:
    """Simulate the imports as if they were accepted evenly over the first `seconds`."""
    arrivals = tuple(
        Arrival(
            at=seconds * number / max(1, len(planned)),
            company=each.name,
            connection=each.name,
            provider=each.provider,
            products=each.products,
            images=each.images,
            tier=each.tier,
        )
        for number, each in enumerate(planned)
    )
    trace = Trace("load-test", max(seconds, SHOWN_SECONDS), arrivals, providers=PROVIDER_RULES)
    assumptions = Assumptions()
    outcomes = compare(trace, POLICIES, fleets=FLEETS, assumptions=assumptions, sample_seconds=SAMPLE_SECONDS)
    return Simulated(tuple(outcomes), assumptions, FLEETS)
