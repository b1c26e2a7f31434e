"""Scaling policies of this project, as the operator calls them: the same decisions, fed in simulated time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from import_core.domain.drain_time import (
    DrainTimeSpec,
    LimitedBacklog,
    SizeClass,
    Work,
    WorkRate,
    decide_drain_time,
)
from import_core.domain.prescaling import KnownWave, with_known_waves
from import_core.domain.scaling import (
    Observation,
    ScalingDecision,
    ScalingHistory,
    ScalingSpec,
    decide,
    held_for_drains,
)
from import_core.domain.simulation.fleet import ScaleIn

LOOK_SECONDS = 0.25
"""How often the operator's loop looks (`loops/scale.py`)."""
WORK_LOOK_SECONDS = 1.0
"""Work is dearer to count than jobs."""


class View(Protocol):
    """What a policy may see. Numbers of jobs and workers."""

    claimed: int

    @property
    def replicas(self) -> int:
        """Workers asked for."""

    @property
    def due(self) -> int:
        """Due jobs that wait, those behind an open circuit breaker included."""

    @property
    def queued(self) -> int:
        """Jobs in the queue itself, those behind an open circuit breaker left out."""

    @property
    def held(self) -> int:
        """Due jobs behind an open circuit breaker."""

    def sizes(self) -> tuple[SizeClass, ...]:
        """All waiting work by size."""

    def running(self) -> tuple[tuple[SizeClass, ...], int]:
        """What is left of the jobs that workers hold, by size; and how many of them wait for their provider."""

    def limited(self) -> tuple[LimitedBacklog, ...]:
        """Waiting work that providers hold up."""

    def work_done(self) -> tuple[float, float]:
        """Units and seconds of the jobs that ended since the last call."""


class Policy(Protocol):
    """Decides on the number of workers every `interval` seconds."""

    name: str
    interval: float
    scale_in: ScaleIn

    @property
    def start(self) -> int:
        """Workers at the beginning."""

    def look(self, view: View, now: float) -> int:
        """The number of workers to ask for now."""


@dataclass
class QueueDepth:
    """`scaling.decide`; scale-in drains workers, or, without `drains`, waits until no job runs."""

    name: str
    spec: ScalingSpec
    drains: bool = False
    waves: Sequence[KnownWave] = ()
    lead_seconds: float = 0.0
    scale_in: ScaleIn = ScaleIn.IDLE_FIRST
    interval: float = LOOK_SECONDS
    decisions: list[tuple[float, ScalingDecision]] | None = None
    """Every change with its time, where wanted."""
    wanted: list[tuple[float, int]] | None = None
    """Each change of the number that is desired, however far it can be carried out, where wanted."""
    _history: ScalingHistory = field(default_factory=ScalingHistory)

    @property
    def start(self) -> int:
        """The minimum."""
        return self.spec.minimum

    def look(self, view: View, now: float) -> int:
        """One round of the operator's loop."""
        claimed = view.claimed
        observation = Observation(view.replicas, view.due + claimed, claimed, view.held)
        spec = self.spec
        if self.waves:
            spec = with_known_waves(spec, self.waves, now, lead_seconds=self.lead_seconds)
        decision = decide(observation, spec, self._history, now)
        if self.wanted is not None and (not self.wanted or self.wanted[-1][1] != decision.desired):
            self.wanted.append((now, decision.desired))
        if claimed and not self.drains and decision.replicas < view.replicas:
            decision = held_for_drains(decision, view.replicas, replicas=view.replicas, leaving=0)
        self._history = after(decision, view.replicas, now)
        if self.decisions is not None and decision.replicas != view.replicas:
            self.decisions.append((now, decision))
        return decision.replicas


@dataclass
class DrainTime:
    """`drain_time.decide_drain_time`; scale-in drains workers."""

    name: str
    spec: DrainTimeSpec
    waves: Sequence[KnownWave] = ()
    lead_seconds: float = 0.0
    scale_in: ScaleIn = ScaleIn.IDLE_FIRST
    interval: float = WORK_LOOK_SECONDS
    _rate: WorkRate = field(default_factory=WorkRate)
    _history: ScalingHistory = field(default_factory=ScalingHistory)

    @property
    def start(self) -> int:
        """The minimum."""
        return self.spec.scaling.minimum

    def look(self, view: View, now: float) -> int:
        """One round of a loop as the operator's."""
        units, seconds = view.work_done()
        self._rate = self._rate.after_work(units=units, job_seconds=seconds)
        scaling = with_known_waves(self.spec.scaling, self.waves, now, lead_seconds=self.lead_seconds)
        running, kept_waiting = view.running()
        decision = decide_drain_time(
            Observation(view.replicas, view.due + view.claimed, view.claimed),
            Work(view.sizes(), running, kept_waiting, view.limited(), self._rate.per_second),
            DrainTimeSpec(scaling, self.spec.drain_seconds, self.spec.concurrency),
            self._history,
            now,
        )
        self._history = after(decision, view.replicas, now)
        return decision.replicas


@dataclass
class Fixed:
    """Always the same number."""

    name: str
    start: int
    scale_in: ScaleIn = ScaleIn.NEWEST
    interval: float = 3600.0

    def look(self, view: View, now: float) -> int:
        """Never anything else."""
        return self.start


def after(decision: ScalingDecision, current: int, now: float) -> ScalingHistory:
    """What the loop remembers after a decision that was carried out."""
    if decision.replicas > current and decision.need is not None:
        return decision.history.scaled_out(decision.need, now)
    return decision.history
