"""`kubectl imports status`: one screen that answers the first questions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from import_cli.sources import Sources
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, WORKER_POOL, Kind
from import_core.adapters.postgres.jobs import DEPTH_CAP
from import_core.domain.jobs import JobState

MANY_PROVIDERS = 20
LAST_ERRORS = 5


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What the screen shows; `depth` None: unknown, which is not zero."""

    namespace: str
    depth: int | None
    pools: list[dict[str, Any]]
    jobs: dict[str, int]
    jobs_counted_in: str
    providers: list[dict[str, Any]]
    last_errors: list[dict[str, Any]]


async def run(sources: Sources, console: Console, *, as_json: bool) -> int:
    """Collect and print; always 0."""
    report = await collect(sources)
    if as_json:
        console.out(json.dumps(asdict(report), indent=2, default=str), highlight=False)
    else:
        show(report, console)
    return 0


async def collect(sources: Sources) -> StatusReport:
    """Read everything at once."""
    pools, providers, objects = await asyncio.gather(
        _all(sources, WORKER_POOL), _all(sources, IMPORT_PROVIDER), _all(sources, IMPORT_JOB)
    )
    depth: int | None
    if sources.jobs is not None and sources.reports is not None:
        queues = sorted({pool["spec"].get("queue", "") for pool in pools})
        depth = sum(value.total for value in (await sources.jobs.depth(queues)).values()) if queues else 0
        jobs = await sources.reports.states([state.value for state in JobState])
        errors = [
            {
                "job": failure.name or failure.job_id,
                "company": failure.company_id,
                "reason": failure.reason,
                "message": failure.message,
                "at": failure.completed_at,
            }
            for failure in await sources.reports.recent_failures(limit=LAST_ERRORS)
        ]
        counted_in = "PostgreSQL"
    else:
        depths: list[int | None] = [(pool.get("status") or {}).get("queueDepth") for pool in pools]
        known = [value for value in depths if value is not None]
        depth = sum(known) if len(known) == len(depths) else None
        jobs = dict(Counter((job.get("status") or {}).get("phase", "Pending") for job in objects))
        errors = _errors_of_objects(objects)
        counted_in = "objects"
    return StatusReport(
        sources.namespace,
        depth,
        [_pool(pool) for pool in pools],
        {state: count for state, count in jobs.items() if count},
        counted_in,
        [_provider(provider) for provider in providers],
        errors,
    )


def show(report: StatusReport, console: Console) -> None:
    """Print the report for people; every value of others is shown as text, never as markup."""
    depth = "unknown" if report.depth is None else _capped(report.depth)
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(report.jobs.items())) or "none"
    console.print(
        f"[bold]Depth[/] {depth}   [bold]Jobs[/] {jobs} [dim]({report.jobs_counted_in})[/]", highlight=False
    )
    pools = Table("POOL", "QUEUE", "DEPTH", "READY", "BUSY", "DESIRED", "MIN–MAX", "LAST DECISION", box=None)
    for pool in report.pools:
        pools.add_row(*(Text("–" if value is None else str(value)) for value in pool.values()))
    console.print(pools if report.pools else "[yellow]No WorkerPool: nothing runs jobs.[/]")
    if report.providers:
        providers = Table("PROVIDER", "TYPE", "COMPANY", "REACHABLE", "CREDENTIALS", "MESSAGE", box=None)
        # Those in trouble first: they are why somebody looks.
        ordered = sorted(
            report.providers, key=lambda p: (p["reachable"], p["credentials"]) == ("True", "True")
        )
        for provider in ordered[:MANY_PROVIDERS]:
            providers.add_row(*(Text(str(value or "–")) for value in provider.values()))
        console.print(providers)
        if len(ordered) > MANY_PROVIDERS:
            console.print(f"[dim]… and {len(ordered) - MANY_PROVIDERS} more providers[/]")
    if report.last_errors:
        errors = Table("LAST ERRORS", "COMPANY", "REASON", "MESSAGE", box=None)
        for error in report.last_errors:
            errors.add_row(*(Text(str(error[key] or "–")) for key in ("job", "company", "reason", "message")))
        console.print(errors)


async def _all(sources: Sources, kind: Kind) -> list[dict[str, Any]]:
    return [item async for item in sources.kube.list(kind, sources.namespace)]


def _pool(pool: dict[str, Any]) -> dict[str, Any]:
    spec, status = pool["spec"], pool.get("status") or {}
    scaling = spec.get("scaling") or {}
    return {
        "name": pool["metadata"]["name"],
        "queue": spec.get("queue"),
        "depth": status.get("queueDepth"),
        "ready": status.get("readyReplicas"),
        "busy": status.get("busyReplicas"),
        "desired": status.get("desiredReplicas"),
        "bounds": f"{scaling.get('minReplicas')}–{scaling.get('maxReplicas')}",
        "reason": status.get("lastScaleReason"),
    }


def _provider(provider: dict[str, Any]) -> dict[str, Any]:
    conditions = {c["type"]: c for c in (provider.get("status") or {}).get("conditions") or []}
    reachable = conditions.get("Reachable", {}).get("status", "Unknown")
    valid = conditions.get("CredentialsValid", {}).get("status", "Unknown")
    healthy = reachable == valid == "True"
    return {
        "name": provider["metadata"]["name"],
        "type": provider["spec"].get("type"),
        "company": provider["spec"].get("companyId"),
        "reachable": reachable,
        "credentials": valid,
        "message": None if healthy else (provider.get("status") or {}).get("message"),
    }


def _errors_of_objects(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    failed = [job for job in objects if (job.get("status") or {}).get("phase") == "Failed"]
    failed.sort(key=lambda job: str(job["status"].get("completedAt") or ""), reverse=True)
    return [
        {
            "job": job["metadata"]["name"],
            "company": job["spec"].get("companyId"),
            "reason": _failed_reason(job),
            "message": job["status"].get("message"),
            "at": job["status"].get("completedAt"),
        }
        for job in failed[:LAST_ERRORS]
    ]


def _failed_reason(job: dict[str, Any]) -> str | None:
    for condition in job["status"].get("conditions") or []:
        if condition["type"] == "Failed":
            return str(condition.get("reason"))
    return None


def _capped(depth: int) -> str:
    return f"{depth:,}" if depth < DEPTH_CAP else f"over {DEPTH_CAP - 1:,}"
