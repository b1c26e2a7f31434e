"""From what is measured to a decision on a pool, by its policy; and which decisions are worth keeping."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from import_core.adapters.postgres.decisions import RecordedDecision
from import_core.adapters.postgres.jobs import Depth
from import_core.domain.drain_time import Work
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.pool_scaling import (
    INPUTS_VERSION,
    PoolFacts,
    PoolWishes,
    ScalingInputs,
    decide_pool,
    describe,
)
from import_core.domain.prescaling import KnownWave, StartTimes, WaveBook
from import_core.domain.resources.worker_pool import ScalingPolicy, WorkerPool
from import_core.domain.scaling import Observation, ScalingDecision, ScalingHistory, ScalingSpec
from import_operator import metrics
from import_operator.deployments import replicas_of
from import_operator.measuring_cpu import CpuMeasure
from import_operator.measuring_held import HeldMeasure
from import_operator.measuring_work import WorkMeasure
from import_operator.state import OperatorState

WAVE_LOOK_SECONDS = 5.0
REASON_SECONDS = 5.0
"""A change of the reason alone is kept no more often, since some come and go with each look."""


@dataclass(slots=True)
class _Kept:
    """What was last kept of a pool."""

    reason: str | None = None
    at: float = field(default=float("-inf"))
    scaled_from: str | None = None
    """What the last change of the number was made of, in words."""


@dataclass(frozen=True, slots=True)
class PoolDecision:
    """A decision, with what it was made of."""

    decision: ScalingDecision
    inputs: ScalingInputs


class PoolDecisions:
    """Gathers the facts that a pool's policy asks for; `work`, `cpu`, `held` None: those are never known."""

    def __init__(
        self,
        state: OperatorState,
        *,
        work: WorkMeasure | None = None,
        cpu: CpuMeasure | None = None,
        held: HeldMeasure | None = None,
    ) -> None:
        self._state = state
        self._held = held
        self._work = work
        self._cpu = cpu
        self._unknown_since: dict[str, float] = {}
        self._waves = WaveBook({})
        self._waves_at = float("-inf")
        self._kept: dict[str, _Kept] = {}

    def keep(self, pools: Iterable[WorkerPool]) -> None:
        """Forget what is remembered of pools and queues that are gone."""
        pools = list(pools)
        names = {pool.metadata.name for pool in pools}
        queues = {pool.spec.queue for pool in pools}
        for name in set(self._kept) - names:
            del self._kept[name]
            if self._cpu is not None:
                self._cpu.forget(name)
        for queue in set(self._unknown_since) - queues:
            del self._unknown_since[queue]
        if self._work is not None:
            self._work.keep(queues)

    async def look(self, queues: list[str], seen_at: float) -> None:
        """Measure what all pools share."""
        if self._held is not None:
            await self._held.look(queues, seen_at)

    async def decide(
        self,
        pool: WorkerPool,
        deployment: Mapping[str, Any],
        depth: Depth | None,
        history: ScalingHistory,
        seen_at: float,
    ) -> PoolDecision:
        """Decide on a pool whose Deployment was seen so, at `seen_at` (seconds of the monotonic clock)."""
        name, queue = pool.metadata.name, pool.spec.queue
        current = replicas_of(deployment)
        start_times = self._state.scaling.start_times.get(name, StartTimes())
        unknown = self._unknown_seconds(queue, depth, seen_at)
        cpu = None
        if self._cpu is not None:
            if depth is None:
                cpu = await self._cpu.look(name, deployment, seen_at)
            else:
                self._cpu.forget(name)
        facts = PoolFacts(
            self._observe(queue, current, depth),
            work=await self._count(pool, depth, seen_at),
            waves=self._known_waves(pool, start_times.lead_seconds, seen_at),
            lead_seconds=start_times.lead_seconds,
            unknown_seconds=unknown,
            cpu=cpu,
        )
        inputs = ScalingInputs(wishes_of(pool), facts, history, seen_at)
        return PoolDecision(decide_pool(inputs), inputs)

    def depth_note(self, pool: str) -> str | None:
        """What is done while the depth is unknown, for the status."""
        look = self._cpu.last(pool) if self._cpu is not None else None
        return None if look is None else look.known.value

    def scaled_from(self, pool: str) -> str | None:
        """What the last change of the pool's number was made of, for the status."""
        kept = self._kept.get(pool)
        return None if kept is None else kept.scaled_from

    def note(self, pool: str, before: int, replicas: int, made: PoolDecision) -> None:
        """Keep a decision that was carried out as far as `replicas`, where the number or the reason has changed."""
        decision, kept = made.decision, self._kept.setdefault(pool, _Kept())
        now, reason = made.inputs.now, decision.reason.value
        changed = replicas != before
        if not changed and (reason == kept.reason or now - kept.at < REASON_SECONDS):
            return
        if changed:
            kept.scaled_from = describe(made.inputs)
        if reason != kept.reason:
            metrics.SCALING_REASONS.labels(metrics.pool_label(pool), reason).inc()
        kept.reason, kept.at = reason, now
        self._state.scaling.decisions.append(
            RecordedDecision(
                pool=pool,
                decided_at=datetime.now(UTC),
                version=INPUTS_VERSION,
                before=before,
                replicas=decision.replicas,
                desired=decision.desired,
                need=decision.need,
                reason=reason,
                inputs=made.inputs.to_json(),
            )
        )
        self._state.scaling.decisions_made.set()

    def _observe(self, queue: str, current: int, depth: Depth | None) -> Observation:
        if depth is None:
            return Observation(current, None, None)
        held = 0 if self._held is None else min(depth.due, self._held.of(queue))
        return Observation(current, depth.total, depth.claimed, held)

    def _unknown_seconds(self, queue: str, depth: Depth | None, now: float) -> float:
        if depth is not None:
            self._unknown_since.pop(queue, None)
            return 0.0
        return now - self._unknown_since.setdefault(queue, now)

    async def _count(self, pool: WorkerPool, depth: Depth | None, now: float) -> Work | None:
        if depth is None or self._work is None or pool.spec.scaling.policy is not ScalingPolicy.DRAIN_TIME:
            return None
        drain_seconds = float(pool.spec.scaling.drain_time_seconds)
        return await self._work.look(pool.spec.queue, depth, drain_seconds=drain_seconds, now=now)

    def _known_waves(self, pool: WorkerPool, lead: float, now: float) -> tuple[KnownWave, ...]:
        """Waves of ImportSchedules, whose jobs all go to the default queue; times of the monotonic clock."""
        queue = self._state.queues.get(DEFAULT_QUEUE)
        hindered = queue is not None and (queue.intake.intake.stopped or queue.dispatch_paused)
        if pool.spec.queue != DEFAULT_QUEUE or hindered:
            # Runs wait while intake is stopped, and nobody would get their jobs while nothing is handed out.
            return ()
        wall = time.time()
        if now - self._waves_at >= WAVE_LOOK_SECONDS:
            self._waves_at = now
            starts = (start.timestamp() for start in self._state.scaling.next_starts.values())
            longest = max(
                (times.lead_seconds for times in self._state.scaling.start_times.values()), default=0.0
            )
            within = max(longest, lead, StartTimes().lead_seconds) + WAVE_LOOK_SECONDS
            self._waves = self._waves.after_look(starts, wall, within=within)
        jobs_per_worker = pool.spec.scaling.target_jobs_per_worker
        return self._waves.waves(jobs_per_worker=jobs_per_worker, offset=now - wall)


def wishes_of(pool: WorkerPool) -> PoolWishes:
    """The pool's wishes as the decision reads them."""
    scaling = pool.spec.scaling
    return PoolWishes(
        scaling=scaling_spec(pool),
        policy=scaling.policy,
        concurrency=pool.spec.concurrency,
        drain_seconds=float(scaling.drain_time_seconds),
        cpu_target_percent=scaling.cpu_target_percent,
    )


def scaling_spec(pool: WorkerPool) -> ScalingSpec:
    """The bounds, cooldowns and holds of a pool."""
    scaling = pool.spec.scaling
    return ScalingSpec(
        minimum=scaling.min_replicas,
        maximum=scaling.max_replicas,
        target_jobs_per_worker=scaling.target_jobs_per_worker,
        scale_out_cooldown=scaling.scale_out_cooldown_seconds,
        scale_in_cooldown=scaling.scale_in_cooldown_seconds,
        paused=pool.spec.paused,
        manual=pool.spec.replicas,
    )
