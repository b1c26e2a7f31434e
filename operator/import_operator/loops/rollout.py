"""Rolls a changed template of a WorkerPool out: a second Deployment, step by step, and back where it fails."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import DEPLOYMENT, WORKER_POOL
from import_core.adapters.postgres.run_ends import RunEnds, RunEndStore
from import_core.domain.draining import BusyScaleIn
from import_core.domain.errors import (
    DatabaseUnavailableError,
    ImportOperatorError,
    InvalidResourceError,
    ObjectConflictError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from import_core.domain.resources.worker_pool import WorkerPool, parse_worker_pool
from import_core.domain.rollout import (
    ROLLED_BACK,
    RolloutDecision,
    RolloutFacts,
    RolloutReason,
    RolloutState,
    Version,
    decide,
)
from import_core.domain.rollout_status import rollout_spec, state_of, status_of, wishes_of
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.deployments import HASH_LABEL, get_version_name, replicas_of
from import_operator.draining import Drains, pods_of
from import_operator.loops.runner import Loop
from import_operator.loops.tell import TellLoop
from import_operator.settings import OperatorSettings
from import_operator.state import Body, OperatorState, generation_of, name_of, uid_of
from import_operator.versions import PoolVersions, Versions
from import_operator.worker_pods import pods_of_version

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
PAUSE_SECONDS = 0.1
NUMBERS_SECONDS = 2.0
"""The new version's numbers are shown no more often; a change of what the rollout does is shown at once."""
PRUNE_SECONDS = 60.0
DRAIN_SECONDS = 1800.0
"""An old worker that has not drained after so long is stopped: one from before the handshake never does."""
_LAST_WORDS = {
    RolloutReason.STARTED: "A new template is rolled out",
    RolloutReason.STEPPED: "The next step begins",
    RolloutReason.PROMOTED: "All workers get the new template at once, by a person's word",
    RolloutReason.COMPLETED: "All workers run the new template",
    RolloutReason.SUPERSEDED: "The template changed again: this rollout ends",
}


@dataclass
class _Pool:
    """What the loop remembers of one pool beside its versions."""

    generation: int
    parsed: WorkerPool | None
    numbers_at: float = 0.0
    refused: tuple[str, str] | None = None
    """A version whose Deployment the API server refuses, and why."""


