"""The operator's metrics: prefix `imports_`, base units, no label whose values are unbounded."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LOOP_SECONDS = Histogram(
    "imports_loop_duration_seconds",
    "Time that one round of a loop took",
    ["loop"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
LOOP_ERRORS = Counter("imports_loop_errors_total", "Rounds of a loop that failed", ["loop", "error"])
LOOP_LAST_SUCCESS = Gauge(
    "imports_loop_last_success_timestamp_seconds", "When a round of a loop last succeeded", ["loop"]
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
JOBS_HELD = Gauge("imports_jobs_held", "ImportJobs that wait to be recorded until there is room")
WORKERS_DESIRED = Gauge("imports_workers_desired", "Workers there should be", ["pool"])
SCALINGS = Counter("imports_scalings_total", "Changes of a pool's number of workers", ["pool", "direction"])
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
JOBS_STALLED_FAILED = Counter(
    "imports_jobs_stalled_failed_total", "Jobs failed because they made no progress for too long"
)
EVENTS = Counter("imports_events_total", "Kubernetes Events by what became of them", ["result"])
WATCH_RESTARTS = Counter(
    "imports_watch_restarts_total", "Times that watching the API server was started anew"
)
