"""WorkerPool: the workers that serve one queue, how many of them, and how a new version is rolled out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from import_core.domain.draining import BusyScaleIn
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.resources.common import (
    Conditions,
    Count,
    Generation,
    Message,
    ObjectMeta,
    PrinterColumn,
    Quantity,
    ResourceDefinition,
    ResourceModel,
    Rule,
    Timestamp,
    parse,
)

MAX_NAME_LENGTH = 63
"""A pool's name is also the value of its pods' label."""

Replicas = Annotated[int, Field(ge=0, le=1000)]
Seconds = Annotated[int, Field(ge=0, le=86_400)]
Depth = Annotated[int, Field(ge=1, le=200_000)]
"""The depth is counted a few times a second, up to the highest of these."""
_LIST_BY_NAME = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class ScalingPolicy(StrEnum):
    """How the number of workers is decided."""

    QUEUE_DEPTH = "QueueDepth"
    DRAIN_TIME = "DrainTime"


class QueueRateLimit(ResourceModel):
    """Limits how many jobs start. Jobs above it wait, none is dropped."""

    jobs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """At most so many jobs start within perSeconds."""
    per_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """Length of the window in seconds."""


class Health(ResourceModel):
    """From which depth on the queue counts as unhealthy."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="overloadAbove",
            cel="self.degradedAbove < self.criticalAbove && self.criticalAbove < self.overloadAbove",
            message="health: degradedAbove, criticalAbove and overloadAbove must ascend",
            check=lambda health: health.degraded_above < health.critical_above < health.overload_above,
        ),
    )

    degraded_above: Depth = 1000
    """Above this depth the queue is degraded: jobs of BASIC companies are delayed."""
    critical_above: Depth = 5000
    """Above this depth the queue is critical: only jobs of ENTERPRISE companies are admitted."""
    overload_above: Depth = 10_000
    """Above this depth intake stops for all; work goes on."""
    resume_after_seconds: Seconds = 300
    """Intake that overload has stopped resumes when the queue was better for so many seconds."""
    basic_delay_seconds: Seconds = 300
    """From degraded on, jobs of BASIC companies start no sooner than so many seconds after they were queued."""
    min_success_percent: Annotated[int, Field(ge=0, le=100)] = 50
    """No more jobs are started when fewer of the last 50 succeeded, failures that lie with a company or its
    provider left out, or when the object store is down; 0: never."""
    emergency_pause_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    """After so many seconds of such a pause a few jobs are tried; if they succeed, it ends."""


class Scaling(ResourceModel):
    """How the number of workers follows the queue."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="maxReplicas",
            cel="self.maxReplicas >= self.minReplicas",
            message="scaling: maxReplicas must not be below minReplicas",
            check=lambda scaling: scaling.max_replicas >= scaling.min_replicas,
        ),
    )

    policy: Annotated[ScalingPolicy, Field(strict=False)] = ScalingPolicy.QUEUE_DEPTH
    """QueueDepth: so many workers that each has targetJobsPerWorker jobs. DrainTime: so many that the backlog,
    counted in products and images, is empty in drainTimeSeconds at the measured rate; until a rate was measured
    as QueueDepth. Workers that a provider's limit or open circuit breaker would keep waiting are not started."""
    min_replicas: Replicas = 2
    """At least so many workers."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 50
    """At most so many workers."""
    target_jobs_per_worker: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Due and running jobs for each worker: with 10, a depth of 100 asks for 10 workers."""
    drain_time_seconds: Annotated[int, Field(ge=10, le=86_400)] = 60
    """With policy DrainTime: the backlog is to be empty in so many seconds."""
    cpu_target_percent: Annotated[int, Field(ge=1, le=100)] = 70
    """Used once the depth has been unknown for a minute: workers are added until each uses so many percent of
    the CPU that it requests (metrics.k8s.io); none is taken away. Without a request or that API: held."""
    scale_out_cooldown_seconds: Seconds = 60
    """No second scale-out within so many seconds, unless the need has grown since."""
    scale_in_cooldown_seconds: Seconds = 300
    """No scale-in within so many seconds after any scaling."""
    scale_in_busy: Annotated[BusyScaleIn, Field(strict=False)] = BusyScaleIn.WAIT
    """What a scale-in does where no worker is idle. Wait: it waits for one. DrainLeastWork: the workers with the
    least work to lose take no more jobs and go when they have finished; it costs less where jobs always run.
    Neither interrupts a job."""


class RolloutStep(ResourceModel):
    """One step of a rollout."""

    percent: Annotated[int, Field(ge=1, le=100)]
    """So many percent of the workers get the new version."""
    pause_seconds: Seconds = 0
    """Watch the new version for so many seconds before the next step."""


def _ascends_to_all(rollout: Rollout) -> bool:
    percents = [step.percent for step in rollout.steps]
    return percents == sorted(set(percents)) and percents[-1] == 100


