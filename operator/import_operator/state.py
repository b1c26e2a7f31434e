"""What the leading replica knows: the live objects as last seen, and what waits for which loop.

It lives in the main event loop only. All of it is bounded by the number of live objects, which admission
bounds, and none of it is needed to be right: a new leader builds it from the API server and PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.adapters.postgres.decisions import RecordedDecision
from import_core.adapters.postgres.queue_state import QueueState
from import_core.domain.admission import Verdict
from import_core.domain.correlation import asked_correlation
from import_core.domain.holding import Held
from import_core.domain.prescaling import StartTimes
from import_core.domain.projection import is_final, phase_of
from import_core.domain.reopening import requests_of
from import_core.domain.resources.import_job import JobPhase
from import_core.domain.steps import StepKind
from import_core.domain.sweeping import Finished, finished_of
from import_core.domain.worker_ends import WorkerEnd
from import_core.observability.labels import provider_label

Body = Mapping[str, Any]

DECISIONS_WAITING = 1_000
"""Decisions on numbers of workers that wait to be kept; older ones go first."""


def uid_of(body: Body) -> str:
    """The object's uid."""
    return str(body["metadata"]["uid"])


def name_of(body: Body) -> str:
    """The object's name."""
    return str(body["metadata"]["name"])


def generation_of(body: Body) -> int:
    """The object's generation."""
    return int(body["metadata"].get("generation") or 0)


def version_of(body: Body) -> int:
    """The object's resourceVersion, which grows with each change of one object (Kubernetes 1.35 on)."""
    return int(body["metadata"].get("resourceVersion") or 0)


def provider_name_of(body: Body) -> str:
    """The name of the ImportProvider that an ImportJob refers to."""
    reference = (body.get("spec") or {}).get("providerRef")
    return str(reference.get("name")) if isinstance(reference, dict) else ""


def type_of(body: Body) -> str:
    """The provider type of an ImportProvider, as metrics name it."""
    return provider_label((body.get("spec") or {}).get("type"))


def is_suspended(body: Body) -> bool:
    """Whether an ImportJob asks to be suspended."""
    return (body.get("spec") or {}).get("suspend") is True


def owners_of(body: Body) -> frozenset[str]:
    """Uids of the objects that an object was made of."""
    return frozenset(str(owner.get("uid")) for owner in body["metadata"].get("ownerReferences") or ())


def schedule_uid_of(body: Body) -> str | None:
    """The uid of the ImportSchedule that made an ImportJob."""
    for owner in body["metadata"].get("ownerReferences") or []:
        if owner.get("controller") and owner.get("kind") == "ImportSchedule":
            return str(owner["uid"])
    return None


class ObjectStore:
    """Live objects of one kind in one namespace, by uid, by name and by owner."""

    def __init__(self) -> None:
        self._by_uid: dict[str, Body] = {}
        self._uid_by_name: dict[str, str] = {}
        self._uids_by_owner: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._by_uid)

    def __iter__(self) -> Iterator[Body]:
        return iter(list(self._by_uid.values()))

    def uids(self) -> list[str]:
        """All uids."""
        return list(self._by_uid)

    def get(self, uid: str) -> Body | None:
        """The object with this uid."""
        return self._by_uid.get(uid)

    def named(self, name: str) -> Body | None:
        """The object with this name."""
        uid = self._uid_by_name.get(name)
        return self._by_uid.get(uid) if uid is not None else None

    def owned_by(self, owner: str) -> list[Body]:
        """The objects that were made of the object with this uid."""
        return [self._by_uid[uid] for uid in self._uids_by_owner.get(owner, ())]

    def put(self, body: Body) -> bool:
        """Keep an object; False where it is already known at this or a later version."""
        uid = uid_of(body)
        known = self._by_uid.get(uid)
        if known is not None and version_of(known) >= version_of(body):
            return False
        # Field ownership is the larger half of an object, and nothing here reads it.
        metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
        if known is None or owners_of(known) != owners_of(body):
            self._disown(known)
            for owner in owners_of(body):
                self._uids_by_owner.setdefault(owner, {})[uid] = None
        self._by_uid[uid] = {**body, "metadata": metadata}
        self._uid_by_name[name_of(body)] = uid
        return True

    def put_replicas(self, uid: str, replicas: int, resource_version: str) -> None:
        """Note a number that was just set, so that events from before it are not believed."""
        body = self._by_uid.get(uid)
        if body is not None:
            spec = {**(body.get("spec") or {}), "replicas": replicas}
            metadata = {**body["metadata"], "resourceVersion": resource_version}
            self._by_uid[uid] = {**body, "spec": spec, "metadata": metadata}

    def remove(self, uid: str) -> Body | None:
        """Forget an object."""
        body = self._by_uid.pop(uid, None)
        self._disown(body)
        if body is not None and self._uid_by_name.get(name_of(body)) == uid:
            del self._uid_by_name[name_of(body)]
        return body

    def _disown(self, body: Body | None) -> None:
        if body is None:
            return
        for owner in owners_of(body):
            owned = self._uids_by_owner.get(owner, {})
            owned.pop(uid_of(body), None)
            if not owned:
                self._uids_by_owner.pop(owner, None)


