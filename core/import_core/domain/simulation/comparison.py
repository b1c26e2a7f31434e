"""All policies over one trace, each from the same start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from import_core.domain.drain_time import DrainTimeSpec
from import_core.domain.prescaling import KnownWave
from import_core.domain.scaling import ScalingSpec
from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.competitors import Bounds, HorizontalPodAutoscaler, TargetTracking
from import_core.domain.simulation.engine import SAMPLE_SECONDS, Engine
from import_core.domain.simulation.ordering import AsDispatched, OldestFirst
from import_core.domain.simulation.outcome import Outcome, outcome
from import_core.domain.simulation.policies import DrainTime, Fixed, Policy, QueueDepth
from import_core.domain.simulation.trace import Trace

KEDA_LIST_LENGTH = 5
"""As in the example of KEDA's Redis list scaler."""


@dataclass(frozen=True, slots=True)
class Fleets:
    """What the policies are given; times in seconds."""

    minimum: int = 2
    maximum: int = 50
    target_jobs_per_worker: int = 10
    scale_out_cooldown: float = 60.0
    scale_in_cooldown: float = 300.0
    drain_seconds: float = 60.0
    fixed: int = 20

    def scaling(self) -> ScalingSpec:
        """As a WorkerPool has it."""
        return ScalingSpec(
            minimum=self.minimum,
            maximum=self.maximum,
            target_jobs_per_worker=self.target_jobs_per_worker,
            scale_out_cooldown=self.scale_out_cooldown,
            scale_in_cooldown=self.scale_in_cooldown,
        )


_Make = Callable[[str, Fleets, Assumptions, Trace], Policy]


def known_waves(trace: Trace, fleets: Fleets, assumptions: Assumptions) -> tuple[KnownWave, ...]:
    """Workers for each wave: enough places to do it while it comes in, by the trace's average job."""
    seconds = sum(assumptions.work_seconds(arrival) for arrival in trace.arrivals) / max(
        1, len(trace.arrivals)
    )
    waves = []
    for wave in trace.waves:
        places = wave.jobs * seconds / max(1.0, wave.end - wave.start)
        workers = min(fleets.maximum, -int(-places // assumptions.concurrency))
        waves.append(KnownWave(wave.start, wave.end, workers))
    return tuple(waves)


def _queue_depth(*, drains: bool, ahead: bool) -> _Make:
    def make(name: str, fleets: Fleets, assumptions: Assumptions, trace: Trace) -> Policy:
        waves = known_waves(trace, fleets, assumptions) if ahead else ()
        lead = assumptions.pod_start + assumptions.node_start
        return QueueDepth(name, fleets.scaling(), drains=drains, waves=waves, lead_seconds=lead)

    return make


def _drain_time(*, ahead: bool) -> _Make:
    def make(name: str, fleets: Fleets, assumptions: Assumptions, trace: Trace) -> Policy:
        waves = known_waves(trace, fleets, assumptions) if ahead else ()
        lead = assumptions.pod_start + assumptions.node_start
        spec = DrainTimeSpec(fleets.scaling(), fleets.drain_seconds, assumptions.concurrency)
        return DrainTime(name, spec, waves=waves, lead_seconds=lead)

    return make


def _bounds(fleets: Fleets, target: float) -> Bounds:
    return Bounds(fleets.minimum, fleets.maximum, target)


POLICIES: Mapping[str, _Make] = {
    "queue-depth": _queue_depth(drains=False, ahead=False),
    "queue-depth+drain": _queue_depth(drains=True, ahead=False),
    "queue-depth+drain+ahead": _queue_depth(drains=True, ahead=True),
    "drain-time": _drain_time(ahead=False),
    "drain-time+ahead": _drain_time(ahead=True),
    "ecs-target-tracking": lambda name, fleets, _, __: TargetTracking(
        name,
        _bounds(fleets, fleets.target_jobs_per_worker),
        out_cooldown=fleets.scale_out_cooldown,
        in_cooldown=fleets.scale_in_cooldown,
    ),
    "hpa": lambda name, fleets, _, __: HorizontalPodAutoscaler(
        name, _bounds(fleets, fleets.target_jobs_per_worker)
    ),
    "hpa-unlimited-steps": lambda name, fleets, _, __: HorizontalPodAutoscaler(
        name, _bounds(fleets, fleets.target_jobs_per_worker), limited_steps=False
    ),
    "keda": lambda name, fleets, _, __: HorizontalPodAutoscaler(
        name, _bounds(fleets, KEDA_LIST_LENGTH), waiting_only=True
    ),
    "fixed": lambda name, fleets, _, __: Fixed(name, fleets.fixed),
    "fixed-maximum": lambda name, fleets, _, __: Fixed(name, fleets.maximum),
}
"""By name; those with `ahead` know the trace's waves."""

COMPETITORS = frozenset(
    {"ecs-target-tracking", "hpa", "hpa-unlimited-steps", "keda", "fixed", "fixed-maximum"}
)
"""The policies that are not this project's."""


def default_policies(trace: Trace) -> tuple[str, ...]:
    """All policies; those that know waves ahead only where there are any."""
    return tuple(name for name in POLICIES if trace.waves or not name.endswith("+ahead"))


def compare(
    trace: Trace,
    names: Iterable[str] = (),
    *,
    fleets: Fleets | None = None,
    assumptions: Assumptions | None = None,
    fair: bool = True,
    sample_seconds: float = SAMPLE_SECONDS,
) -> Iterator[Outcome]:
    """The outcome of each policy, of `default_policies` where none is named.

    `fair`: jobs start as the dispatcher chooses, else the oldest first. `sample_seconds`: between an outcome's samples.
    """
    fleets, assumptions = fleets or Fleets(), assumptions or Assumptions()
    for name in tuple(names) or default_policies(trace):
        policy = POLICIES[name](name, fleets, assumptions, trace)
        order = AsDispatched() if fair else OldestFirst()
        yield outcome(
            name, Engine(trace, policy, assumptions, order, sample_seconds=sample_seconds).run(), assumptions
        )
