"""Jobs: states, identities and what a row of the job table means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from import_core.domain.correlation import is_correlation_id

if TYPE_CHECKING:
    from import_core.domain.steps import StepCounts, StepKind

DEFAULT_QUEUE = "product-imports"
CHECKPOINT_VERSION = 1
"""Version written into checkpoints; a worker refuses none it does not know, it starts that job over."""
ITEMS_CHECKPOINT_VERSION = 2
"""The newest: the cursor is wrapped with a place among failed items, which older workers can't read."""
MESSAGE_VERSION = 1


class JobState(StrEnum):
    """State of a row in "ProductImportJob" (docs/reference/lifecycle.md)."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the job will never change again by itself."""
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


class Tier(StrEnum):
    """A company's tier, from "Company"; an unknown company is BASIC."""

    BASIC = "BASIC"
    PRO = "PRO"
    ENTERPRISE = "ENTERPRISE"


def known_tier(word: object) -> Tier:
    """The tier that "Company" names; what we don't know counts as BASIC."""
    return next((tier for tier in Tier if tier == word), Tier.BASIC)


class WaitingReason(StrEnum):
    """Why a queued job does not run yet (`status.waitingReason`)."""

    QUEUE_FULL = "QueueFull"
    PROVIDER_LIMIT = "ProviderLimit"
    BREAKER_OPEN = "BreakerOpen"
    BACKPRESSURE = "Backpressure"
    PAUSED = "Paused"
    RETRY = "Retry"
    STORAGE = "StorageUnavailable"


