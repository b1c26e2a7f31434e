"""What goes over HTTP: bodies of requests and answers. The OpenAPI document is made of these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from import_core.domain.resources.common import CompanyId, Count, Name
from import_core.domain.resources.import_job import ImportJobSpec, JobPhase


class ApiModel(BaseModel):
    """Base of every body: camelCase, strict, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )


class RequestModel(ApiModel):
    """Base of what callers send: null says the same as a field's absence."""

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class Submission(RequestModel):
    """An import to start."""

    spec: ImportJobSpec
    """What to import, as in an ImportJob."""
    name: Name | None = None
    """Name of the ImportJob. If absent it follows from the Idempotency-Key, or is made up without one."""


class RetryRequest(RequestModel):
    """How a finished import runs again."""

    items_only: bool = False
    """Whether only the products that failed are imported again; else it starts from the beginning."""


class QueueRequest(RequestModel):
    """Which queue is meant, and why."""

    queue: (
        Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None
    ) = None
    """The queue; may be absent where the namespace's worker pools serve one queue only."""
    scope: Literal["dispatch", "intake"] = "dispatch"
    """dispatch: whether the queue's jobs are handed to workers. intake: whether new imports are taken."""
    reason: Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    """Why, for those who find the queue paused."""


class SignIn(RequestModel):
    """A bearer token to keep in a cookie."""

    token: Annotated[str, Field(min_length=1, max_length=3800, pattern=r"^[A-Za-z0-9._~+/=-]+$")]
    """A Kubernetes token made for the gateway's audience."""


class ImportProgress(ApiModel):
    """Counters of what is done."""

    products_total: Count | None = None
    """Products in the catalogue; null while the provider has not told."""
    products_done: Count = 0
    """Products that need no more work, failed ones included."""
    products_imported: Count = 0
    """Products written, because they are new or have changed."""
    products_unchanged: Count = 0
    """Products that were already as the provider has them."""
    products_failed: Count = 0
    """Products that could not be imported."""
    images_total: Count = 0
    """Images found so far."""
    images_imported: Count = 0
    """Images stored."""
    images_unchanged: Count = 0
    """Images that were already as the provider has them."""
    images_failed: Count = 0
    """Images that could not be imported."""
    percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of the products that is done, in whole percents; 100 only when all are."""


class Estimate(ApiModel):
    """How long it will take, from measured rates; null where nothing was measured."""

    place: Count | None = None
    """About how many jobs of the queue go first; null while the job is not due."""
    place_is_at_least: bool = False
    """Whether the place was only counted so far, and may be behind more."""
    seconds_until_due: float | None = None
    """Seconds until the job is due, where it waits for a time."""
    seconds_until_start: float | None = None
    """Seconds until the job starts."""
    seconds_until_done: float | None = None
    """Seconds until a running job is done."""


class Import(ApiModel):
    """An import, and how it goes."""

    namespace: str
    """Namespace of the ImportJob."""
    name: str
    """Name of the ImportJob; of a job that came without one, its id."""
    id: str
    """Id of the job's row in PostgreSQL, and uid of its ImportJob."""
    company_id: str
    """Whom the products are for."""
    provider: str
    """The ImportProvider that they come from."""
    queue: str | None = None
    """The queue that it waits in; null while it is not recorded."""
    phase: JobPhase
    """Pending: not recorded yet, or refused. Queued, Running: under way. Succeeded, Failed, Cancelled: finished."""
    message: str | None = None
    """One sentence for people: what happens, or what went wrong."""
    reason: str | None = None
    """One word in CamelCase that says why it failed, or was not accepted."""
    waiting_reason: str | None = None
    """Why a queued job does not run."""
    attempts: Count = 0
    """Tries so far, the current one included."""
    suspended: bool = False
    """Whether the job is held back."""
    progress: ImportProgress = ImportProgress()
    """Counters of what is done."""
    dead_letters: Count = 0
    """Products that it gave up, and steps of its products that failed for good; each counted up to 1,000."""
    queued_at: datetime | None = None
    """Since when it waits for its run."""
    started_at: datetime | None = None
    """When a worker first took it."""
    completed_at: datetime | None = None
    """When it finished."""
    estimate: Estimate | None = None
    """How long it will take; null in lists, and for finished jobs."""


class ImportPage(ApiModel):
    """Imports, newest first."""

    items: list[Import]
    """The imports. There may be fewer than asked for, or none, although there is a next page."""
    next: str | None = None
    """Value of `cursor` for the next page; null when there is none."""


class ItemError(ApiModel):
    """A product or an image that could not be imported."""

    external_id: str
    """The provider's id of the product; empty where that could not be read."""
    stage: str
    """Where it failed: map, image, …"""
    url: str
    """The image's address; empty for a product."""
    reason: str
    """One word in CamelCase that says why."""
    message: str
    """One sentence that says why."""
    at: datetime
    """When it failed."""
    document: Any = None
    """What the provider sent, where it was kept and asked for."""


class ErrorReason(ApiModel):
    """How often items failed for one reason."""

    stage: str
    """Where they failed."""
    reason: str
    """Why."""
    count: int
    """How many."""


class ItemErrorPage(ApiModel):
    """Failed items of an import."""

    total: int
    """All failed items of the import."""
    reasons: list[ErrorReason]
    """The most frequent reasons first, 50 at most."""
    items: list[ItemError]
    """The items of this page, by their external id."""
    next: str | None = None
    """Value of `cursor` for the next page; null when there is none."""


