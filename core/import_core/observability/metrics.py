"""Names, labels and buckets of all metrics, in one place: prefix `imports_`, base units, bounded labels.

companyId, job ids and connection names are never labels: their number has no bound. Dashboards, alerts and
docs refer to the names here.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

JOB_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0)
"""Includes 300 s and 900 s, the targets for small jobs and for p95 of the platform."""
CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class WorkerMetrics:
    """What a worker counts. `provider` is the provider's type, "unknown" before it is known."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=True)
        r = self.registry
        ProcessCollector(registry=r)
        self.jobs = Counter(
            "imports_jobs",
            "Tries of jobs by outcome: completed, failed, retried, handed_back, lost",
            ["outcome", "provider"],
            registry=r,
        )
        self.job_seconds = Histogram(
            "imports_job_duration_seconds",
            "Duration of one try of a job",
            ["outcome", "provider"],
            buckets=JOB_SECONDS,
            registry=r,
        )
        self.messages_dropped = Counter(
            "imports_messages_dropped",
            "Messages that led to no claim: stale, unreadable, unavailable (database), stopping",
            ["reason"],
            registry=r,
        )
        self.products = Counter(
            "imports_products",
            "Products by outcome: imported, unchanged, failed",
            ["outcome", "provider"],
            registry=r,
        )
        self.images = Counter(
            "imports_images",
            "Images by outcome: imported, unchanged, failed",
            ["outcome", "provider"],
            registry=r,
        )
        self.pages = Counter("imports_pages", "Pages committed", ["provider"], registry=r)
        self.page_commit_seconds = Histogram(
            "imports_page_commit_duration_seconds",
            "Duration of a page's commit, outages waited for included",
            buckets=CALL_SECONDS,
            registry=r,
        )
        self.active_jobs = Gauge("imports_worker_active_jobs", "Jobs claimed by this worker", registry=r)
        self.concurrency = Gauge(
            "imports_worker_concurrency", "Jobs this worker runs at the same time at most", registry=r
        )
        self.lease_renewals = Counter(
            "imports_lease_renewals",
            "Renewals of leases by outcome: confirmed, lost, failed",
            ["outcome"],
            registry=r,
        )
        self.queue_errors = Counter(
            "imports_queue_errors",
            "Errors of the queue's locks, acknowledgements and connections; the jobs go on",
            registry=r,
        )
        self.provider_checks = Counter(
            "imports_provider_checks",
            "Checks of connections by outcome: ok, failed",
            ["outcome", "provider"],
            registry=r,
        )
        self.provider_failures = Counter(
            "imports_provider_failures",
            "API calls that a provider failed: no connection, no answer in time, a server error",
            ["provider"],
            registry=r,
        )
        self.provider_throttled = Counter(
            "imports_provider_throttled",
            "API calls that a provider refused as too many, although the limiter had granted them",
            ["provider"],
            registry=r,
        )
        self.event_loop_lag = Histogram(
            "imports_event_loop_lag_seconds",
            "How much later than asked for the event loop woke up",
            buckets=LAG_SECONDS,
            registry=r,
        )
