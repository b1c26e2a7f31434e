"""Lets the workers go that the drain handshake has emptied, and keeps others from stopping busy ones.

For one Deployment: `settle` brings the number of its workers down to what is desired, as fast as workers drain,
and takes workers back when more are needed again. Everything is read and written anew at each call, so an operator
that dies in between is followed by the next one where it stood.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import POD
from import_core.adapters.postgres.draining import DrainStore, RosterEntry
from import_core.domain.draining import (
    BUSY_MARKS,
    DELETION_COST,
    DO_NOT_DISRUPT,
    LEAVING_MARKS,
    NO_MARKS,
    BusyScaleIn,
    DrainPlan,
    Marks,
    Member,
    Standing,
    plan_drains,
    wanted_marks,
)
from import_core.domain.errors import (
    ImportOperatorError,
    ObjectConflictError,
    ObjectNotFoundError,
)
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.deployments import replicas_of
from import_operator.state import Body, OperatorState, name_of, uid_of

log = get_logger(__name__)

PATCHES_AT_ONCE = 10
"""Pods whose annotations are patched in one round, at most."""
LOOK_AGAIN_SECONDS = 30.0
"""A Deployment that no worker leaves is looked at again after so long: another operator may have asked some."""
POD_TEMPLATE_LABEL = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a call: the number to ask for now, and how many workers leave."""

    replicas: int
    leaving: int = 0