@dataclass(frozen=True, slots=True)
class Progress:
    """Counters of a job; they count what is committed, so they never promise more than is true."""

    products_total: int | None = None
    products_imported: int = 0
    products_unchanged: int = 0
    products_failed: int = 0
    images_total: int = 0
    images_imported: int = 0
    images_unchanged: int = 0
    images_failed: int = 0
    products_seen: int = 0
    """Products done whose ids were kept, to find those that are gone; the rest can't be told by id."""
    products_unlisted: int = 0
    """Products that the source counted and did not list: what was not seen could be any of them."""
    products_archived: int = 0
    """Products archived because they are gone from the source."""

    @property
    def products_done(self) -> int:
        """Products that need no more work in this job, failed ones included."""
        return self.products_imported + self.products_unchanged + self.products_failed

    @property
    def percent(self) -> int:
        """Whole percents done, 0 while the total is unknown; 100 only when all is done."""
        if not self.products_total:
            return 0
        return min(100, self.products_done * 100 // self.products_total)


@dataclass(frozen=True, slots=True)
class ItemsPlace:
    """How far a retry of failed items has come: all external ids up to `after`, and those in `done`, were tried.

    `run` tells one retry from the next, so that an earlier one's place is not taken for this one's. Ids are in
    the database's order; `done` are a few behind `after` that were answered before others.
    """

    run: str
    after: str = ""
    done: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a retry continues: the provider's cursor after the last committed page, and the counters.

    `items` is there once failed items were tried again; the cursor stays what it was.
    """

    cursor: Mapping[str, Any] | None = None
    progress: Progress = field(default_factory=Progress)
    pages: int = 0
    items: ItemsPlace | None = None

    @property
    def version(self) -> int:
        """The oldest version that can hold it, so that older workers read all that they understand."""
        return CHECKPOINT_VERSION if self.items is None else ITEMS_CHECKPOINT_VERSION


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """The ImportJob object a row came from."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What the operator records for an ImportJob: `spec` is the object's spec as JSON values."""

    id: str
    company_id: str
    provider: str
    namespace: str
    spec: Mapping[str, Any]
    origin: ObjectReference | None = None
    generation: int = 0
    suspended: bool = False
    queue: str = DEFAULT_QUEUE
    retry_token: str | None = None
    """Requests for a retry that the object came with: the first run honours them."""
    items_retry_token: str | None = None
    correlation_id: str | None = None
    """The submitter's own id; None: the job's id is used."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of "ProductImportJob" with its checkpoint and claim joined; times are timezone-aware."""

    id: str
    company_id: str
    provider: str
    state: JobState
    namespace: str | None
    queued_at: datetime
    """Since when it waits for its run: recorded, or reopened."""
    queue: str = DEFAULT_QUEUE
    origin: ObjectReference | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    deaths: int = 0
    dispatch: int = 0
    dispatched_at: datetime | None = None
    not_before: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    suspended: bool = False
    waiting_reason: str | None = None
    failure_reason: str | None = None
    message: str | None = None
    generation: int = 0
    progress: Progress = field(default_factory=Progress)
    claimed_by: str | None = None
    confirmed_removals: int | None = None
    """Generation of the job whose removals a person has confirmed."""
    items_only: bool = False
    """Only the products named in the job's item errors are imported."""
    items_run: str | None = None
    """Tells one retry of failed items from the next: the value that asked for it."""
    queue_paused: bool = False
    """Nothing of its queue is handed out: by a person's word, or in an emergency."""
    connection_paused: bool = False
    """Nothing of its company or of its provider connection is handed out."""
    breaker_open: bool = False
    """The circuit breaker of its connection is not closed: at most one of its jobs is handed out, to probe."""
    delayed_until: datetime | None = None
    """While its queue is degraded: when a job of its company's tier is due."""
    steps: Mapping[StepKind, StepCounts] | None = None
    """Of an ImportJob's row: its products by step; None: not counted."""
    asked_correlation_id: str | None = None
    """The submitter's own id, if there is one."""

    @property
    def correlation_id(self) -> str:
        """What ties together all that is logged of the job."""
        if self.asked_correlation_id is not None and is_correlation_id(self.asked_correlation_id):
            return self.asked_correlation_id
        return self.origin.uid if self.origin else self.id


@dataclass(frozen=True, slots=True)
class Message:
    """What travels through Redis: ids only."""

    job_id: str
    dispatch: int
    version: int = MESSAGE_VERSION
    correlation_id: str | None = field(default=None, compare=False)
    """For the logs of those that it passes; None in a message of an older version, and where nobody asked."""

    @property
    def queue_id(self) -> str:
        """The BullMQ id: an add under an id that still exists is ignored; ids may hold no colon."""
        return f"{self.job_id}-{self.dispatch}"

    def to_data(self) -> dict[str, Any]:
        """The message's JSON body."""
        data = {"version": self.version, "jobId": self.job_id, "dispatch": self.dispatch}
        return data if self.correlation_id is None else {**data, "correlationId": self.correlation_id}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Message:
        """Read a body of any version up to ours; raises KeyError or ValueError for anything else."""
        version = int(data["version"])
        if not 1 <= version <= MESSAGE_VERSION:
            raise ValueError(f"message version {version} is newer than {MESSAGE_VERSION}")
        told = data.get("correlationId")
        correlation = str(told) if is_correlation_id(told) else None
        return cls(str(data["jobId"]), int(data["dispatch"]), version, correlation)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's lease on a job; every write of the worker names `claim_id`."""

    claim_id: str
    worker_id: str
    job: JobRow
    checkpoint: Checkpoint | None
    lease_seconds: float
    suspected: bool = False
    """The job was on board of several workers that died: it must run alone."""
    tier: Tier = Tier.BASIC
    """Of the job's company, at the moment of the claim."""
    waited_seconds: float | None = None
    """How long the job had waited for its first start; None: this is not its first."""


def seconds_left(
    own_limit: object, usual_limit: float | None, *, started_at: datetime | None, now: datetime
) -> float | None:
    """Seconds that a job may still run: by its own limit, else by the usual one; None: for as long as it takes."""
    limit = own_limit if isinstance(own_limit, int) else usual_limit
    if limit is None or started_at is None:
        return None
    return max(0.0, limit - (now - started_at).total_seconds())