class Rollout(ResourceModel):
    """How a new version replaces the old one: a step at a time, judged by its jobs, and back if it fails."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="steps",
            cel="self.steps.map(step, step.percent).isSorted()"
            " && self.steps.all(step, self.steps.exists_one(other, other.percent == step.percent))"
            " && self.steps[size(self.steps) - 1].percent == 100",
            message="rollout.steps: percent must ascend and end at 100",
            check=_ascends_to_all,
        ),
    )

    initial_replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Start with so many workers of the new version."""
    steps: Annotated[
        tuple[RolloutStep, ...],
        Field(
            strict=False,
            min_length=1,
            max_length=10,
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = (RolloutStep(percent=25, pause_seconds=600), RolloutStep(percent=100))
    """Shares of the workers that get the new version one after another, ending at 100."""
    initial_pause_seconds: Seconds = 600
    """Watch the first workers for so many seconds before the first step."""
    min_success_percent: Annotated[int, Field(ge=0, le=100)] = 90
    """Go back to the old version when fewer of the new version's jobs succeed, and the old one does better."""
    min_jobs: Annotated[int, Field(ge=0, le=500)] = 20
    """Judge the new version by its jobs once so many have ended; until then the rollout waits at its step. 0: wait
    for none."""


class Open(ResourceModel):
    """A part of Kubernetes' own types: fields we don't name are kept as they are."""

    model_config = ConfigDict(extra="allow")


class EnvironmentVariable(Open):
    """An environment variable, as in a Pod; valueFrom and the rest are kept as they are."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=32_768)] | None = None
    """Its value; numbers need quotes."""


class Resources(Open):
    """What a container asks for and may use."""

    requests: Annotated[dict[str, Quantity] | None, Field(max_length=16)] = None
    """Reserved for the container: cpu, memory."""
    limits: Annotated[dict[str, Quantity] | None, Field(max_length=16)] = None
    """The most the container may use: cpu, memory."""


def _unique_names(items: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if items and len({item.name for item in items}) < len(items):
        raise ValueError("holds a name twice")
    return items


class Container(Open):
    """A container, as in a Pod; fields that are not listed here are kept as they are."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """Name of the container (DNS label)."""
    image: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\s]+$")]
    """Image of the worker."""
    env: Annotated[
        tuple[EnvironmentVariable, ...] | None,
        Field(strict=False, max_length=128, json_schema_extra=_LIST_BY_NAME),
        AfterValidator(_unique_names),
    ] = None
    """Environment variables. The operator adds POD_NAME, POD_UID, POD_NAMESPACE and POD_IP."""
    resources: Resources | None = None
    """What the container asks for and may use."""


class PodSpec(Open):
    """A worker's pod, as Kubernetes' PodSpec; fields that are not listed here are kept as they are."""

    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    """So long a worker may take to stop before it is killed. It finishes its jobs for up to 30 s, then hands
    the rest back: allow more than that."""
    containers: Annotated[
        tuple[Container, ...],
        Field(strict=False, min_length=1, max_length=10, json_schema_extra=_LIST_BY_NAME),
        AfterValidator(_unique_names),
    ]
    """The pod's containers; the first is the worker."""


class PodMetadata(Open):
    """Labels and annotations of a worker's pod."""

    labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]] | None, Field(max_length=64)] = None
    """Labels of the pod, beside the operator's own."""
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=16_384)]] | None, Field(max_length=64)
    ] = None
    """Annotations of the pod."""


class PodTemplate(Open):
    """A PodTemplateSpec."""

    metadata: PodMetadata | None = None
    """Labels and annotations of a worker's pod."""
    spec: PodSpec
    """A worker's pod, as Kubernetes' PodSpec; fields that are not listed here are kept as they are."""


class WorkerPoolSpec(ResourceModel):
    """The workers to run."""

    queue: Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = (
        DEFAULT_QUEUE
    )
    """The queue that these workers serve."""
    paused: bool = False
    """Whether scaling is paused: the number of workers is left as it is."""
    replicas: Replicas | None = None
    """Holds this number of workers by hand, also outside scaling's bounds (kubectl scale sets it); automatic
    if absent. Back to automatic: kubectl patch workerpool NAME --type merge -p '{"spec":{"replicas":null}}'."""
    concurrency: Annotated[int, Field(ge=1, le=100)] = 5
    """Jobs that one worker runs at the same time."""
    queue_rate_limit: QueueRateLimit | None = None
    """Limits how many jobs start; no limit if absent. Where several pools serve one queue, the lowest counts."""
    health: Health = Health()
    """From which depth on the queue counts as unhealthy, and what follows from it. Where several pools serve one
    queue, the strictest value counts."""
    scaling: Scaling = Scaling()
    """How the number of workers follows the queue."""
    rollout: Rollout = Rollout()
    """How a new version of the template replaces the old one."""
    template: PodTemplate
    """A PodTemplateSpec. The operator owns the Deployments that it makes of it; a change is rolled out as `rollout`
    says, and any other change of the pool by a plain rolling update."""


