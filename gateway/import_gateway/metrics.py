"""The gateway's metrics: prefix `imports_`, base units, no label whose values are unbounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from import_core.observability.metrics import CALL_SECONDS
from import_core.observability.process_metrics import ProcessMetrics

REVIEW_RESULTS = ("allowed", "refused", "passed", "invalid", "failed")
STORES = ("queue", "company", "namespace")
SEARCH_OUTCOMES = ("fresh", "cached", "degraded")


class GatewayMetrics:
    """What a gateway counts. `route` is a route's pattern, never a path."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=True)
        r = self.registry
        ProcessCollector(registry=r)
        self.process = ProcessMetrics(r, process="gateway")
        self.requests = Counter(
            "imports_http_requests", "Answered requests", ["route", "method", "status"], registry=r
        )
        self.request_seconds = Histogram(
            "imports_http_request_duration_seconds",
            "Time to a request's answer; to the first byte where it is an event stream",
            ["route", "method"],
            buckets=CALL_SECONDS,
            registry=r,
        )
        self.requests_under_way = Gauge(
            "imports_http_requests_in_progress",
            "Requests that are being answered, event streams among them",
            registry=r,
        )
        self.listeners = Gauge("imports_live_listeners", "Open event streams", registry=r)
        self.events = Counter("imports_live_events", "Events sent to listeners", ["event"], registry=r)
        self.live_failures = Counter(
            "imports_live_failures",
            "Times that what listeners follow could not be heard of or read, by part: listen, jobs, objects, overview",
            ["part"],
            registry=r,
        )
        self.reviews = Counter(
            "imports_admission_reviews",
            "Admission reviews by result: allowed, refused, passed (not asked for), invalid (no review, too large or"
            " too slow), failed (no answer, through a fault of ours)",
            ["result"],
            registry=r,
        )
        self.review_seconds = Histogram(
            "imports_admission_review_duration_seconds",
            "Time to the answer to an admission review",
            buckets=CALL_SECONDS,
            registry=r,
        )
        self.store_questions = Counter(
            "imports_admission_questions",
            "Questions that admission asked a store, by what they were about: queue, company, namespace",
            ["about"],
            registry=r,
        )
        self.unanswered_questions = Counter(
            "imports_admission_questions_failed",
            "Questions of admission that a store did not answer: what is not known lets an import through",
            ["about"],
            registry=r,
        )
        self.searches = Counter(
            "imports_searches",
            "Answered searches by outcome: fresh, cached, degraded (an index or the cache did not answer)",
            ["outcome"],
            registry=r,
        )
        for outcome in SEARCH_OUTCOMES:
            self.searches.labels(outcome)
        for result in REVIEW_RESULTS:
            self.reviews.labels(result)
        for store in STORES:
            self.unanswered_questions.labels(store)
        self.certificate_expiry = Gauge(
            "imports_admission_certificate_expiry_timestamp_seconds",
            "When the admission webhook's certificate ends; 0 while there is none",
            registry=r,
        )
        self.certificate_steps = Counter(
            "imports_admission_certificate_steps",
            "Steps of making and exchanging the webhook's certificate, by this replica: make, prepare, publish, "
            "switch, retire, failed",
            ["step"],
            registry=r,
        )
