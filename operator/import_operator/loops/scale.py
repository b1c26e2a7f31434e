"""Keeps each WorkerPool's Deployment and its number of workers right: one loop for all pools."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import DEPLOYMENT, WORKER_POOL
from import_core.adapters.postgres.jobs import DEPTH_CAP, Depth, JobStore
from import_core.domain.dispatch import ReadyWorkers
from import_core.domain.draining import BusyScaleIn
from import_core.domain.errors import (
    DatabaseUnavailableError,
    ImportOperatorError,
    InvalidResourceError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.resources.worker_pool import WorkerPool, parse_worker_pool
from import_core.domain.scaling import ScalingDecision, ScalingHistory, held_for_drains
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.deployments import replicas_of
from import_operator.draining import Drains
from import_operator.loops.dispatch import Capacity
from import_operator.loops.runner import Loop
from import_operator.loops.tell import TellLoop
from import_operator.policies import QueuePolicy, queue_policies
from import_operator.pool_status import PoolObservation, get_pool_status
from import_operator.scaling_policy import PoolDecisions
from import_operator.settings import OperatorSettings
from import_operator.state import Body, OperatorState, SeenDepth, generation_of, name_of, uid_of
from import_operator.versions import Versions

log = get_logger(__name__)

INTERVAL_SECONDS = 0.25
PAUSE_SECONDS = 0.05
STATUS_SECONDS = 1.0
SERVED_AT_ONCE = 25
"""Pools that the API server is asked for at the same time: all numbers are set before the first status is."""
REFUSED_SECONDS = 10.0
"""A Deployment that the API server refuses is not sent again at once."""


@dataclass
class _Pool:
    """What the loop remembers of one pool."""

    generation: int
    parsed: WorkerPool | None
    problem: tuple[str, str] | None
    history: ScalingHistory = field(default_factory=ScalingHistory)
    need: int | None = None
    need_seen_at: float = 0.0
    scaled_at: datetime | None = None
    scaled_reason: str | None = None
    status_patched_at: float = 0.0
    ready: ReadyWorkers = field(default_factory=ReadyWorkers)
    refusal: tuple[str, str] | None = None
    refused_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at a pool has found."""

    depth: Depth | None
    deployment: Body | None
    decision: ScalingDecision | None
    problem: tuple[str, str] | None


