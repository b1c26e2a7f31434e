"""Keeps each WorkerPool's Deployment and its number of workers right: one loop for all pools."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import DEPLOYMENT, WORKER_POOL
from import_core.adapters.postgres.jobs import DEPTH_CAP, Depth, JobStore
from import_core.domain.dispatch import ReadyWorkers
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
from import_core.domain.resources.common import not_yet_enforced
from import_core.domain.resources.worker_pool import WorkerPool, parse_worker_pool
from import_core.domain.scaling import Observation, ScalingDecision, ScalingHistory, ScalingSpec, decide
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.deployments import (
    get_deployment_name,
    get_worker_deployment,
    is_current,
    is_owned_by,
)
from import_operator.loops.dispatch import Capacity
from import_operator.loops.runner import Loop
from import_operator.loops.tell import TellLoop
from import_operator.policies import QueuePolicy, queue_policies
from import_operator.pool_status import PoolObservation, get_pool_status
from import_operator.settings import OperatorSettings
from import_operator.state import Body, OperatorState, SeenDepth, generation_of, name_of, uid_of

log = get_logger(__name__)

INTERVAL_SECONDS = 0.25
STATUS_SECONDS = 1.0
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
    ) -> None:
        self._events = events
        self._state = state
        self._jobs = jobs
        self._kube = kube
        self._settings = settings
        self._pools: dict[str, _Pool] = {}

    def loop(self) -> Loop:
        """Runs by the clock: depth changes without telling."""
        return Loop("scale", self.round, interval=INTERVAL_SECONDS)

    def capacities(self) -> dict[str, Capacity]:
        """Jobs that the ready workers (or the minimum, where more) of each queue can take at once."""
        jobs: dict[str, int] = {DEFAULT_QUEUE: 0}
        for body in self._state.pools:
            remembered = self._remembered(body)
            pool = remembered.parsed
            if pool is None:
                continue
            seen = self._state.deployments.named(get_deployment_name(name_of(body))) or body
            wanted, status = seen.get("spec") or {}, seen.get("status") or {}
            remembered.ready = remembered.ready.after_look(
                ready=int(status.get("readyReplicas") or 0),
                replicas=int(wanted.get("replicas", status.get("replicas")) or 0),
                now=time.monotonic(),
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
        # The default queue takes jobs while no pool serves it, too.
        queues = sorted(
            {DEFAULT_QUEUE, *(pool.parsed.spec.queue for _, pool in pools if pool.parsed is not None)}
        )
        seen_at = time.monotonic()
        depths, failure = await self._measure(queues)
        for body, pool in pools:
            try:
                await self._serve(body, pool, depths, seen_at)
            except ImportOperatorError as error:
                failure = error
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
            metrics.QUEUE_DEPTH.labels(queue).set(depth.total)
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
            deployment = await self._deployment(body, parsed)
        except (ObjectRefusedError, ObjectForbiddenError, ObjectConflictError) as error:
            log.warning("deployment.refused", pool=name_of(body), message=error.message)
            pool.refusal = (type(error).__name__.removesuffix("Error"), error.message)
            pool.refused_until = seen_at + REFUSED_SECONDS
            return _Look(depth, None, None, pool.refusal)
        decision = await self._scale(pool, parsed, deployment, depth, seen_at)
        if decision.replicas != int((deployment.get("spec") or {}).get("replicas") or 0):
            self._events.tell(
                WORKER_POOL, body, reason="Scaled", action="Scale", note=pool.scaled_reason or ""
            )
        # Seen again: setting replicas has changed it.
        deployment = self._state.deployments.get(uid_of(deployment)) or deployment
        return _Look(depth, deployment, decision, None)

    async def _deployment(self, body: Body, pool: WorkerPool) -> Body:
        """The pool's Deployment as last seen, applied anew where it is missing or differs.

        Raises ObjectConflictError where another Deployment bears its name.
        """
        wanted = get_worker_deployment(body, pool, self._settings)
        name = wanted["metadata"]["name"]
        seen = self._state.deployments.named(name)
        if seen is not None and is_owned_by(seen, uid_of(body)) and is_current(seen, wanted):
            return seen
        if seen is not None and not is_owned_by(seen, uid_of(body)):
            raise ObjectConflictError(f"A Deployment {name} exists that does not belong to this WorkerPool")
        applied = await self._kube.apply(DEPLOYMENT, self._state.namespace, wanted)
        self._state.deployments.put(applied)
        log.info("deployment.applied", pool=name_of(body), name=name)
        return applied

    async def _scale(
        self, pool: _Pool, parsed: WorkerPool, deployment: Body, depth: Depth | None, seen_at: float
    ) -> ScalingDecision:
        current = int((deployment.get("spec") or {}).get("replicas") or 0)
        observation = Observation(current, depth.total if depth else None, depth.claimed if depth else None)
        decision = decide(observation, scaling_spec(parsed), pool.history, seen_at)
        pool.history = decision.history
        if decision.need != pool.need:
            pool.need, pool.need_seen_at = decision.need, seen_at
        metrics.WORKERS_DESIRED.labels(parsed.metadata.name).set(decision.desired)
        if decision.replicas != current:
            await self._set_replicas(pool, parsed, deployment, decision, current)
        return decision

    async def _set_replicas(
        self, pool: _Pool, parsed: WorkerPool, deployment: Body, decision: ScalingDecision, current: int
    ) -> None:
        name = name_of(deployment)
        try:
            version = await self._kube.scale(DEPLOYMENT, self._state.namespace, name, decision.replicas)
        except ObjectNotFoundError:
            self._state.deployments.remove(uid_of(deployment))
            return
        now = time.monotonic()
        metrics.SCALING_REACTION.observe(now - pool.need_seen_at)
        direction = "out" if decision.replicas > current else "in"
        metrics.SCALINGS.labels(parsed.metadata.name, direction).inc()
        if direction == "out" and decision.need is not None:
            pool.history = pool.history.scaled_out(decision.need, now)
        pool.scaled_at = datetime.now(UTC)
        pool.scaled_reason = f"{decision.reason.value}: {current} to {decision.replicas}"
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
        unenforced = (
            tuple(f"spec.{path}" for path in not_yet_enforced(pool.parsed.spec)) if pool.parsed else ()
        )
        seen = PoolObservation(
            generation=pool.generation,
            decision=look.decision,
            depth=look.depth,
            deployment=look.deployment,
            scaled_at=pool.scaled_at,
            scaled_reason=pool.scaled_reason,
            unenforced=unenforced,
            queue=self._state.queues.get(pool.parsed.spec.queue) if pool.parsed else None,
            problem=look.problem,
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


def scaling_spec(pool: WorkerPool) -> ScalingSpec:
    """The pool's wishes as the decision reads them."""
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