class RolloutLoop:
    """One look at every pool; a pool whose template is everywhere costs nothing but the look."""

    def __init__(
        self,
        state: OperatorState,
        versions: Versions,
        ends: RunEndStore,
        kube: KubeClient,
        events: TellLoop,
        *,
        settings: OperatorSettings,
        drains: Drains,
    ) -> None:
        self._drains = drains
        self._draining_since: dict[str, float] = {}
        self._state = state
        self._versions = versions
        self._ends = ends
        self._kube = kube
        self._events = events
        self._settings = settings
        self._pools: dict[str, _Pool] = {}
        self._pruned_at = 0.0

    def loop(self) -> Loop:
        """Pauses end by the clock; changes of pools and Deployments wake it."""
        return Loop(
            "rollout",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.rollout_wanted,
            pause=PAUSE_SECONDS,
        )

    async def round(self) -> None:
        """Look at every pool; one that fails does not keep the others from their turn."""
        bodies = list(self._state.pools)
        live = {uid_of(body) for body in bodies}
        self._pools = {uid: pool for uid, pool in self._pools.items() if uid in live}
        known, since = self._state.deployments, self._draining_since
        self._draining_since = {uid: at for uid, at in since.items() if known.get(uid)}
        self._versions.forget_but(live)
        failure: ImportOperatorError | None = None
        for listed in bodies:
            # The scaling loop writes statuses, too: the newest is what a patch has to fit.
            body = self._state.pools.get(uid_of(listed)) or listed
            remembered = self._remembered(body)
            if remembered.parsed is None:
                continue
            try:
                await self._serve(body, remembered, remembered.parsed)
            except ImportOperatorError as error:
                failure = error
        await self._prune()
        if failure is not None:
            raise failure

    def _remembered(self, body: Body) -> _Pool:
        known = self._pools.get(uid_of(body))
        if known is None or known.generation != generation_of(body):
            try:
                parsed = parse_worker_pool(body)
            except InvalidResourceError:
                # The scaling loop says so in the status.
                parsed = None
            known = _Pool(generation_of(body), parsed)
            self._pools[uid_of(body)] = known
        return known

    async def _prune(self) -> None:
        now = time.monotonic()
        if now - self._pruned_at >= PRUNE_SECONDS and not await self._ends.prune():
            self._pruned_at = now

    async def _serve(self, body: Body, remembered: _Pool, pool: WorkerPool) -> None:
        known = self._versions.of(body, pool)
        stable = self._state.deployments.named(known.state.deployment)
        if stable is None:
            # The scaling loop makes it.
            return
        facts, failure = await self._facts(body, remembered, known, stable)
        spec = rollout_spec(pool.spec.rollout, ready_seconds=self._settings.rollout_ready_seconds)
        decision = decide(known.state, spec, facts, datetime.now(UTC))
        if not await self._keep(body, remembered, pool, decision, facts):
            return
        await self._act(body, remembered, pool, decision)
        await self._clean_up(body, known)
        if failure is not None:
            raise failure

    async def _facts(
        self, body: Body, remembered: _Pool, known: PoolVersions, stable: Body
    ) -> tuple[RolloutFacts, ImportOperatorError | None]:
        state, name = known.state, name_of(body)
        template = known.current
        replicas, ready = _numbers(stable)
        total = replicas if known.workers is None else known.workers
        canary_name = get_version_name(name, state.canary or template)
        facts = RolloutFacts(template, canary_name, total, wishes=wishes_of(body))
        if state.canary is None:
            return facts, None
        ends: dict[str, RunEnds] = {}
        failure: ImportOperatorError | None = None
        try:
            ends = await self._ends.count({state.stable: None, state.canary: state.started_at})
        except DatabaseUnavailableError as error:
            failure = error
        old, new = ends.get(state.stable, RunEnds()), ends.get(state.canary, RunEnds())
        since, pods = state.started_at or datetime.now(UTC), self._state.scaling.pods
        canary = self._state.deployments.named(canary_name)
        canary_replicas, canary_ready = _numbers(canary) if canary is not None else (0, 0)
        refused = remembered.refused
        return RolloutFacts(
            template,
            canary_name,
            total,
            stable=Version(
                replicas,
                ready,
                pods_of_version(pods, state.stable).restarted_since(since),
                old.succeeded,
                old.failed,
            ),
            canary=Version(
                canary_replicas,
                canary_ready,
                pods_of_version(pods, state.canary).restarts,
                new.succeeded,
                new.failed,
            ),
            jobs_known=failure is None,
            refused=refused[1] if refused is not None and refused[0] == state.canary else None,
            wishes=wishes_of(body),
        ), failure

    async def _keep(
        self, body: Body, remembered: _Pool, pool: WorkerPool, decision: RolloutDecision, facts: RolloutFacts
    ) -> bool:
        """Have the pool's status keep what was decided before anything is done; False: not now."""
        known = self._versions.of(body, pool)
        before, after = known.state, decision.state
        workers = known.workers
        if after.canary is not None or before.canary is not None:
            workers = facts.total
        wanted = status_of(after, workers=workers, canary=facts.canary if after.canary is not None else None)
        shown = (body.get("status") or {}).get("rollout") or {}
        if shown == {key: value for key, value in wanted.items() if value is not None}:
            self._remember(known, after, workers)
            return True
        is_new = before != after or state_of(body) != after
        now = time.monotonic()
        if not is_new and workers == shown.get("workers") and now - remembered.numbers_at < NUMBERS_SECONDS:
            return True
        if is_new and facts.template in {after.stable, after.canary}:
            await self._versions.keep_template(body, pool)
        if not await self._patch(body, wanted):
            return False
        remembered.numbers_at = now
        self._remember(known, after, workers)
        if RolloutReason.STARTED in decision.happened:
            # A new attempt: the API server is asked again.
            remembered.refused = None
        self._tell(body, before, decision)
        return True

    @staticmethod
    def _remember(known: PoolVersions, state: RolloutState, workers: int | None) -> None:
        known.state = state
        if known.workers is None:
            # Else scaling may have asked for another number meanwhile.
            known.workers = workers

    async def _patch(self, body: Body, wanted: dict[str, object]) -> bool:
        try:
            answer = await self._kube.patch_status(
                WORKER_POOL,
                self._state.namespace,
                name_of(body),
                {"rollout": wanted},
                resource_version=body["metadata"]["resourceVersion"],
            )
        except (ObjectConflictError, ObjectNotFoundError):
            # Changed or gone meanwhile: the next look has the newer version.
            metrics.STATUS_PATCHES.labels("WorkerPool", "conflict").inc()
            self._state.rollout_wanted.set()
            return False
        metrics.STATUS_PATCHES.labels("WorkerPool", "written").inc()
        self._state.pools.put(answer)
        return True

    def _tell(self, body: Body, before: RolloutState, decision: RolloutDecision) -> None:
        after, name = decision.state, name_of(body)
        pool = metrics.pool_label(name)
        for reason in ROLLED_BACK:
            # Known before it rises, or its first rise is no increase to Prometheus.
            metrics.ROLLOUTS.labels(pool, reason.value)
        metrics.ROLLOUT_UNDER_WAY.labels(pool).set(0 if after.canary is None else 1)
        for reason in decision.happened:
            back = reason in ROLLED_BACK
            version = before.canary if after.canary is None else after.canary
            note = after.message if back else f"{_LAST_WORDS[reason]} ({version})"
            if back or reason in {RolloutReason.COMPLETED, RolloutReason.SUPERSEDED}:
                metrics.ROLLOUTS.labels(pool, reason.value).inc()
            log.info(
                "rollout.changed",
                pool=name,
                version=version,
                reason=reason.value,
                step=after.step,
                message=after.message,
            )
            word = "RolledBack" if back else f"Rollout{reason.value}"
            self._events.tell(WORKER_POOL, body, reason=word, action="RollOut", note=note, warning=back)

    async def _act(self, body: Body, remembered: _Pool, pool: WorkerPool, decision: RolloutDecision) -> None:
        known = self._versions.of(body, pool)
        state = known.state
        if known.workers is None:
            return
        if state.canary is None:
            # What ended: the stable version gets all workers, then scaling has them to itself again.
            if await self._scale(state.deployment, known.workers):
                await self._hand_over(body, pool)
            return
        name = get_version_name(name_of(body), state.canary)
        try:
            await self._versions.apply(body, pool, state.canary, name)
        except (ObjectRefusedError, ObjectConflictError) as error:
            remembered.refused = state.canary, error.message
            self._state.rollout_wanted.set()
            return
        await self._scale(name, decision.canary_replicas)
        await self._scale(state.deployment, decision.stable_replicas)

    async def _hand_over(self, body: Body, pool: WorkerPool) -> None:
        known = self._versions.of(body, pool)
        body = self._state.pools.get(uid_of(body)) or body
        if await self._patch(body, status_of(known.state, workers=None, canary=None)):
            known.workers = None

    async def _scale(
        self, name: str, replicas: int, *, at_once: bool = False, most_seconds: float = math.inf
    ) -> bool:
        """Ask for a number of workers of one version; whether that is what it has now.

        Fewer only by workers that have drained, unless `at_once`, or they take longer than `most_seconds`: then
        they finish for their grace time, and hand the rest back with its checkpoints.
        """
        seen = self._state.deployments.named(name)
        if seen is None:
            return False
        current = replicas_of(seen)
        target = replicas if at_once else await self._settled(seen, replicas, most_seconds)
        if target == current:
            return target == replicas
        try:
            version = await self._kube.scale(
                DEPLOYMENT,
                self._state.namespace,
                name,
                target,
                resource_version=seen["metadata"]["resourceVersion"] if target < current else None,
            )
        except ObjectNotFoundError:
            self._state.deployments.remove(uid_of(seen))
            return False
        except ObjectConflictError:
            self._state.rollout_wanted.set()
            return False
        self._state.deployments.put_replicas(uid_of(seen), target, version)
        log.info("version.scaled", deployment=name, replicas=target, before=current)
        return target == replicas

    async def _settled(self, deployment: Body, replicas: int, most_seconds: float) -> int:
        """The number that a Deployment may have now; workers that are needed again are taken back."""
        uid, now = uid_of(deployment), time.monotonic()
        if replicas >= replicas_of(deployment):
            self._draining_since.pop(uid, None)
        elif now - self._draining_since.setdefault(uid, now) >= most_seconds:
            return replicas
        settled = await self._drains.settle(deployment, desired=replicas, busy=BusyScaleIn.DRAIN_LEAST_WORK)
        return settled.replicas

    async def _clean_up(self, body: Body, known: PoolVersions) -> None:
        """Drain Deployments of versions that nobody wants, and delete those that are empty."""
        if state_of(body) is None:
            return
        wanted = {known.state.deployment}
        if known.state.canary is not None:
            wanted.add(get_version_name(name_of(body), known.state.canary))
        for seen in self._versions.all_of(body):
            name = name_of(seen)
            if name in wanted:
                continue
            version = (seen["metadata"].get("labels") or {}).get(HASH_LABEL, "")
            # A bad version gets no time to finish.
            bad = known.state.rolled_back
            at_once = bad is not None and name == get_version_name(name_of(body), bad)
            if not await self._scale(name, 0, at_once=at_once, most_seconds=DRAIN_SECONDS):
                continue
            if not _is_empty(self._state.deployments.named(name)) or pods_of(seen, self._state.scaling.pods):
                continue
            try:
                await self._kube.delete(DEPLOYMENT, self._state.namespace, name, uid=uid_of(seen))
            except (ObjectNotFoundError, ObjectConflictError):
                log.info("deployment.gone", name=name)
            self._state.deployments.remove(uid_of(seen))
            if version and version not in {known.state.stable, known.state.canary}:
                await self._versions.drop_template(get_version_name(name_of(body), version))
            log.info("deployment.deleted", pool=name_of(body), name=name, version=version)


def _numbers(deployment: Body) -> tuple[int, int]:
    """Replicas asked for, and those that are ready."""
    status = deployment.get("status") or {}
    return replicas_of(deployment), int(status.get("readyReplicas") or 0)


def _is_empty(deployment: Body | None) -> bool:
    """Whether a Deployment without replicas has been seen to have no pods."""
    if deployment is None:
        return False
    status = deployment.get("status") or {}
    seen = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    return seen and not int(status.get("replicas") or 0)
