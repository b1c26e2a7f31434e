"""`kubectl imports watch JOB`: a progress bar, the place in the queue, the estimated time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from import_cli.sources import Sources, UsageError
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.estimates import seconds_until_done, seconds_until_start
from import_core.domain.jobs import JobRow, JobState

REFRESH_SECONDS = 2.0
FINAL_PHASES = frozenset({"Succeeded", "Failed", "Cancelled"})


async def run(sources: Sources, console: Console, *, job: str, timeout_seconds: float | None) -> int:
    """Follow the job to its end: 0 when it succeeded, 1 otherwise."""
    await sources.get_job(job)
    try:
        async with asyncio.timeout(timeout_seconds):
            final = await _follow(sources, console, job)
    except TimeoutError as error:
        raise UsageError(
            f"{job} is not finished after {timeout_seconds:g} s; it goes on without you"
        ) from error
    if final is None:
        console.print(f"{job} was deleted; its work is cancelled.", markup=False, highlight=False)
        return 1
    status = final["status"]
    message = status.get("message") or ""
    console.print(f"{job}: {status['phase']}. {message}".rstrip(), markup=False, highlight=False)
    failed = (status.get("progress") or {}).get("productsFailed") or (status.get("progress") or {}).get(
        "imagesFailed"
    )
    if failed:
        console.print(f"Some items failed: kubectl imports errors {job}", markup=False, highlight=False)
    return 0 if status["phase"] == "Succeeded" else 1


async def _follow(sources: Sources, console: Console, name: str) -> dict[str, Any] | None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        view = _View(bar, console, name)
        ticker = asyncio.create_task(_refresh(sources, view), name="refresh")
        versions = sources.kube.watch_one(IMPORT_JOB, sources.namespace, name)
        try:
            async for version in versions:
                if version is None:
                    return None
                view.show(version)
                if view.phase in FINAL_PHASES:
                    return version
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
    return None


class _View:
    """What is on the screen: the object's status, and beside it what only the database knows."""

    def __init__(self, bar: Progress, console: Console, name: str) -> None:
        self._bar = bar
        self._console = console
        self._name = name
        self._task: TaskID = bar.add_task(name, total=100, detail="")
        self._status: dict[str, Any] = {}
        self._outlook = ""
        self._printed = ""

    @property
    def phase(self) -> str:
        """The phase shown."""
        return str(self._status.get("phase", "Pending"))

    @property
    def job_id(self) -> str | None:
        """The row's id, once recorded."""
        return self._status.get("jobId")

    def show(self, version: dict[str, Any]) -> None:
        """Take in a version of the object."""
        self._status = version.get("status") or {}
        self._draw()

    def outlook(self, text: str) -> None:
        """Take in an estimate."""
        self._outlook = text
        self._draw()

    def _draw(self) -> None:
        progress = self._status.get("progress") or {}
        parts = [self.phase]
        if self.phase == "Queued" and self._status.get("waitingReason"):
            parts.append(f"waits: {self._status['waitingReason']}")
        if progress.get("productsTotal"):
            done = sum(
                progress.get(key) or 0 for key in ("productsImported", "productsUnchanged", "productsFailed")
            )
            parts.append(f"{done}/{progress['productsTotal']} products")
        if progress.get("imagesImported"):
            parts.append(f"{progress['imagesImported']} images")
        if self._outlook and self.phase not in FINAL_PHASES:
            parts.append(self._outlook)
        if self.phase in {"Pending", "Queued"} and self._status.get("message"):
            parts.append(str(self._status["message"]))
        percent = progress.get("percent") or 0
        detail = " · ".join(parts)
        self._bar.update(self._task, completed=percent, detail=detail)
        if not self._console.is_terminal and detail != self._printed:
            self._printed = detail
            self._console.print(f"{self._name} {percent}% {detail}", markup=False, highlight=False)


async def _refresh(sources: Sources, view: _View) -> None:
    jobs, reports = sources.jobs, sources.reports
    if jobs is None or reports is None:
        return
    while True:
        if view.job_id is not None:
            try:
                row = (await jobs.read([view.job_id])).get(view.job_id)
                if row is not None:
                    view.outlook(await _outlook(sources, row))
            except DatabaseUnavailableError:
                # The object is still followed; only the estimate is missing, and the screen says so.
                view.outlook("estimate unknown: the database is away")
        await asyncio.sleep(REFRESH_SECONDS)


async def _outlook(sources: Sources, row: JobRow) -> str:
    jobs, reports = sources.jobs, sources.reports
    if jobs is None or reports is None:
        return ""
    if row.state is JobState.IN_PROGRESS:
        return _about(
            seconds_until_done(row.progress, started_at=row.started_at, now=datetime.now(UTC)), "to go"
        )
    if row.state is not JobState.PENDING:
        return ""
    place = await jobs.place(row)
    running = (await jobs.depth([row.queue]))[row.queue].claimed
    seconds = seconds_until_start(
        place=place, running=running, average_seconds=await reports.average_duration()
    )
    return f"about {place} jobs ahead{_about(seconds, 'until it starts', prefix=', ')}"


def _about(seconds: float | None, what: str, *, prefix: str = "") -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{prefix}about {max(1, round(seconds))} s {what}"
    if seconds < 5400:
        return f"{prefix}about {round(seconds / 60)} min {what}"
    return f"{prefix}about {seconds / 3600:.1f} h {what}"
