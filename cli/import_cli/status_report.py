"""What `kubectl imports status` shows, and where each answer comes from."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from import_cli.sources import NoDatabaseError, Sources, Stores
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, WORKER_POOL
from import_core.adapters.postgres.dead_letters import StepSummary
from import_core.adapters.postgres.jobs import DEPTH_CAP
from import_core.adapters.postgres.queue_state import Pause, QueueState
from import_core.domain.breaker import Breaker
from import_core.domain.errors import DatabaseUnavailableError, SchemaMismatchError
from import_core.domain.jobs import DEFAULT_QUEUE, JobState
from import_core.domain.projection import PHASES
from import_core.domain.resources.common import format_timestamp
from import_core.domain.resources.conditions import get_condition
from import_core.domain.resources.import_job import JobPhase
from import_core.domain.vanished import Guard

LAST_ERRORS = 5
FROM_ROWS = "PostgreSQL"
FROM_OBJECTS = "objects"


@dataclass(frozen=True, slots=True)
class Depth:
    """Due and running jobs; None: unknown, which is not zero; `capped`: there are at least so many."""

    jobs: int | None
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """A WorkerPool; None is unknown."""

    name: str
    queue: str | None
    depth: int | None
    ready: int | None
    busy: int | None
    desired: int | None
    min_replicas: int | None
    max_replicas: int | None
    last_decision: str | None


@dataclass(frozen=True, slots=True)
class Provider:
    """An ImportProvider; its conditions are "True", "False" or "Unknown"; a message only where not ready."""

    name: str
    type: str | None
    company: str | None
    ready: str
    reachable: str
    credentials: str
    message: str | None

    @property
    def health(self) -> int:
        """0 in trouble, 1 not known, 2 well."""
        states = (self.ready, self.reachable, self.credentials)
        return 0 if "False" in states else 1 if "Unknown" in states else 2


@dataclass(frozen=True, slots=True)
class LastError:
    """A job that failed; `at` in ISO 8601, UTC."""

    job: str
    job_id: str | None
    namespace: str | None
    company: str | None
    reason: str | None
    message: str | None
    at: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """What stands still or may: queues and breakers by name, pauses, the guard where it withholds cancellations."""

    queues: dict[str, QueueState] = field(default_factory=dict)
    pauses: list[Pause] = field(default_factory=list)
    guard: Guard | None = None
    breakers: dict[str, Breaker] = field(default_factory=dict)

    @property
    def paused(self) -> dict[str, QueueState]:
        """Queues that a person has paused."""
        return {queue: state for queue, state in self.queues.items() if state.paused}


@dataclass(frozen=True, slots=True)
class Jobs:
    """What is asked of the database, or else taken from the objects; `counts` by phase, up to STATE_CAP."""

    depth: Depth
    counts: dict[str, int]
    counted_in: str
    last_errors: list[LastError]
    held: Held = field(default_factory=Held)
    steps: list[StepSummary] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What the screen shows; `notes` say what is missing, and why."""

    namespace: str
    pools: list[Pool]
    providers: list[Provider]
    jobs: Jobs
    notes: list[str]


async def collect(sources: Sources) -> StatusReport:
    """Read everything; providers in trouble come first."""
    (pools, queues), providers = await asyncio.gather(_pools(sources), _providers(sources))
    notes: list[str] = []
    jobs: Jobs | None = None
    try:
        jobs = await _jobs_of_rows(sources, sorted({pool.queue or DEFAULT_QUEUE for pool in pools}))
    except NoDatabaseError:
        notes.append(
            "DATABASE_URL is not set: jobs without an object are not counted, paused queues not known"
        )
    except (DatabaseUnavailableError, SchemaMismatchError) as error:
        notes.append(
            f"{error}. Shown is what the objects say; it may be old; jobs without one and paused queues are missing"
        )
    if jobs is None:
        jobs = await _jobs_of_objects(sources, queues)
    if not pools and not providers:
        notes.append(
            f"Namespace {sources.namespace} has no WorkerPool and no ImportProvider: is it the right one?"
        )
    return StatusReport(sources.namespace, pools, providers, jobs, notes)


async def _pools(sources: Sources) -> tuple[list[Pool], dict[str, int | None]]:
    """The pools, and the depth of each queue as their status has it; pools of one queue measure the same."""
    pools = [_pool(body) async for body in sources.kube.list(WORKER_POOL, sources.namespace)]
    queues: dict[str, int | None] = {}
    for pool in pools:
        queue = pool.queue or DEFAULT_QUEUE
        queues[queue] = max((d for d in (queues.get(queue), pool.depth) if d is not None), default=None)
    return pools, queues


