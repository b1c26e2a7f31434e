"""The gateway's metrics: prefix `imports_`, base units, no label whose values are unbounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from import_core.observability.metrics import CALL_SECONDS


class GatewayMetrics:
    """What a gateway counts. `route` is a route's pattern, never a path."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=True)
        r = self.registry
        ProcessCollector(registry=r)
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
        self.listeners = Gauge("imports_live_listeners", "Open event streams", registry=r)
        self.events = Counter("imports_live_events", "Events sent to listeners", ["event"], registry=r)