class Drains:
    """The operator's side of the handshake."""

    def __init__(self, state: OperatorState, store: DrainStore, kube: KubeClient) -> None:
        self._state = state
        self._store = store
        self._kube = kube
        # Marks are set by what was just read: two readers at a time could overwrite each other's.
        self._lock = asyncio.Lock()
        self._quiet_until: dict[str, float] = {}
        self._busy_at: dict[str, float] = {}

    async def settle(self, deployment: Body, *, desired: int, busy: BusyScaleIn) -> Settled:
        """One step towards `desired` workers; the caller sets the number that comes back, at the Deployment's
        resourceVersion, and calls again.

        More workers are never held up: what fails is logged, and done by a later call.
        """
        replicas = replicas_of(deployment)
        if desired >= replicas and time.monotonic() < self._quiet_until.get(uid_of(deployment), 0.0):
            return Settled(desired)
        try:
            async with self._lock:
                return await self._settle(deployment, replicas, desired, busy)
        except ImportOperatorError as error:
            log.warning("drain.not_settled", deployment=name_of(deployment), message=error.message)
            metrics.DRAIN_ERRORS.labels(type(error).__name__).inc()
            return Settled(max(replicas, desired))

    async def _settle(self, deployment: Body, replicas: int, desired: int, busy: BusyScaleIn) -> Settled:
        pods = {uid_of(pod): pod for pod in pods_of(deployment, self._state.scaling.pods)}
        roster = await self._store.roster(list(pods))
        members = [member_of(pod, roster[uid]) for uid, pod in pods.items()]
        working = all(member.standing is Standing.WORKING for member in members)
        settled = desired >= replicas and working and is_all_seen(deployment, pods)
        self._quiet_until[uid_of(deployment)] = time.monotonic() + LOOK_AGAIN_SECONDS if settled else 0.0
        if desired < replicas and (not is_all_seen(deployment, pods) or is_mixed(pods.values())):
            # A worker that is not seen yet may be idle; of two templates' workers nobody knows which go.
            return Settled(replicas)
        plan = plan_drains(
            members,
            replicas=replicas,
            desired=desired,
            missing=missing_of(deployment, len(pods)),
            busy=busy,
        )
        return await self._carry_out(plan, pods)

    async def _carry_out(self, plan: DrainPlan, pods: Mapping[str, Body]) -> Settled:
        """Marks go before workers come back, and are seen before the number is lowered."""
        if plan.take_back:
            marked = [uid for uid in plan.take_back if marks_of(pods[uid]) == LEAVING_MARKS]
            later = marked[PATCHES_AT_ONCE:]
            await self._mark([(pods[uid], NO_MARKS) for uid in marked[:PATCHES_AT_ONCE]])
            back = await self._store.take_back([uid for uid in plan.take_back if uid not in later])
            log.info("workers.taken_back", pods=[name_of(pods[uid]) for uid in back])
        if plan.ask:
            asked = await self._store.ask(self._state.namespace, plan.ask)
            log.info("workers.asked_to_drain", pods=[name_of(pods[uid]) for uid in asked])
        await self._mark([(pods[uid], LEAVING_MARKS) for uid in plan.mark[:PATCHES_AT_ONCE]])
        gone = await self._store.let_go(plan.going) if plan.going else []
        if gone:
            log.info("workers.let_go", pods=[name_of(pods[uid]) for uid in gone])
        return Settled(plan.replicas + len(plan.going) - len(gone), plan.leaving)

    async def protect(self) -> None:
        """Bring the marks of all workers' pods up to date, a bounded number of them at a time."""
        async with self._lock:
            pods = {uid_of(pod): pod for pod in self._state.scaling.pods if is_active(pod)}
            roster = await self._store.roster(list(pods))
            now = time.monotonic()
            self._busy_at = {uid: self._busy_at.get(uid, now) for uid in pods}
            known = self._state.deployments
            self._quiet_until = {uid: at for uid, at in self._quiet_until.items() if known.get(uid)}
            changes = []
            for uid, pod in pods.items():
                member, seen = member_of(pod, roster[uid]), marks_of(pod)
                if member.jobs:
                    self._busy_at[uid] = now
                wanted = wanted_marks(member, seen, idle_seconds=now - self._busy_at[uid])
                if wanted != seen:
                    changes.append((pod, wanted))
            changes.sort(key=lambda change: change[1] != BUSY_MARKS)
            await self._mark(changes[:PATCHES_AT_ONCE])

    async def _mark(self, changes: Sequence[tuple[Body, Marks]]) -> None:
        """Patch pods' annotations; the watch tells when they are there. One that is gone needs none."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._mark_one(pod, marks)) for pod, marks in changes]
        failures = [error for error in (task.result() for task in tasks) if error is not None]
        if failures:
            raise failures[0]

    async def _mark_one(self, pod: Body, marks: Marks) -> ImportOperatorError | None:
        result = "written"
        failure: ImportOperatorError | None = None
        try:
            await self._kube.annotate(
                POD, self._state.namespace, name_of(pod), marks.to_annotations(), uid=uid_of(pod)
            )
        except (ObjectNotFoundError, ObjectConflictError):
            result = "gone"
        except ImportOperatorError as error:
            result, failure = "failed", error
        metrics.POD_MARKS.labels(result).inc()
        return failure


def pods_of(deployment: Body, pods: Iterable[Body]) -> list[Body]:
    """Pods of a Deployment's ReplicaSets that have not been told to stop."""
    selector = ((deployment.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    found = []
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        owner = f"{name_of(deployment)}-{labels.get(POD_TEMPLATE_LABEL)}"
        owners = {item.get("name") for item in pod["metadata"].get("ownerReferences") or []}
        if is_active(pod) and owner in owners and selector.items() <= labels.items():
            found.append(pod)
    return found


def is_active(pod: Body) -> bool:
    """Whether a ReplicaSet counts it."""
    phase = (pod.get("status") or {}).get("phase")
    return "deletionTimestamp" not in pod["metadata"] and phase not in ("Succeeded", "Failed")


def is_mixed(pods: Iterable[Body]) -> bool:
    """Whether the pods are of several templates."""
    return len({(pod["metadata"].get("labels") or {}).get(POD_TEMPLATE_LABEL) for pod in pods}) > 1


def is_all_seen(deployment: Body, pods: Mapping[str, Body]) -> bool:
    """Whether as many pods are known as the Deployment says to have."""
    return len(pods) >= int((deployment.get("status") or {}).get("replicas") or 0)


def missing_of(deployment: Body, pods: int) -> int:
    """Workers that are asked for and have no pod; 0 where the Deployment's controller has not looked yet."""
    status = deployment.get("status") or {}
    if int(status.get("observedGeneration") or 0) < int(deployment["metadata"].get("generation") or 0):
        return 0
    return max(0, replicas_of(deployment) - max(pods, int(status.get("replicas") or 0)))


def marks_of(pod: Body) -> Marks:
    """The marks that a pod is seen to have."""
    annotations: Mapping[str, Any] = pod["metadata"].get("annotations") or {}
    return Marks(annotations.get(DELETION_COST), annotations.get(DO_NOT_DISRUPT))


def member_of(pod: Body, entry: RosterEntry) -> Member:
    """A pod as the decision sees it.

    One that is ready has a process, also where that is not written: it has not drained.
    """
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
    drained = entry.drained and not entry.jobs and (entry.started or not ready)
    standing = Standing.WORKING if not entry.asked else Standing.DRAINED if drained else Standing.DRAINING
    return Member(
        pod_uid=uid_of(pod),
        standing=standing,
        started=entry.started or ready,
        jobs=entry.jobs,
        left=entry.products,
        marked=marks_of(pod) == LEAVING_MARKS,
        going=entry.going,
    )
