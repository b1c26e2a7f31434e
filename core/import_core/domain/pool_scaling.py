"""A pool's number of workers from all that was measured, by the pool's policy: as it happens, and replayed later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from import_core.domain.cpu_use import DEPTH_UNKNOWN_SECONDS, CpuUse, needed_by_cpu
from import_core.domain.drain_time import DrainTimeSpec, Work, decide_drain_time
from import_core.domain.prescaling import DEFAULT_START_SECONDS, KnownWave, with_known_waves
from import_core.domain.resources.worker_pool import ScalingPolicy
from import_core.domain.scaling import (
    Observation,
    ScalingDecision,
    ScalingHistory,
    ScalingReason,
    ScalingSpec,
    decide,
)

INPUTS_VERSION = 1
"""Grows where inputs of before can't be read or would be decided on in another way."""


@dataclass(frozen=True, slots=True)
class PoolWishes:
    """What a WorkerPool asks for."""

    scaling: ScalingSpec
    policy: ScalingPolicy = ScalingPolicy.QUEUE_DEPTH
    concurrency: int = 5
    drain_seconds: float = 60.0
    cpu_target_percent: int = 70


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What was measured of a pool and its queue. None: could not be measured, which is never read as zero."""

    observation: Observation
    work: Work | None = None
    """Counted for DrainTime only; without it the depth decides."""
    waves: tuple[KnownWave, ...] = ()
    lead_seconds: float = DEFAULT_START_SECONDS
    """What a worker takes to start."""
    unknown_seconds: float = 0.0
    """For how long the depth has been unknown."""
    cpu: CpuUse | None = None


@dataclass(frozen=True, slots=True)
class ScalingInputs:
    """Everything that one decision was made of; `now` and the times in it are of one monotonic clock."""

    wishes: PoolWishes
    facts: PoolFacts
    history: ScalingHistory
    now: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which the same decision follows."""
        plain: dict[str, Any] = _INPUTS.dump_python(self, mode="json")
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ScalingInputs:
        """Read what `to_json` gave; raises ValueError where it can't be read."""
        try:
            return _INPUTS.validate_python(value)
        except ValidationError as error:
            raise ValueError(f"inputs of a decision can't be read: {error.error_count()} problems") from error


def decide_pool(inputs: ScalingInputs) -> ScalingDecision:
    """Decide by the policy; the same inputs always give the same decision.

    Known waves raise the minimum. While the depth is unknown the number is held; when it has been unknown for
    DEPTH_UNKNOWN_SECONDS, the CPU may add workers and never takes any away.
    """
    wishes, facts, now = inputs.wishes, inputs.facts, inputs.now
    base, seen = wishes.scaling, facts.observation
    spec = with_known_waves(base, facts.waves, now, lead_seconds=facts.lead_seconds)
    if seen.depth is None or seen.claimed is None:
        decision = _without_depth(inputs, spec)
    elif wishes.policy is ScalingPolicy.DRAIN_TIME and facts.work is not None:
        drain = DrainTimeSpec(spec, wishes.drain_seconds, wishes.concurrency)
        decision = decide_drain_time(seen, facts.work, drain, inputs.history, now)
    else:
        decision = decide(seen, spec, inputs.history, now)
    if (
        decision.reason in _MAY_BE_FOR_A_WAVE
        and max(base.minimum, seen.current) < decision.replicas <= spec.minimum
    ):
        return replace(decision, reason=ScalingReason.KNOWN_WAVE)
    return decision


def describe(inputs: ScalingInputs) -> str:
    """The inputs that a person asks for first, in a few words."""
    facts, spec = inputs.facts, inputs.wishes.scaling
    seen = facts.observation
    held = f", {seen.held} held" if seen.held else ""
    known = f"depth {seen.depth}{held}, {seen.claimed} running"
    parts = ["depth unknown" if seen.depth is None else known, f"{spec.minimum}–{spec.maximum}"]
    if facts.work is not None:
        waiting = sum(size.units for size in facts.work.waiting)
        rate = "unknown" if facts.work.rate is None else f"{facts.work.rate:.3g}/s"
        parts.append(f"{waiting:,.0f} products and images at {rate} for a job")
    soon = [wave for wave in facts.waves if wave.start - facts.lead_seconds <= inputs.now < wave.end]
    if soon:
        parts.append(f"wave for {max(wave.workers for wave in soon)} within {facts.lead_seconds:.0f} s")
    if facts.cpu is not None:
        parts.append(f"{facts.cpu.used:.2f} cores used, {facts.cpu.requested:g} requested by each")
    if inputs.history.needs:
        parts.append(f"highest need lately {inputs.history.highest}")
    return ", ".join(parts)


def _without_depth(inputs: ScalingInputs, spec: ScalingSpec) -> ScalingDecision:
    facts, now = inputs.facts, inputs.now
    current = facts.observation.current
    held = decide(replace(facts.observation, depth=None), spec, inputs.history, now)
    if held.reason is not ScalingReason.DEPTH_UNKNOWN or facts.cpu is None:
        return held
    if facts.unknown_seconds < DEPTH_UNKNOWN_SECONDS:
        return held
    need = needed_by_cpu(facts.cpu, current=current, target_percent=inputs.wishes.cpu_target_percent)
    if need is None or min(need, spec.maximum) <= max(current, held.replicas):
        return held
    # The need is above what there is, so nothing of the depth is looked at but that there is one.
    grown = decide(replace(facts.observation, depth=0, claimed=0), spec, inputs.history, now, need=need)
    return replace(grown, reason=ScalingReason.CPU_HIGH) if grown.replicas > current else grown


_MAY_BE_FOR_A_WAVE = frozenset(
    {ScalingReason.BOUNDS, ScalingReason.PROVIDER_LIMITED, ScalingReason.DEPTH_UNKNOWN}
)
_INPUTS = TypeAdapter(ScalingInputs)