class QueueThresholds(ApiModel):
    """From which depth on a queue counts as unhealthy."""

    degraded_above: Count
    """Above this depth it is degraded."""
    critical_above: Count
    """Above this depth it is critical."""
    overload_above: Count
    """Above this depth it is overloaded."""


class QueueHealth(ApiModel):
    """How a queue is."""

    queue: str
    """Name of the queue."""
    level: Literal["healthy", "degraded", "critical", "overload", "unknown"]
    """By the depth and the thresholds; it gets better only well below the threshold that made it worse."""
    depth: Count | None
    """Due and running jobs; null where it could not be measured, which is not zero."""
    depth_is_at_least: bool = False
    """Whether it was only counted so far, and may be more."""
    due: Count | None = None
    """Jobs that wait for a worker."""
    running: Count | None = None
    """Jobs that workers have."""
    thresholds: QueueThresholds | None = None
    """What the level is measured by."""
    workers_desired: Count | None = None
    """Workers that there should be, over all pools that serve the queue; null where no pool says so."""
    intake_open: bool | None = None
    """Whether new imports are taken at all; null where that is not known."""
    intake_reason: str | None = None
    """Why new imports are not taken."""
    paused: bool = False
    """Whether the queue hands out nothing."""
    paused_by: str | None = None
    """Who paused it; null where the operator did, because the system itself fails."""
    paused_since: datetime | None = None
    """Since when it is paused."""
    paused_reason: str | None = None
    """Why it is paused."""


class QueueReport(ApiModel):
    """The queues of the namespace."""

    queues: list[QueueHealth]
    """One for each queue that the namespace's worker pools serve."""
    measured_at: datetime
    """When it was measured; the same answer is given for 10 seconds."""


class Worker(ApiModel):
    """A worker process."""

    id: str
    """Its own id, another one after each start."""
    pod: str
    """Name of its pod."""
    queue: str
    """The queue that it takes jobs from."""
    state: str
    """ready, draining, drained or stopping."""
    concurrency: int
    """Jobs that it runs at the same time at most."""
    jobs: int
    """Jobs that it has."""
    started_at: datetime
    """When it started."""


class Overview(ApiModel):
    """Event `overview`: all that the live page shows; later events say what changed of it."""

    jobs: list[Import]
    """Running jobs, those that have waited longest, and of each final state those that were submitted last."""
    queues: list[QueueHealth]
    """The namespace's queues."""
    workers: list[Worker]
    """The namespace's workers."""


class OverviewChange(ApiModel):
    """Event `change`: what differs from what was sent before."""

    jobs: list[Import] = []
    """Jobs that are new or have changed, each as a whole."""
    queues: list[QueueHealth] = []
    """Queues that have changed, each as a whole."""
    workers: list[Worker] = []
    """Workers that are new or have changed, each as a whole."""
    gone: list[str] = []
    """What is not shown any more: `job/<id>`, `queue/<name>` or `worker/<id>`."""


class Permissions(ApiModel):
    """What the caller may do in the namespace."""

    list: bool
    """See imports, queues and workers."""
    submit: bool
    """Start imports."""
    retry: bool
    """Run finished imports again."""
    cancel: bool
    """Cancel imports."""
    pause: bool
    """Pause and resume queues."""


class Session(ApiModel):
    """Who the caller is, and what he may do."""

    username: str
    """The caller's name, as the Kubernetes API server knows it."""
    namespace: str
    """The namespace that this gateway serves."""
    may: Permissions
    """What the caller may do there."""


class Health(ApiModel):
    """Whether the gateway is ready."""

    ready: bool
    """Whether it takes requests."""
    reason: str | None = None
    """Why it does not."""


class FieldProblem(ApiModel):
    """One thing that is wrong in a request."""

    pointer: str
    """Where, as a JSON Pointer into the body (`/spec/companyId`), or the name of a parameter or header."""
    detail: str
    """What is wrong with it."""


class Problem(ApiModel):
    """An error, as RFC 9457 has it."""

    type: str
    """What kind of error it is; the same for every error of the kind."""
    title: str
    """The kind in words."""
    status: int
    """The HTTP status."""
    detail: str
    """What happened, for people."""
    instance: str | None = None
    """The request: the value of its X-Request-Id."""
    errors: list[FieldProblem] | None = None
    """What is wrong with which field, where that is known."""


class ListQuery(ApiModel):
    """Which imports are listed."""

    model_config = ConfigDict(strict=False)

    company: CompanyId | None = None
    """Only imports for this company."""
    phase: JobPhase | None = None
    """Only imports in this phase. Pending ones come in one page, 500 at most."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Imports on a page at most."""
    cursor: Annotated[str, Field(max_length=600, pattern=r"^[0-9]{1,16}\.([0-9a-f]{2})*$")] | None = None
    """The page's place: `next` of the page before."""


class ErrorsQuery(ApiModel):
    """Which failed items are listed."""

    model_config = ConfigDict(strict=False)

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Items on a page at most; with `documents` no more than 10 come at once, whatever is asked for."""
    cursor: (
        Annotated[
            str,
            Field(max_length=16_000, pattern=r"^([0-9a-f]{2})*\.([0-9a-f]{2})*\.([0-9a-f]{2})*$"),
        ]
        | None
    ) = None
    """The page's place: `next` of the page before."""
    documents: bool = False
    """Whether to add what the provider sent, up to 64 KiB for each item."""


class NoQuery(ApiModel):
    """No parameters."""