class KeySet:
    """Keys that wait for a loop, in the order of their arrival, each once; setting one wakes the loop."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}
        self._later: set[str] = set()
        self.wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        """Let a key wait."""
        self._keys[key] = None
        self.wake.set()

    def update(self, keys: Iterable[str]) -> None:
        """Let keys wait."""
        for key in keys:
            self.add(key)

    def add_later(self, key: str, seconds: float) -> None:
        """Let a key wait from then on; it is remembered until then, once."""
        if key not in self._later:
            self._later.add(key)
            asyncio.get_running_loop().call_later(seconds, self._add_remembered, key)

    def _add_remembered(self, key: str) -> None:
        self._later.discard(key)
        self.add(key)

    def discard(self, key: str) -> None:
        """Take a key out."""
        self._keys.pop(key, None)

    def take(self, limit: int) -> list[str]:
        """The oldest keys, which leave; the loop is woken again while some are left."""
        taken = list(self._keys)[:limit] if len(self._keys) > limit else list(self._keys)
        for key in taken:
            del self._keys[key]
        if self._keys:
            self.wake.set()
        return taken


@dataclass(frozen=True, slots=True)
class SeenDepth:
    """A depth, and when it was measured."""

    due: int
    claimed: int
    at: datetime

    @property
    def total(self) -> int:
        """The depth."""
        return self.due + self.claimed


class ScalingState:
    """What scaling shares with other loops and handlers."""

    def __init__(self) -> None:
        self.next_starts: dict[str, datetime] = {}
        """When the next run of each ImportSchedule starts, by its uid."""
        self.starting_pods: dict[str, bool] = {}
        """Worker pods by uid: whether their start is still to be timed, as none of them was seen ready before."""
        self.start_times: dict[str, StartTimes] = {}
        """How long workers took to start lately, by the name of their pool."""
        self.decisions: deque[RecordedDecision] = deque(maxlen=DECISIONS_WAITING)
        """Decisions that wait to be kept."""
        self.decisions_made = asyncio.Event()
        self.pods = ObjectStore()
        """Pods of workers; of their spec only the name of the first container."""
        self.drains_changed = asyncio.Event()
        """A worker has drained, or is seen to be marked as one that leaves."""


class OperatorState:
    """Everything that handlers and loops share."""

    unavailable_steps: frozenset[StepKind] = frozenset()
    """Steps after the import that this installation can't do; set once, at start."""

    def __init__(self, namespace: str) -> None:  # noqa: PLR0915 - a list of all that is shared
        self.namespace = namespace
        self.jobs = ObjectStore()
        self.providers = ObjectStore()
        self.pools = ObjectStore()
        self.schedules = ObjectStore()
        self.deployments = ObjectStore()
        self.verdicts: dict[str, Verdict] = {}
        """The last decision on each live ImportJob's spec, by uid."""
        self.to_record = KeySet()
        self.to_cancel = KeySet()
        self.cancelling: frozenset[str] = frozenset()
        """The keys last taken from `to_cancel`, until the next ones are."""
        self.to_project = KeySet()
        self.to_reopen = KeySet()
        """Objects whose annotations may ask for another run."""
        self.finished: dict[str, Finished] = {}
        """Finished ImportJobs, which go after their time."""
        self.scheduled: dict[str, dict[str, None]] = {}
        """Uids of live ImportJobs by the uid of the ImportSchedule that made them."""
        self.surplus: set[str] = set()
        """Finished ImportJobs above their schedule's history limits, which go before their time."""
        self.jobs_listed = False
        """Whether all ImportJobs that there were at the start are known; of the folder's files, without Kubernetes."""
        self.to_schedule = KeySet()
        """Uids of ImportSchedules to look at."""
        self.scaling = ScalingState()
        self.to_check = KeySet()
        """Names of ImportProviders whose status may have to change."""
        self.breakers_changed = asyncio.Event()
        """Some breaker opened or closed."""
        self.providers_gone: dict[str, str] = {}
        """Uid by name of deleted ImportProviders."""
        self.worker_ends: dict[str, WorkerEnd] = {}
        """Ends of worker processes seen at their pods, by the pod's uid."""
        self.workers_ended = asyncio.Event()
        self.ends_seen = 0
        """How often worker processes were seen to end, for loops that have to look at what they left."""
        self.pod_restarts: dict[str, int] = {}
        """Restarts of workers' containers that their pods have told of, by the pod's uid."""
        self.steps_to_hold: set[str] = set()
        """ImportJobs whose steps are to be suspended or resumed: finished ones, and others with many batches."""
        self.steps_wanted = asyncio.Event()
        self.held: dict[str, Held] = {}
        """ImportJobs that may not be recorded before there is room, by uid."""
        self.depths: dict[str, SeenDepth] = {}
        """The last depth of each queue that could be measured."""
        self.queues: dict[str, QueueState] = {}
        """What the guard last saw of each queue."""
        self.dispatch_wanted = asyncio.Event()
        self.scale_wanted = asyncio.Event()
        self.rollout_wanted = asyncio.Event()
        self.reconcile_wanted = asyncio.Event()
        self.guard_wanted = asyncio.Event()

    def keep_job(self, body: Body) -> bool:
        """Keep an ImportJob, its end and its requests; False where this or a later version is known already."""
        uid = uid_of(body)
        known = self.jobs.get(uid)
        if not self.jobs.put(body):
            return False
        finished, requests = finished_of(body), requests_of(body)
        self._keep_scheduled(uid, known, body)
        if finished is None:
            self.finished.pop(uid, None)
        else:
            self.finished[uid] = finished
        if requests.problems or (requests and finished is not None):
            self.to_reopen.add(uid)
        return True

    def hold_steps(self, uid: str) -> None:
        """Have the steps of an ImportJob suspended or resumed, as its spec says by then, that are not with its row."""
        self.steps_to_hold.add(uid)
        self.steps_wanted.set()

    def correlation_of(self, job_id: str) -> str | None:
        """The id that the submitter of a live ImportJob asked for."""
        body = self.jobs.get(job_id)
        return None if body is None else asked_correlation(body)

    def project_waiting(self) -> None:
        """Have every unfinished job's status looked at: what holds all of a queue has changed."""
        self.to_project.update(uid_of(body) for body in self.jobs if not is_final(body))

    def project_running(self) -> None:
        """Have the status of jobs that are said to run looked at: a worker that ended can't tell of its last."""
        self.to_project.update(uid_of(body) for body in self.jobs if phase_of(body) == JobPhase.RUNNING.value)

    def forget_job(self, uid: str) -> None:
        """Drop all that is known of an ImportJob."""
        body = self.jobs.remove(uid)
        schedule = None if body is None else schedule_uid_of(body)
        if schedule is not None:
            self._forget_scheduled(schedule, uid)
        self.finished.pop(uid, None)
        self.to_reopen.discard(uid)
        self.verdicts.pop(uid, None)
        self.held.pop(uid, None)
        self.steps_to_hold.discard(uid)
        self.to_record.discard(uid)
        self.to_project.discard(uid)

    def _keep_scheduled(self, uid: str, known: Body | None, body: Body) -> None:
        before, now = None if known is None else schedule_uid_of(known), schedule_uid_of(body)
        if before is not None and before != now:
            self._forget_scheduled(before, uid)
        if now is not None and (known is None or before != now or is_final(known) != is_final(body)):
            self.scheduled.setdefault(now, {})[uid] = None
            self.to_schedule.add(now)

    def _forget_scheduled(self, schedule: str, uid: str) -> None:
        jobs = self.scheduled.get(schedule, {})
        jobs.pop(uid, None)
        if not jobs:
            self.scheduled.pop(schedule, None)
        self.surplus.discard(uid)
        self.to_schedule.add(schedule)
