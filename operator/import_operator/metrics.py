"""The operator's metrics: prefix `imports_`, base units, no label whose values are unbounded."""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from import_core.domain.repairs import RepairKind
from import_core.observability.labels import BoundedNames
from import_core.observability.process_metrics import ProcessMetrics

PROCESS = ProcessMetrics(REGISTRY, process="operator")
LOOP_SECONDS = Histogram(
    "imports_loop_duration_seconds",
    "Time that one round of a loop took",
    ["loop"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
LOOP_ERRORS = Counter("imports_loop_errors_total", "Rounds of a loop that failed", ["loop", "error"])
LOOP_LAST_SUCCESS = Gauge(
    "imports_loop_last_success_timestamp_seconds",
    "When a round of a loop last succeeded; until the first one, when the loop began. `listen` has none: its round"
    " lasts as long as its connection",
    ["loop"],
)
LOOP_INTERVAL = Gauge(
    "imports_loop_interval_seconds", "Longest planned time from a round of a loop to the next", ["loop"]
)
LOOP_LAG = Histogram(
    "imports_loop_lag_seconds",
    "How much later than planned a round of a loop began: those before failed, or the process is busy",
    ["loop"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
LEADING = Gauge("imports_leading", "1 on the replica that leads")
JOBS_RECORDED = Counter("imports_jobs_recorded_total", "ImportJobs written to PostgreSQL (new or changed)")
JOBS_REFUSED = Counter("imports_jobs_refused_total", "ImportJobs refused", ["reason"])
JOBS_CANCELLED = Counter("imports_jobs_cancelled_total", "Jobs cancelled because their object is gone")
JOBS_REOPENED = Counter(
    "imports_jobs_reopened_total", "Finished jobs that run again because an annotation asked", ["action"]
)
OBJECTS_SWEPT = Counter(
    "imports_objects_swept_total", "Finished ImportJobs by what became of them", ["result"]
)
HISTORY_SWEPT = Counter("imports_history_swept_total", "Rows of jobs deleted because they were old")
JOBS_DISPATCHED = Counter("imports_jobs_dispatched_total", "Jobs handed to Redis", ["queue"])
JOBS_DISPATCHED_AGAIN = Counter(
    "imports_jobs_dispatched_again_total", "Hand-overs repeated because Redis lost them", ["queue"]
)
CLAIMS_ENDED = Counter("imports_claims_ended_total", "Claims ended for their worker", ["cause"])
STATUS_PATCHES = Counter("imports_status_patches_total", "Status patches", ["kind", "result"])
STATUS_WAITING = Gauge("imports_status_patches_waiting", "ImportJobs whose status waits to be patched")
QUEUE_DEPTH = Gauge("imports_queue_depth", "Due and running jobs", ["queue"])
QUEUE_JOBS = Gauge(
    "imports_queue_jobs",
    "Jobs in PostgreSQL by state: waiting (due), dispatched (handed to Redis, not claimed), active, delayed (due"
    " later), paused (suspended, or of a paused queue, company or connection); completed and failed within the last"
    " hour. Each is counted up to 100,001",
    ["queue", "state"],
)
QUEUE_OLDEST = Gauge(
    "imports_queue_oldest_waiting_age_seconds",
    "How long the oldest due job waits that nobody has paused; 0 while none waits",
    ["queue"],
)
QUEUE_MESSAGES = Gauge(
    "imports_queue_messages",
    "Messages in Redis by BullMQ's state: waiting, active, delayed, failed",
    ["queue", "state"],
)
QUEUE_PAUSED = Gauge("imports_queue_paused", "1 while the queue hands out nothing", ["queue"])
QUEUE_HEALTH = Gauge("imports_queue_health_level", "0 healthy, 1 degraded, 2 critical, 3 overload", ["queue"])
INTAKE_STOPPED = Gauge("imports_intake_stopped", "1 while no new jobs are taken", ["queue"])
DISPATCH_PAUSED = Gauge(
    "imports_dispatch_paused", "1 while no jobs are started: by hand, or in an emergency", ["queue"]
)
EMERGENCY_PAUSED = Gauge(
    "imports_emergency_pause", "1 from an emergency pause on until its trial has succeeded", ["queue"]
)
STARTS_PER_MINUTE = Gauge("imports_job_starts_per_minute", "Jobs started in the last minute", ["queue"])
ROLLOUTS = Counter("imports_rollouts_total", "Rollouts of templates by how they ended", ["pool", "result"])
ROLLOUT_UNDER_WAY = Gauge("imports_rollout_under_way", "1 while a new template is rolled out", ["pool"])
JOBS_HELD = Gauge("imports_jobs_held", "ImportJobs that wait to be recorded until there is room")
SCHEDULE_RUNS = Counter("imports_schedule_runs_total", "ImportJobs that schedules have made")
SCHEDULE_MISSED = Counter(
    "imports_schedule_missed_total",
    "Runs of schedules that never start: too late, a later one was due, or the name of their job is taken",
    ["reason"],
)
SCHEDULES_HELD = Gauge(
    "imports_schedules_held", "Schedules whose due run waits, by what it waits for", ["reason"]
)
SCHEDULE_DELAY = Histogram(
    "imports_schedule_start_delay_seconds",
    "From the planned start of a schedule's run, jitter included, to its ImportJob",
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
)
WORKERS_DESIRED = Gauge("imports_workers_desired", "Workers there should be", ["pool"])
WORKERS = Gauge("imports_workers", "Workers that the pool's Deployment has", ["pool"])
WORKERS_READY = Gauge("imports_workers_ready", "Workers of the pool that are ready", ["pool"])
WORKERS_MINIMUM = Gauge("imports_workers_minimum", "Least workers the pool may have", ["pool"])
WORKERS_MAXIMUM = Gauge("imports_workers_maximum", "Most workers the pool may have", ["pool"])
QUEUE_WORKERS = Gauge(
    "imports_queue_workers",
    "Workers of the queue that say themselves that they are ready, in the last 45 s",
    ["queue"],
)
WORKERS_BUSY = Gauge("imports_workers_busy", "Workers that have claimed at least one job", ["queue"])
WORKER_RESTARTS = Counter(
    "imports_worker_restarts_total",
    "Restarts of worker containers by what ended the process: OutOfMemory, Error, Exit (code 0), Unknown",
    ["pool", "cause"],
)
SCALINGS = Counter("imports_scalings_total", "Changes of a pool's number of workers", ["pool", "direction"])
SCALING_REASONS = Counter(
    "imports_scaling_reasons_total",
    "Times that the number of a pool's workers came to stand, or to change, for another reason",
    ["pool", "reason"],
)
WORKERS_LEAVING = Gauge("imports_workers_leaving", "Workers that drain, or have drained and go", ["pool"])
DRAIN_ERRORS = Counter(
    "imports_drain_errors_total", "Steps of the drain handshake that failed and are done again", ["error"]
)
POD_MARKS = Counter(
    "imports_pod_marks_total",
    "Patches of workers' pods: deletion cost and protection of busy ones",
    ["result"],
)
SCALING_REACTION = Histogram(
    "imports_scaling_reaction_seconds",
    "From the measurement that showed another need to the accepted change of replicas",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
VANISHED_GUARD = Counter(
    "imports_vanished_guard_total",
    "Times that cancelling jobs without object was refused as too many at once",
)
CANCELLATIONS_WITHHELD = Gauge(
    "imports_cancellations_withheld", "Jobs without object that the guard keeps from being cancelled"
)
BREAKERS = Gauge(
    "imports_provider_breakers", "Circuit breakers of connections by state", ["provider", "state"]
)
BREAKER_CHANGES = Counter(
    "imports_provider_breaker_changes_total",
    "Circuit breakers that opened or closed, probes in between not counted",
    ["provider", "change"],
)
REPAIRS = Counter("imports_repairs_total", "What was found wrong and put right", ["kind"])
for _kind in RepairKind:
    # A counter that begins with its first event hides that event from `increase`.
    REPAIRS.labels(_kind.value)
JOBS_STALLED_FAILED = Counter(
    "imports_jobs_stalled_failed_total", "Jobs failed because they made no progress for too long"
)
WEBHOOKS = Gauge(
    "imports_webhooks",
    "Webhooks of connections by state: active, failing (since the last attempt), disabled",
    ["state"],
)
WEBHOOK_OLDEST = Gauge(
    "imports_webhook_oldest_waiting_age_seconds",
    "How long the oldest message to a webhook waits that is next to be sent; 0 while none waits",
)
OBJECTS = Gauge("imports_objects", "Live custom resources in the namespace", ["kind"])
EVENTS = Counter("imports_events_total", "Kubernetes Events by what became of them", ["result"])
WATCH_RESTARTS = Counter(
    "imports_watch_restarts_total", "Times that watching the API server was started anew"
)

_POOLS, _QUEUES = BoundedNames(), BoundedNames()
_OF_POOLS = (
    WORKERS,
    WORKERS_READY,
    WORKERS_MINIMUM,
    WORKERS_MAXIMUM,
    WORKERS_DESIRED,
    WORKER_RESTARTS,
    WORKERS_LEAVING,
    SCALINGS,
    SCALING_REASONS,
    ROLLOUT_UNDER_WAY,
    ROLLOUTS,
)
_OF_QUEUES = (
    QUEUE_JOBS,
    QUEUE_OLDEST,
    QUEUE_MESSAGES,
    QUEUE_DEPTH,
    QUEUE_PAUSED,
    QUEUE_HEALTH,
    INTAKE_STOPPED,
    DISPATCH_PAUSED,
    EMERGENCY_PAUSED,
    STARTS_PER_MINUTE,
    QUEUE_WORKERS,
    WORKERS_BUSY,
    JOBS_DISPATCHED,
    JOBS_DISPATCHED_AGAIN,
)


def pool_label(name: str) -> str:
    """A pool's name as a label; at most so many are told apart (`labels.MOST_VALUES`)."""
    return _POOLS.label(name)


def queue_label(name: str) -> str:
    """A queue's name as a label."""
    return _QUEUES.label(name)


def forget_names(*, pools: set[str], queues: set[str]) -> None:
    """Drop the series of pools and queues that are not among these any more."""
    for pool in _POOLS.forget_all_but(pools):
        for metric in _OF_POOLS:
            metric.remove_by_labels({"pool": pool})
    for queue in _QUEUES.forget_all_but(queues):
        for metric in _OF_QUEUES:
            metric.remove_by_labels({"queue": queue})
