"""`kubectl imports errors JOB`: why a job or single items of it failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from import_cli.printing import print_json, print_table, say
from import_cli.sources import NoDatabaseError, Sources, Stores, UsageError, is_object_name
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.reports import ItemFailure, ReasonCount
from import_core.domain.jobs import JobRow
from import_core.domain.projection import PHASES
from import_core.domain.projection import message as message_of
from import_core.domain.resources.import_job import JobPhase

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
    try:
        async with sources.stores() as stores:
            found = (
                await sources.kube.get(IMPORT_JOB, sources.namespace, job) if is_object_name(job) else None
            )
            row = await _row(stores, sources.namespace, job, found)
            if found is None and row is None:
                raise UsageError(
                    f"There is no ImportJob {job} in namespace {sources.namespace}, and no row with that id"
                )
            job_id = row.id if row else _id(found or {})
            total, reasons = await stores.reports.item_failure_reasons(job_id)
            items = await stores.reports.item_failures(job_id, limit=limit, documents=documents)
    except NoDatabaseError as error:
        raise UsageError("Failed items are kept in PostgreSQL: set DATABASE_URL") from error
    phase, message = _standing(row, found or {})
    return ErrorReport(job, job_id, phase, message, reasons, total, items)


def _standing(row: JobRow | None, found: dict[str, Any]) -> tuple[str, str | None]:
    """Phase and message. The row is authoritative; the object alone knows why a job was not recorded."""
    if row is not None:
        return PHASES[row.state].value, message_of(row)
    status = found.get("status") or {}
    return str(status.get("phase") or JobPhase.PENDING.value), status.get("message")


async def _row(stores: Stores, namespace: str, job: str, found: dict[str, Any] | None) -> JobRow | None:
    job_id: str | None = _id(found) if found else job
    row = (await stores.jobs.read([str(job_id)])).get(str(job_id))
    if row is None and found is None:
        # The history outlives the object, and people know a job by its name.
        job_id = await stores.reports.newest_finished(namespace, job)
        row = (await stores.jobs.read([job_id])).get(job_id) if job_id else None
    return row


def _id(body: dict[str, Any]) -> str:
    return str((body.get("status") or {}).get("jobId") or body["metadata"]["uid"])


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
