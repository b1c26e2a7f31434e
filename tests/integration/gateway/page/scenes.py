"""What the stand-in shows: jobs, queues and workers as an installation at work has them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from stand_in import NAMESPACE, StandIn

Json = dict[str, Any]
QUEUE = "product-imports"


def when(seconds_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()


def job(name: str, phase: str = "Running", **values: Any) -> Json:
    """An import; times and counters that fit its phase where not given."""
    progress = values.pop(
        "progress", {"productsTotal": 200, "productsDone": 50, "productsImported": 50, "percent": 25}
    )
    times = {"queuedAt": when(90)}
    if phase not in {"Queued", "Pending"}:
        times["startedAt"] = when(60)
    if phase in {"Succeeded", "Failed", "Cancelled"}:
        times["completedAt"] = when(5)
    return {
        "namespace": NAMESPACE,
        "name": name,
        "id": f"id-{name}",
        "companyId": "acme",
        "provider": "acme-shopify",
        "queue": QUEUE,
        "phase": phase,
        "attempts": 1,
        "progress": progress if phase != "Queued" else {},
        **times,
        **values,
    }


def queue(**values: Any) -> Json:
    """A healthy queue, where not said otherwise."""
    thresholds = {"degradedAbove": 1_000, "criticalAbove": 5_000, "overloadAbove": 10_000}
    return {
        "queue": QUEUE,
        "level": "healthy",
        "depth": 42,
        "due": 38,
        "running": 4,
        "thresholds": thresholds,
        "workersDesired": 3,
        **values,
    }


def worker(number: int, jobs: int = 4, state: str = "ready") -> Json:
    return {
        "id": f"w{number}",
        "pod": f"workers-7c9d-{number:02}",
        "queue": QUEUE,
        "state": state,
        "concurrency": 5,
        "jobs": jobs,
        "startedAt": when(3600),
    }


def start_scene(stand_in: StandIn) -> None:
    """Two running jobs, one waiting, one failed, one finished; two workers."""
    stand_in.put_queue(queue())
    stand_in.put_workers(worker(1), worker(2, jobs=0))
    stand_in.put_jobs(
        job("acme-autumn"),
        job("bolt-spring", companyId="bolt", provider="bolt-roastify"),
        job(
            "cafe-menu",
            "Queued",
            companyId="cafe",
            waitingReason="QueueFull",
            estimate={"place": 12, "secondsUntilStart": 40.0},
        ),
        job(
            "dune-shoes",
            "Failed",
            companyId="dune",
            reason="CredentialsInvalid",
            message="The store refused the token: renew it in the store's settings",
            progress={
                "productsTotal": 200,
                "productsDone": 120,
                "productsImported": 100,
                "productsFailed": 20,
                "percent": 60,
            },
        ),
        job(
            "echo-tea",
            "Succeeded",
            companyId="echo",
            progress={"productsTotal": 80, "productsDone": 80, "productsImported": 80, "percent": 100},
        ),
    )