class RolloutStatus(ResourceModel):
    """Where a rollout stands."""

    phase: Annotated[str, Field(max_length=64)] | None = None
    """UpToDate, Progressing, Paused, Promoting or RolledBack."""
    reason: Annotated[str, Field(max_length=64)] | None = None
    """Why, in one word."""
    message: Message | None = None
    """Why, in a sentence."""
    stable_hash: Annotated[str, Field(max_length=64)] | None = None
    """Hash of the template that is known to be good."""
    deployment: Annotated[str, Field(max_length=253)] | None = None
    """Deployment of the template that is known to be good."""
    canary_hash: Annotated[str, Field(max_length=64)] | None = None
    """Hash of the template that is being rolled out."""
    rolled_back_hash: Annotated[str, Field(max_length=64)] | None = None
    """Hash of the template that was taken back; it is not tried again before the template changes."""
    step: Annotated[int, Field(ge=0, le=10)] | None = None
    """Step of the rollout, from 0 on."""
    workers: Count | None = None
    """Workers wanted of both versions together, while there are two."""
    started_at: Timestamp | None = None
    """When the rollout began."""
    step_started_at: Timestamp | None = None
    """When the step began."""
    watched_since: Timestamp | None = None
    """When the step's workers were all ready: its pause counts from then."""
    succeeded_jobs: Count | None = None
    """The new version's jobs that succeeded, of the newest 500."""
    failed_jobs: Count | None = None
    """The new version's jobs, or tries of them, that failed, of the newest 500."""
    restarts: Count | None = None
    """Restarts of the new version's workers."""


class WorkerPoolStatus(ResourceModel):
    """What the pool does; written by the operator."""

    replicas: Count | None = None
    """Workers that exist, stopping ones excluded."""
    ready_replicas: Count | None = None
    """Workers that are ready to take jobs."""
    busy_replicas: Count | None = None
    """Workers that have at least one job."""
    queue_depth: Count | None = None
    """Due and running jobs; absent while it could not be measured."""
    queue_health: Annotated[str, Field(max_length=64)] | None = None
    """Healthy, Degraded, Critical or Overload; as last known."""
    desired_replicas: Count | None = None
    """Workers that there should be."""
    last_scale_time: Timestamp | None = None
    """When the number of workers was last changed."""
    last_scale_reason: Annotated[str, Field(max_length=256)] | None = None
    """Why it was changed, or why it is held."""
    rollout: RolloutStatus | None = None
    """Where a rollout stands."""
    observed_generation: Generation | None = None
    """Generation of the object that this status is about."""
    conditions: Conditions = ()
    """ScalingActive (the number of workers follows the queue), DepthKnown (the queue could be measured),
    RolledOut (all workers run the current template; else why not), QueueHealthy (the queue is not too long),
    IntakeOpen (new jobs are taken), DispatchActive (due jobs are started)."""


class WorkerPool(ResourceModel):
    """The workers that serve one queue: how many of them, and how a new version is rolled out.
    `kubectl scale workerpool/NAME --replicas=N` holds a number by hand."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="metadata.name",
            cel=f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
            message=f"metadata.name: must be at most {MAX_NAME_LENGTH} characters",
            check=lambda pool: len(pool.metadata.name) <= MAX_NAME_LENGTH,
        ),
    )

    metadata: ObjectMeta
    spec: WorkerPoolSpec
    """The workers to run."""
    status: WorkerPoolStatus = WorkerPoolStatus()
    """What the pool does; written by the operator."""


DEFINITION = ResourceDefinition(
    kind="WorkerPool",
    plural="workerpools",
    singular="workerpool",
    short_name="wp",
    model=WorkerPool,
    columns=(
        PrinterColumn("Depth", ".status.queueDepth", "integer", "Due and running jobs"),
        PrinterColumn("Health", ".status.queueHealth", "string", "How healthy the queue is"),
        PrinterColumn("Desired", ".status.desiredReplicas", "integer", "Workers that there should be"),
        PrinterColumn("Ready", ".status.readyReplicas", "integer", "Workers that are ready to take jobs"),
        PrinterColumn("Busy", ".status.busyReplicas", "integer", "Workers that have a job"),
        PrinterColumn("Min", ".spec.scaling.minReplicas", "integer", "At least so many workers"),
        PrinterColumn("Max", ".spec.scaling.maxReplicas", "integer", "At most so many workers"),
        PrinterColumn(
            "Reason", ".status.lastScaleReason", description="Why the number was changed or is held"
        ),
        PrinterColumn("Age", ".metadata.creationTimestamp", "date", "Time since the object was created"),
        PrinterColumn(
            "Rollout", ".status.rollout.phase", "string", "What the rollout of the template does", 1
        ),
        PrinterColumn("Held", ".spec.replicas", "integer", "Number held by hand", 1),
        PrinterColumn("Paused", ".spec.paused", "boolean", "Whether scaling is paused", 1),
        PrinterColumn("Scaled", ".status.lastScaleTime", "date", "Time since the last change", 1),
    ),
    scalable=True,
)


def parse_worker_pool(body: Mapping[str, Any]) -> WorkerPool:
    """Read a WorkerPool from an object's JSON; raises InvalidResourceError naming the field."""
    return parse(WorkerPool, body)
