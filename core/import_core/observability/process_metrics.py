"""What every process tells of itself: its version, its neighbours, and how late its event loop is."""

from __future__ import annotations

import asyncio
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Gauge, Histogram

from import_core.observability.logs import get_logger

log = get_logger(__name__)

DISTRIBUTION = "import-operator"
LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
MEASURE_EVERY_SECONDS = 0.5
TELL_ABOVE_SECONDS = 1.0


class ProcessMetrics:
    """One for each process, in its own registry."""

    def __init__(self, registry: CollectorRegistry, *, process: str) -> None:
        self.build = Gauge(
            "imports_build_info",
            "1, with the version that runs; `process`: operator, worker, gateway",
            ["process", "version"],
            registry=registry,
        )
        self.build.labels(process, _version()).set(1)
        self.neighbours = Gauge(
            "imports_neighbour_up",
            "1 while the neighbour (PostgreSQL, Redis) answers this process",
            ["neighbour"],
            registry=registry,
        )
        self.event_loop_lag = Histogram(
            "imports_event_loop_lag_seconds",
            "How much later than asked for the event loop woke up",
            buckets=LAG_SECONDS,
            registry=registry,
        )

    def show_neighbour(self, name: str, there: bool) -> None:
        """Tell whether a neighbour answers; the names are those of the code."""
        self.neighbours.labels(name).set(there)


async def measure_lag(lag: Histogram, *, every_seconds: float = MEASURE_EVERY_SECONDS) -> None:
    """Observe for ever how late the event loop wakes up: a blocked one renews no leases, and is behind with all."""
    clock = asyncio.get_running_loop().time
    while True:
        before = clock()
        await asyncio.sleep(every_seconds)
        late = max(0.0, clock() - before - every_seconds)
        lag.observe(late)
        if late > TELL_ABOVE_SECONDS:
            log.warning("event_loop.blocked", duration=round(late * 1000))


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
