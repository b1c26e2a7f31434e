"""`kubectl imports errors JOB`: why a job or single items of it failed."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from import_cli.sources import Sources, UsageError
from import_core.adapters.kube.resources import IMPORT_JOB


async def run(sources: Sources, console: Console, *, job: str, limit: int, as_json: bool) -> int:
    """Print the job's message and its failed items; always 0."""
    reports = sources.require_reports("Failed items")
    found = await sources.kube.get(IMPORT_JOB, sources.namespace, job)
    # A row that the platform's API inserted by itself has no object; its id is its name.
    job_id = str(
        ((found or {}).get("status") or {}).get("jobId")
        or ((found or {}).get("metadata") or {}).get("uid")
        or job
    )
    row = (await sources.jobs.read([job_id])).get(job_id) if sources.jobs is not None else None
    status = (found or {}).get("status") or {}
    if found is None and row is None:
        raise UsageError(
            f"There is no ImportJob {job} in namespace {sources.namespace}, and no row with that id"
        )
    message = status.get("message") or (row.message if row else None)
    phase = status.get("phase") or (row.state.value if row else "Pending")
    items = await reports.item_failures(job_id, limit=limit)
    reasons = await reports.item_failure_reasons(job_id)
    if as_json:
        document = {
            "job": job,
            "phase": phase,
            "message": message,
            "reasons": [
                {"stage": stage, "reason": reason, "count": count} for stage, reason, count in reasons
            ],
            "items": [asdict(item) for item in items],
        }
        console.out(json.dumps(document, indent=2, default=str), highlight=False)
        return 0
    console.print(f"{job}: {phase}. {message or ''}".rstrip(), markup=False, highlight=False)
    if not items:
        console.print("No product and no image failed.")
        return 0
    console.print(", ".join(f"{count} {stage}/{reason}" for stage, reason, count in reasons), markup=False)
    table = Table("PRODUCT", "STAGE", "REASON", "MESSAGE", "IMAGE", box=None)
    for item in items:
        table.add_row(
            *(Text(value) for value in (item.external_id, item.stage, item.reason, item.message, item.url))
        )
    console.print(table)
    total = sum(count for _, _, count in reasons)
    if total > len(items):
        console.print(f"… and {total - len(items)} more: --limit {min(total, 10_000)}", highlight=False)
    return 0
