"""`kubectl imports errors JOB`: why a job or single items of it failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from import_cli.finding import find_job
from import_cli.printing import print_json, print_table, say
from import_cli.sources import Sources
from import_core.adapters.postgres.reports import ItemFailure, ReasonCount

MAX_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """A job's own message, its failed items up to the limit, and how many there are of each reason."""

    job: str
    job_id: str
    phase: str
    message: str | None
    reasons: list[ReasonCount]
    total: int
    items: list[ItemFailure]


async def run(sources: Sources, console: Console, *, job: str, limit: int, as_json: bool) -> int:
    """Print the job's message and its failed items; always 0.

    Raises UsageError when there is no such job or no DATABASE_URL, DatabaseUnavailableError.
    """
    report = await collect(sources, job, limit, documents=as_json)
    if as_json:
        print_json(console, _document(report))
    else:
        show(report, console, limit)
    return 0


async def collect(sources: Sources, job: str, limit: int, *, documents: bool = False) -> ErrorReport:
    """Read the job by its object's name, or by its row's id where it has no object (any more)."""
    async with sources.needed_stores("Failed items are kept in PostgreSQL") as stores:
        found = await find_job(sources, stores, job)
        total, reasons = await stores.reports.item_failure_reasons(found.id)
        items = await stores.reports.item_failures(found.id, limit=limit, documents=documents)
    phase, message = found.standing()
    return ErrorReport(job, found.id, phase, message, reasons, total, items)


def show(report: ErrorReport, console: Console, limit: int) -> None:
    """Print the report for people."""
    say(console, f"{report.job}: {report.phase}. {report.message or ''}".rstrip())
    if not report.total:
        say(console, "No product and no image failed.")
        return
    say(console, ", ".join(f"{reason.count} {reason.stage}/{reason.reason}" for reason in report.reasons))
    print_table(
        console,
        ("PRODUCT", "STAGE", "REASON", "IMAGE", "MESSAGE"),
        [(item.external_id, item.stage, item.reason, item.url, item.message) for item in report.items],
    )
    missing = report.total - len(report.items)
    if missing > 0:
        more = f": --limit {min(report.total, MAX_ITEMS)}" if limit < MAX_ITEMS else ""
        say(console, f"… and {missing} more{more}", style="dim")
    say(console, "-o json shows what the source gave for each of them", style="dim")


def _document(report: ErrorReport) -> dict[str, Any]:
    return {
        "job": report.job,
        "jobId": report.job_id,
        "phase": report.phase,
        "message": report.message,
        "total": report.total,
        "reasons": [
            {"stage": reason.stage, "reason": reason.reason, "count": reason.count}
            for reason in report.reasons
        ],
        "items": [
            {
                "externalId": item.external_id,
                "stage": item.stage,
                "reason": item.reason,
                "url": item.url or None,
                "message": item.message,
                "at": item.at,
                "document": item.document,
            }
            for item in report.items
        ],
    }