class ScaleLoop:
    """Measures all queues by one statement, decides for each pool, and acts where something differs."""

    def __init__(
        self,
        state: OperatorState,
        jobs: JobStore,
        kube: KubeClient,
        events: TellLoop,
        *,
        settings: OperatorSettings,
        drains: Drains,
        decisions: PoolDecisions | None = None,
        versions: Versions | None = None,
    ) -> None:
        self._drains = drains
        self._decisions = decisions or PoolDecisions(state)
        self._versions = versions or Versions(state, kube, settings)
        self._events = events
        self._state = state
        self._jobs = jobs
        self._kube = kube
        self._pools: dict[str, _Pool] = {}

    def loop(self) -> Loop:
        """Runs by the clock, as depth changes without telling, and when a worker has drained."""
        return Loop(
            "scale",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.scaling.drains_changed,
            pause=PAUSE_SECONDS,
        )

    def capacities(self) -> dict[str, Capacity]:
        """Jobs that the ready workers (or the minimum, where more) of each queue can take at once."""
        jobs: dict[str, int] = {DEFAULT_QUEUE: 0}
        for body in self._state.pools:
            remembered = self._remembered(body)
            pool = remembered.parsed
            if pool is None:
                continue
            ready, replicas = 0, 0
            for seen in self._versions.all_of(body) or [body]:
                wanted, status = seen.get("spec") or {}, seen.get("status") or {}
                ready += int(status.get("readyReplicas") or 0)
                replicas += int(wanted.get("replicas", status.get("replicas")) or 0)
            remembered.ready = remembered.ready.after_look(
                ready=ready, replicas=replicas, now=time.monotonic()
            )
            ready = remembered.ready.count
            workers = max(ready, pool.spec.scaling.min_replicas if pool.spec.replicas is None else 0)
            jobs[pool.spec.queue] = jobs.get(pool.spec.queue, 0) + workers * pool.spec.concurrency
        policies = self.policies()
        return {queue: Capacity(count, policies[queue].start_limit) for queue, count in jobs.items()}

    def policies(self) -> Mapping[str, QueuePolicy]:
        """What the pools wish of their queues."""
        parsed = (self._remembered(body).parsed for body in self._state.pools)
        return queue_policies(pool for pool in parsed if pool is not None)

    async def round(self) -> None:
        """Look at every pool; a pool that fails does not keep the others from their turn."""
        self._state.scale_wanted.clear()
        bodies = list(self._state.pools)
        live = {uid_of(body) for body in bodies}
        self._pools = {uid: pool for uid, pool in self._pools.items() if uid in live}
        pools = [(body, self._remembered(body)) for body in bodies]
        self._decisions.keep(pool.parsed for _, pool in pools if pool.parsed is not None)
        # The default queue takes jobs while no pool serves it, too.
        queues = sorted(
            {DEFAULT_QUEUE, *(pool.parsed.spec.queue for _, pool in pools if pool.parsed is not None)}
        )
        seen_at = time.monotonic()
        depths, failure = await self._measure(queues)
        if failure is None:
            await self._decisions.look(queues, seen_at)
        for start in range(0, len(pools), SERVED_AT_ONCE):
            served = await asyncio.gather(
                *(
                    self._serve(body, pool, depths, seen_at)
                    for body, pool in pools[start : start + SERVED_AT_ONCE]
                ),
                return_exceptions=True,
            )
            for error in served:
                if isinstance(error, ImportOperatorError):
                    failure = error
                elif error is not None:
                    raise error
        if failure is not None:
            raise failure

    def _remembered(self, body: Body) -> _Pool:
        known = self._pools.get(uid_of(body))
        if known is None or known.generation != generation_of(body):
            parsed, problem = None, None
            try:
                parsed = parse_worker_pool(body)
            except InvalidResourceError as error:
                problem = ("InvalidSpec", str(error))
            if known is None:
                known = _Pool(generation_of(body), parsed, problem)
                self._pools[uid_of(body)] = known
            known.generation, known.parsed, known.problem = generation_of(body), parsed, problem
            known.refused_until = 0.0
        return known

    async def _measure(self, queues: list[str]) -> tuple[Mapping[str, Depth], ImportOperatorError | None]:
        """Depths by queue; empty where they could not be measured, which is never read as zero."""
        seen_at = datetime.now(UTC)
        overload = max(policy.thresholds.overload_above for policy in self.policies().values())
        try:
            depths = await self._jobs.depth(queues, cap=max(DEPTH_CAP, overload + 1))
        except DatabaseUnavailableError as error:
            return {}, error
        for queue, depth in depths.items():
            metrics.QUEUE_DEPTH.labels(metrics.queue_label(queue)).set(depth.total)
            self._state.depths[queue] = SeenDepth(depth.due, depth.claimed, seen_at)
        return depths, None

    async def _serve(self, body: Body, pool: _Pool, depths: Mapping[str, Depth], seen_at: float) -> None:
        look = _Look(None, None, None, pool.problem)
        if pool.parsed is not None:
            look = await self._look(body, pool, pool.parsed, depths, seen_at)
        await self._patch_status(body, pool, look)

    async def _look(
        self, body: Body, pool: _Pool, parsed: WorkerPool, depths: Mapping[str, Depth], seen_at: float
    ) -> _Look:
        depth = depths.get(parsed.spec.queue)
        if seen_at < pool.refused_until:
            return _Look(depth, None, None, pool.refusal)
        try:
            stable = await self._versions.stable(body, parsed)
        except (ObjectRefusedError, ObjectForbiddenError, ObjectConflictError) as error:
            log.warning("deployment.refused", pool=name_of(body), message=error.message)
            pool.refusal = (type(error).__name__.removesuffix("Error"), error.message)
            pool.refused_until = seen_at + REFUSED_SECONDS
            return _Look(depth, None, None, pool.refusal)
        deployment = self._versions.together(body, parsed, stable)
        decision = await self._scale(pool, parsed, deployment, depth, seen_at)
        if decision.replicas != (current := replicas_of(deployment)):
            note = scaled_note(name_of(body), decision, current)
            self._events.tell(WORKER_POOL, body, reason="Scaled", action="Scale", note=note)
        # Seen again: setting replicas has changed it.
        stable = self._state.deployments.get(uid_of(stable)) or stable
        return _Look(depth, self._versions.together(body, parsed, stable), decision, None)

    async def _scale(
        self, pool: _Pool, parsed: WorkerPool, deployment: Body, depth: Depth | None, seen_at: float
    ) -> ScalingDecision:
        current = replicas_of(deployment)
        made = await self._decisions.decide(parsed, deployment, depth, pool.history, seen_at)
        decision = made.decision
        pool.history = decision.history
        if decision.need != pool.need:
            pool.need, pool.need_seen_at = decision.need, seen_at
        metrics.WORKERS_DESIRED.labels(metrics.pool_label(parsed.metadata.name)).set(decision.desired)
        if self._versions.divides(parsed.metadata.uid):
            metrics.WORKERS_LEAVING.labels(metrics.pool_label(parsed.metadata.name)).set(math.nan)
        elif depth is not None or decision.replicas < current:
            # What is known of all versions together says nothing of the one's pods.
            stable = self._state.deployments.get(uid_of(deployment)) or deployment
            decision = await self._drain(parsed, stable, decision, current)
        if decision.replicas != current:
            await self._set_replicas(pool, parsed, deployment, decision, current)
        self._decisions.note(parsed.metadata.name, current, decision.replicas, made)
        return decision

    async def _drain(
        self, parsed: WorkerPool, deployment: Body, decision: ScalingDecision, current: int
    ) -> ScalingDecision:
        """Lower the number only by workers that have drained, and take back those that are needed again."""
        settled = await self._drains.settle(
            deployment, desired=decision.replicas, busy=busy_scale_in(parsed, current)
        )
        metrics.WORKERS_LEAVING.labels(metrics.pool_label(parsed.metadata.name)).set(settled.leaving)
        return held_for_drains(decision, current, replicas=settled.replicas, leaving=settled.leaving)

    async def _set_replicas(
        self, pool: _Pool, parsed: WorkerPool, deployment: Body, decision: ScalingDecision, current: int
    ) -> None:
        version = None
        if not self._versions.want(parsed.metadata.uid, decision.replicas):
            name = name_of(deployment)
            # Fewer workers by what was seen of the Deployment, or not now.
            seen = deployment["metadata"]["resourceVersion"] if decision.replicas < current else None
            try:
                version = await self._kube.scale(
                    DEPLOYMENT, self._state.namespace, name, decision.replicas, resource_version=seen
                )
            except ObjectNotFoundError:
                self._state.deployments.remove(uid_of(deployment))
                return
            except ObjectConflictError:
                log.info("pool.scaling_again", pool=parsed.metadata.name)
                return
        now = time.monotonic()
        metrics.SCALING_REACTION.observe(now - pool.need_seen_at)
        direction = "out" if decision.replicas > current else "in"
        metrics.SCALINGS.labels(metrics.pool_label(parsed.metadata.name), direction).inc()
        if direction == "out" and decision.need is not None:
            pool.history = pool.history.scaled_out(decision.need, now)
        pool.scaled_at = datetime.now(UTC)
        pool.scaled_reason = f"{decision.reason.value}: {current} to {decision.replicas}"
        if version is not None:
            self._state.deployments.put_replicas(uid_of(deployment), decision.replicas, version)
        log.info(
            "pool.scaled",
            pool=parsed.metadata.name,
            replicas=decision.replicas,
            before=current,
            reason=decision.reason.value,
            need=decision.need,
        )

    async def _patch_status(self, body: Body, pool: _Pool, look: _Look) -> None:
        now = time.monotonic()
        if now - pool.status_patched_at < STATUS_SECONDS:
            return
        seen = PoolObservation(
            generation=pool.generation,
            decision=look.decision,
            depth=look.depth,
            deployment=look.deployment,
            scaled_at=pool.scaled_at,
            scaled_reason=pool.scaled_reason,
            queue=self._state.queues.get(pool.parsed.spec.queue) if pool.parsed else None,
            problem=look.problem,
            scaled_from=self._decisions.scaled_from(name_of(body)),
            depth_note=self._decisions.depth_note(name_of(body)),
            rollout=self._versions.of(body, pool.parsed).state if pool.parsed else None,
        )
        current = self._state.pools.get(uid_of(body)) or body
        patch = get_pool_status(current, seen, datetime.now(UTC))
        if patch is None:
            return
        pool.status_patched_at = now
        try:
            answer = await self._kube.patch_status(
                WORKER_POOL,
                self._state.namespace,
                name_of(body),
                patch,
                resource_version=current["metadata"]["resourceVersion"],
            )
        except (ObjectConflictError, ObjectNotFoundError):
            # Changed or gone meanwhile: the next look has the newer version.
            metrics.STATUS_PATCHES.labels("WorkerPool", "conflict").inc()
        else:
            metrics.STATUS_PATCHES.labels("WorkerPool", "written").inc()
            self._state.pools.put(answer)


def busy_scale_in(pool: WorkerPool, current: int) -> BusyScaleIn:
    """What a scale-in does where no worker is idle; a person's word, by hand or bound, does not wait for it."""
    if pool.spec.replicas is not None or current > pool.spec.scaling.max_replicas:
        return BusyScaleIn.DRAIN_LEAST_WORK
    return pool.spec.scaling.scale_in_busy


def scaled_note(pool: str, decision: ScalingDecision, current: int) -> str:
    """What the Event of a change says: without numbers, so that all changes of a cause are one Event with a count."""
    direction = "out" if decision.replicas > current else "in"
    return f"{decision.reason.value}: scaled {direction}; `kubectl imports explain-scaling {pool}` has the numbers"
