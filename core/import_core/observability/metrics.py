"""Names, labels and buckets of the workers' metrics: prefix `imports_`, base units, bounded labels.

companyId, job ids and connection names are never labels: their number has no bound. Dashboards, alerts and
docs refer to the names here.
"""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from import_core.domain.jobs import Tier
from import_core.observability.labels import PROVIDERS
from import_core.observability.process_metrics import ProcessMetrics

JOB_SECONDS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0)
"""Includes 300 s and 900 s, the targets for small jobs and for p95 of the platform."""
WAIT_SECONDS = (0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0)
CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PHASE_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LIMIT_WAIT_SECONDS = (0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
PRODUCTS = (0.0, 1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 20_000.0)
IMAGES = (0.0, 1.0, 10.0, 100.0, 500.0, 1000.0, 5000.0, 10_000.0, 50_000.0, 100_000.0, 200_000.0)
QUALITY_DECISIONS = ("approved", "rejected", "flagged")
QUALITY_SOURCES = ("rules", "model", "cache", "person")
MODEL_OUTCOMES = (
    *("answered", "blocked", "truncated", "unreadable", "empty"),
    *("throttled", "unavailable", "refused", "cancelled"),
)
JOB_OUTCOMES = ("completed", "failed", "retried", "handed_back", "lost")


class WorkerMetrics:
    """What a worker counts. `provider` is the provider's type, `tier` the company's; see `labels`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self.process = ProcessMetrics(self.registry, process="worker")
        self._jobs(self.registry)
        self._pages(self.registry)
        self._providers(self.registry)
        self._webhooks(self.registry)
        self._worker(self.registry)
        self._quality(self.registry)

    def _jobs(self, r: CollectorRegistry) -> None:
        self.jobs = Counter(
            "imports_jobs",
            "Tries of jobs by outcome: completed, failed, retried, handed_back, lost",
            ["outcome", "provider", "tier"],
            registry=r,
        )
        # A counter that begins with its first event hides that event from `increase`.
        for outcome, provider, tier in product(JOB_OUTCOMES, PROVIDERS, Tier):
            self.jobs.labels(outcome, provider, tier.value)
        self.job_seconds = Histogram(
            "imports_job_duration_seconds",
            "Duration of one try of a job",
            ["outcome", "provider", "tier"],
            buckets=JOB_SECONDS,
            registry=r,
        )
        self.job_turnaround = Histogram(
            "imports_job_turnaround_seconds",
            "From a job's first start to its completion, retries and waits between included; `size`: small (under"
            " 100 products), medium (under 1,000), large",
            ["provider", "tier", "size"],
            buckets=JOB_SECONDS,
            registry=r,
        )
        self.job_wait = Histogram(
            "imports_job_wait_seconds",
            "From the moment that a job waits for its run to its first start",
            ["tier"],
            buckets=WAIT_SECONDS,
            registry=r,
        )
        self.job_products = Histogram(
            "imports_job_products",
            "Products of a completed job, failed ones included",
            ["provider", "tier"],
            buckets=PRODUCTS,
            registry=r,
        )
        self.job_images = Histogram(
            "imports_job_images",
            "Images of a completed job, failed ones included",
            ["provider", "tier"],
            buckets=IMAGES,
            registry=r,
        )
        self.messages_dropped = Counter(
            "imports_messages_dropped",
            "Messages that led to no claim: stale, unreadable, unavailable (database), stopping",
            ["reason"],
            registry=r,
        )

    def _pages(self, r: CollectorRegistry) -> None:
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
        self.step_products = Counter(
            "imports_step_products",
            "Products of steps after the import by outcome: done, retried, postponed, dead; held: its setup is wrong",
            ["step", "outcome"],
            registry=r,
        )
        self.pages = Counter("imports_pages", "Pages committed", ["provider"], registry=r)
        self.phase_seconds = Histogram(
            "imports_page_phase_duration_seconds",
            "Time of a page in a phase: fetch (waited for, beside the page before), map (beside it), images, commit",
            ["phase", "provider"],
            buckets=PHASE_SECONDS,
            registry=r,
        )
        self.page_commit_seconds = Histogram(
            "imports_page_commit_duration_seconds",
            "Duration of a page's commit, outages waited for included",
            buckets=CALL_SECONDS,
            registry=r,
        )

    def _providers(self, r: CollectorRegistry) -> None:
        self.provider_requests = Counter(
            "imports_provider_requests",
            "API calls by how they ended: ok, refused (4xx), throttled, server_error, timeout, unreachable,"
            " unreadable, cancelled",
            ["provider", "outcome"],
            registry=r,
        )
        self.provider_request_seconds = Histogram(
            "imports_provider_request_duration_seconds",
            "Time from sending an API call to its whole answer, or to its failure",
            ["provider"],
            buckets=CALL_SECONDS,
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
            "Violations: API calls that a provider refused as too many, although the limiter had granted them",
            ["provider"],
            registry=r,
        )
        self.provider_limit_wait = Histogram(
            "imports_provider_limit_wait_seconds",
            "Time that an API call waited for the limiter's grant",
            ["provider"],
            buckets=LIMIT_WAIT_SECONDS,
            registry=r,
        )
        self.provider_limit_exceeded = Counter(
            "imports_provider_limit_exceeded",
            "API calls whose turn was too far away: their job gave its place up and comes back",
            ["provider"],
            registry=r,
        )
        self.provider_breaker_refusals = Counter(
            "imports_provider_breaker_refusals",
            "API calls that were not sent because the connection's circuit breaker is open",
            ["provider"],
            registry=r,
        )
        for provider in PROVIDERS:
            for counter in (
                self.provider_failures,
                self.provider_throttled,
                self.provider_limit_exceeded,
                self.provider_breaker_refusals,
            ):
                counter.labels(provider)

    def _webhooks(self, r: CollectorRegistry) -> None:
        self.webhook_deliveries = Counter(
            "imports_webhook_deliveries",
            "Attempts to deliver messages to webhooks by result: delivered, failed (tried again), abandoned",
            ["result"],
            registry=r,
        )
        for result in ("delivered", "failed", "abandoned"):
            self.webhook_deliveries.labels(result)
        self.webhook_seconds = Histogram(
            "imports_webhook_attempt_duration_seconds",
            "Duration of one attempt to deliver a message to a webhook",
            buckets=CALL_SECONDS,
            registry=r,
        )

    def _worker(self, r: CollectorRegistry) -> None:
        self.active_jobs = Gauge("imports_worker_active_jobs", "Jobs claimed by this worker", registry=r)
        self.queue_info = Gauge(
            "imports_worker_queue_info",
            "1, with the queue that this worker serves: what it counts of jobs is of that queue",
            ["queue"],
            registry=r,
        )
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

    def _quality(self, r: CollectorRegistry) -> None:
        self.quality_decisions = Counter(
            "imports_quality_decisions",
            "Products that quality control decided on: approved, rejected, flagged (for a person); `source`: rules,"
            " model, cache (the model's word, kept), person",
            ["decision", "source"],
            registry=r,
        )
        for decision, source in product(QUALITY_DECISIONS, QUALITY_SOURCES):
            self.quality_decisions.labels(decision, source)
        self.quality_model_calls = Counter(
            "imports_quality_model_calls",
            "Calls of quality control's model by how they ended: answered, blocked (it will not speak of it),"
            " truncated, unreadable, empty, throttled, unavailable, refused (4xx), cancelled",
            ["outcome"],
            registry=r,
        )
        for outcome in MODEL_OUTCOMES:
            self.quality_model_calls.labels(outcome)
        self.quality_model_seconds = Histogram(
            "imports_quality_model_call_duration_seconds",
            "Duration of a call of quality control's model, however it ended",
            buckets=CALL_SECONDS,
            registry=r,
        )
        self.quality_model_tokens = Counter(
            "imports_quality_model_tokens",
            "Tokens of quality control's model as it counts them: input, output (its thoughts included)",
            ["direction"],
            registry=r,
        )
