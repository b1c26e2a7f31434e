"""How many workers a pool should have: a pure decision from the queue's depth, with bounds and cooldowns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class ScalingReason(StrEnum):
    """Why the number of workers is what it is (`status.lastScaleReason`, condition ScalingActive)."""

    STEADY = "Steady"
    DEPTH_ROSE = "DepthRose"
    DEPTH_FELL = "DepthFell"
    WORK_ROSE = "WorkRose"
    WORK_FELL = "WorkFell"
    PROVIDER_LIMITED = "ProviderLimited"
    KNOWN_WAVE = "KnownWave"
    CPU_HIGH = "CpuHigh"
    BOUNDS = "Bounds"
    SCALE_OUT_COOLDOWN = "ScaleOutCooldown"
    SCALE_IN_COOLDOWN = "ScaleInCooldown"
    DRAINING = "Draining"
    JOBS_RUNNING = "JobsRunning"
    DEPTH_UNKNOWN = "DepthUnknown"
    PAUSED = "Paused"
    MANUAL = "Manual"


@dataclass(frozen=True, slots=True)
class ScalingSpec:
    """A pool's wishes; times in seconds."""

    minimum: int
    maximum: int
    target_jobs_per_worker: int
    scale_out_cooldown: float
    scale_in_cooldown: float
    paused: bool = False
    manual: int | None = None
    """A number held by hand, also outside the bounds."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was measured. None: could not be measured, which is never read as zero."""

    current: int
    """Replicas asked for now."""
    depth: int | None
    claimed: int | None
    """Jobs that workers hold; of no account where workers drain."""
    held: int = 0
    """Due jobs of the depth that no worker would get: an open circuit breaker or a pause holds them. What could
    not be counted is not taken off."""


@dataclass(frozen=True, slots=True)
class ScalingHistory:
    """What past decisions leave for the next: bounded by the number of distinct needs.

    `needs` holds (time, need) with falling needs: the first is the highest of the cooldown's time.
    """

    needs: tuple[tuple[float, int], ...] = ()
    scaled_out_at: float | None = None
    scaled_out_to_need: int = 0

    def seen(self, need: int, now: float, keep_seconds: float) -> ScalingHistory:
        """Take in a need; drop those that are too old or that a later, higher one hides."""
        kept = [(at, old) for at, old in self.needs if now - at < keep_seconds and old > need]
        return replace(self, needs=(*kept, (now, need)))

    @property
    def highest(self) -> int:
        """The highest need that is remembered."""
        return self.needs[0][1] if self.needs else 0

    def scaled_out(self, need: int, now: float) -> ScalingHistory:
        """Take in that a scale-out for `need` has happened."""
        return replace(self, scaled_out_at=now, scaled_out_to_need=need)


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """`desired`: workers there should be; `replicas`: the number to ask for now, between current and desired."""

    desired: int
    replicas: int
    reason: ScalingReason
    history: ScalingHistory
    need: int | None


def needed(depth: int, spec: ScalingSpec) -> int:
    """Workers for a depth, within the bounds."""
    return _within(-(-depth // spec.target_jobs_per_worker), spec)


def decide(
    observation: Observation,
    spec: ScalingSpec,
    history: ScalingHistory,
    now: float,
    *,
    need: int | None = None,
) -> ScalingDecision:
    """Decide on the number of workers at `now` (seconds of a monotonic clock).

    `need` replaces what follows from the depth where another policy has found it (`drain_time`).
    Jobs that nobody would get need no workers; where that keeps workers from being started, the reason is
    ProviderLimited.
    A scale-out happens at once, and again within its cooldown only for a need larger than the last one's.
    A scale-in follows the highest need of its cooldown's time. How fast the number is lowered then, so that
    no job is interrupted, is decided by `draining.plan_drains`.
    """
    current = observation.current
    if spec.manual is not None:
        return ScalingDecision(spec.manual, spec.manual, ScalingReason.MANUAL, history, None)
    if not history.needs:
        # A new leader knows no past: what stands now counts as needed until the cooldown has passed.
        history = history.seen(_within(current, spec), now, spec.scale_in_cooldown)
    if spec.paused:
        history = history.seen(_within(current, spec), now, spec.scale_in_cooldown)
        return ScalingDecision(current, current, ScalingReason.PAUSED, history, None)
    if observation.depth is None:
        held = _within(current, spec)
        history = history.seen(held, now, spec.scale_in_cooldown)
        return ScalingDecision(held, max(held, current), ScalingReason.DEPTH_UNKNOWN, history, None)
    if need is not None:
        need, withheld = _within(need, spec), False
    else:
        need = needed(max(0, observation.depth - observation.held), spec)
        withheld = observation.held > 0 and need < needed(observation.depth, spec)
    history = history.seen(need, now, spec.scale_in_cooldown)
    decision = (
        _out(current, need, spec, history, now) if need > current else _in(current, need, spec, history)
    )
    if withheld and decision.replicas >= current:
        return replace(decision, reason=ScalingReason.PROVIDER_LIMITED)
    return decision


def _out(current: int, need: int, spec: ScalingSpec, history: ScalingHistory, now: float) -> ScalingDecision:
    cooling = history.scaled_out_at is not None and now - history.scaled_out_at < spec.scale_out_cooldown
    if cooling and need <= history.scaled_out_to_need:
        held = max(current, spec.minimum)
        return ScalingDecision(held, held, ScalingReason.SCALE_OUT_COOLDOWN, history, need)
    reason = ScalingReason.DEPTH_ROSE if need > spec.minimum else ScalingReason.BOUNDS
    return ScalingDecision(need, need, reason, history, need)


def _in(current: int, need: int, spec: ScalingSpec, history: ScalingHistory) -> ScalingDecision:
    desired = min(max(need, history.highest), _within(current, spec))
    if desired == current:
        reason = ScalingReason.STEADY if need == current else ScalingReason.SCALE_IN_COOLDOWN
        return ScalingDecision(desired, current, reason, history, need)
    reason = ScalingReason.BOUNDS if current > spec.maximum else ScalingReason.DEPTH_FELL
    return ScalingDecision(desired, desired, reason, history, need)


def held_for_drains(
    decision: ScalingDecision, current: int, *, replicas: int, leaving: int
) -> ScalingDecision:
    """A scale-in as far as workers have drained: `replicas` now, while `leaving` workers go or drain."""
    if decision.replicas >= current:
        return decision
    if replicas < current:
        return replace(decision, replicas=replicas)
    reason = ScalingReason.DRAINING if leaving else ScalingReason.JOBS_RUNNING
    return replace(decision, replicas=current, reason=reason)


def _within(number: int, spec: ScalingSpec) -> int:
    return min(max(number, spec.minimum), spec.maximum)