async def _providers(sources: Sources) -> list[Provider]:
    providers = [_provider(body) async for body in sources.kube.list(IMPORT_PROVIDER, sources.namespace)]
    return sorted(providers, key=lambda provider: (provider.health, provider.name))


async def _jobs_of_rows(sources: Sources, queues: Sequence[str]) -> Jobs:
    async with sources.stores() as stores:
        # Without a pool nobody serves the rows, which is when their number matters most.
        depths = await stores.jobs.depth(queues or [DEFAULT_QUEUE])
        states = await stores.reports.states([state.value for state in JobState])
        failures = await stores.reports.recent_failures(limit=LAST_ERRORS)
        held = await _held(stores, sources.namespace, queues or [DEFAULT_QUEUE])
        steps = await stores.dead_letters.steps.summary()
    return Jobs(
        Depth(
            sum(depth.total for depth in depths.values()),
            any(depth.due >= DEPTH_CAP for depth in depths.values()),
        ),
        {PHASES[JobState(state)].value: count for state, count in states.items()},
        FROM_ROWS,
        [
            LastError(
                failure.name or failure.job_id,
                failure.job_id,
                failure.namespace,
                failure.company_id,
                failure.reason,
                failure.message,
                format_timestamp(failure.completed_at.replace(microsecond=0))
                if failure.completed_at
                else None,
            )
            for failure in failures
        ],
        held,
        steps,
    )


async def _held(stores: Stores, namespace: str, queues: Sequence[str]) -> Held:
    states = await stores.queues.read(queues)
    guard = await stores.guards.read(namespace)
    return Held(
        states,
        # A company's pause holds everywhere, a connection's in its namespace.
        [each for each in await stores.queues.pauses() if each.namespace in {"", namespace}],
        guard if guard is not None and guard.withheld else None,
        await stores.breakers.not_closed(namespace),
    )


async def _jobs_of_objects(sources: Sources, queues: Mapping[str, int | None]) -> Jobs:
    counts: Counter[str] = Counter()
    newest: list[tuple[str, str, LastError]] = []
    async for body in sources.kube.list(IMPORT_JOB, sources.namespace):
        status = body.get("status") or {}
        phase = status.get("phase") or JobPhase.PENDING.value
        counts[phase] += 1
        if phase == JobPhase.FAILED:
            error = _last_error(body, status)
            entry = (error.at or "", error.job, error)
            (heapq.heappush if len(newest) < LAST_ERRORS else heapq.heappushpop)(newest, entry)
    known = [depth for depth in queues.values() if depth is not None]
    complete = bool(queues) and len(known) == len(queues)
    depth = Depth(sum(known), any(value >= DEPTH_CAP for value in known)) if complete else Depth(None)
    return Jobs(depth, dict(counts), FROM_OBJECTS, [error for _, _, error in sorted(newest, reverse=True)])


def _pool(body: Mapping[str, Any]) -> Pool:
    spec, status = body["spec"], body.get("status") or {}
    scaling = spec.get("scaling") or {}
    return Pool(
        body["metadata"]["name"],
        spec.get("queue"),
        status.get("queueDepth"),
        status.get("readyReplicas"),
        status.get("busyReplicas"),
        status.get("desiredReplicas"),
        scaling.get("minReplicas"),
        scaling.get("maxReplicas"),
        status.get("lastScaleReason"),
    )


def _provider(body: Mapping[str, Any]) -> Provider:
    spec, status = body["spec"], body.get("status") or {}

    def condition(kind: str) -> str:
        return str((get_condition(status.get("conditions") or [], kind) or {}).get("status", "Unknown"))

    provider = Provider(
        body["metadata"]["name"],
        spec.get("type"),
        spec.get("companyId"),
        condition("Ready"),
        condition("Reachable"),
        condition("CredentialsValid"),
        status.get("message"),
    )
    if provider.ready == "True":
        return Provider(**{**asdict(provider), "message": None})
    return provider


def _last_error(body: Mapping[str, Any], status: Mapping[str, Any]) -> LastError:
    failed = get_condition(status.get("conditions") or [], "Failed") or {}
    return LastError(
        body["metadata"]["name"],
        status.get("jobId"),
        body["metadata"]["namespace"],
        body["spec"].get("companyId"),
        failed.get("reason"),
        status.get("message"),
        status.get("completedAt"),
    )
