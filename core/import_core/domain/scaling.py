"""How many workers a pool should have: a pure decision from the queue's depth, with bounds and cooldowns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class ScalingReason(StrEnum):
    """Why the number of workers is what it is (`status.lastScaleReason`, condition ScalingActive)."""

    STEADY = "Steady"
    DEPTH_ROSE = "DepthRose"
    DEPTH_FELL = "DepthFell"
    BOUNDS = "Bounds"
    SCALE_OUT_COOLDOWN = "ScaleOutCooldown"
    SCALE_IN_COOLDOWN = "ScaleInCooldown"
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
    """Jobs that workers hold."""


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
    observation: Observation, spec: ScalingSpec, history: ScalingHistory, now: float
) -> ScalingDecision:
    """Decide on the number of workers at `now` (seconds of a monotonic clock).

    A scale-out happens at once, and again within its cooldown only for a need larger than the last one's.
    A scale-in follows the highest need of its cooldown's time, and only while no job is claimed: until
    workers can be asked to drain, lowering replicas might stop a busy one while another is idle.
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
    need = needed(observation.depth, spec)
    history = history.seen(need, now, spec.scale_in_cooldown)
    if need > current:
        return _out(current, need, spec, history, now)
    return _in(observation, need, spec, history)


def _out(current: int, need: int, spec: ScalingSpec, history: ScalingHistory, now: float) -> ScalingDecision:
    cooling = history.scaled_out_at is not None and now - history.scaled_out_at < spec.scale_out_cooldown
    if cooling and need <= history.scaled_out_to_need:
        held = max(current, spec.minimum)
        return ScalingDecision(held, held, ScalingReason.SCALE_OUT_COOLDOWN, history, need)
    reason = ScalingReason.DEPTH_ROSE if need > spec.minimum else ScalingReason.BOUNDS
    return ScalingDecision(need, need, reason, history, need)


def _in(observation: Observation, need: int, spec: ScalingSpec, history: ScalingHistory) -> ScalingDecision:
    current = observation.current
    desired = min(max(need, history.highest), _within(current, spec))
    if desired == current:
        reason = ScalingReason.STEADY if need == current else ScalingReason.SCALE_IN_COOLDOWN
        return ScalingDecision(desired, current, reason, history, need)
    if observation.claimed is None or observation.claimed > 0:
        return ScalingDecision(desired, current, ScalingReason.JOBS_RUNNING, history, need)
    reason = ScalingReason.BOUNDS if current > spec.maximum else ScalingReason.DEPTH_FELL
    return ScalingDecision(desired, desired, reason, history, need)


def _within(number: int, spec: ScalingSpec) -> int:
    return min(max(number, spec.minimum), spec.maximum)
