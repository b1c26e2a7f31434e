"""`kubectl imports watch JOB`: a progress bar, the place in the queue, the estimated time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from import_cli.following import Follower
from import_cli.printing import say
from import_cli.sources import DEFAULT_NAMESPACE, NoDatabaseError, Sources, UsageError, is_object_name
from import_cli.watch_view import WatchView, outlook
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import DatabaseUnavailableError, SchemaMismatchError
from import_core.domain.jobs import JobState
from import_core.domain.projection import PHASES
from import_core.domain.resources.import_job import JobPhase

REFRESH_SECONDS = 2.0
_STYLES = {JobPhase.SUCCEEDED: "green", JobPhase.FAILED: "red"}


async def run(sources: Sources, console: Console, *, job: str, timeout_seconds: float | None) -> int:
    """Follow the job to its end: 0 when it succeeded, 1 when it failed, was cancelled or deleted.

    Raises UsageError when there is no such job, or it is not finished after `timeout_seconds`.
    """
    if not is_object_name(job) or await sources.kube.get(IMPORT_JOB, sources.namespace, job) is None:
        raise UsageError(f"There is no ImportJob {job} in namespace {sources.namespace}")
    try:
        async with asyncio.timeout(timeout_seconds) as limit:
            view = await _follow(sources, console, job)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise UsageError(
            f"{job} is not finished after {timeout_seconds:g} s; it goes on without you"
        ) from error
    if view.deleted:
        say(console, f"{job} was deleted; its work is cancelled", style="yellow")
        return 1
    say(
        console,
        f"{job}: {view.phase}. {view.message}".rstrip(),
        style=_STYLES.get(JobPhase(view.phase), "yellow"),
    )
    if view.items_failed:
        where = "" if sources.namespace == DEFAULT_NAMESPACE else f" -n {sources.namespace}"
        say(console, f"Some items failed: kubectl imports errors {job}{where}")
    return 0 if view.phase == JobPhase.SUCCEEDED else 1


async def _follow(sources: Sources, console: Console, name: str) -> WatchView:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        view = WatchView(bar, console, name)
        follower = Follower(sources.kube, sources.namespace, name, notice=view.notice)
        estimates = asyncio.create_task(_estimate(sources, view), name="estimates")
        try:
            async with aclosing(follower.versions(estimates)) as versions:
                async for version in versions:
                    view.show(version)
                    if view.ended:
                        break
        finally:
            await end_tasks([estimates])
        return view


async def _estimate(sources: Sources, view: WatchView) -> None:
    """Tell the view what only the database knows, for as long as the job is followed."""
    while True:
        try:
            if view.job_id is not None:
                await _estimate_once(sources, view, view.job_id)
        except NoDatabaseError:
            view.estimate("", problem="Without DATABASE_URL there is no place in the queue and no estimate")
        except (DatabaseUnavailableError, SchemaMismatchError) as error:
            # The object is followed all the same; only the estimate is missing, and the screen says so.
            view.estimate("estimate unknown", problem=f"No estimate for now. {error}")
        await asyncio.sleep(REFRESH_SECONDS)


async def _estimate_once(sources: Sources, view: WatchView, job_id: str) -> None:
    async with sources.stores() as stores:
        row = (await stores.jobs.read([job_id])).get(job_id)
        if row is None:
            view.estimate("")
            return
        place, running, average = 0, 0, None
        if row.state is JobState.PENDING:
            place = await stores.jobs.place(row)
            running = (await stores.jobs.depth([row.queue]))[row.queue].claimed
            average = await stores.reports.average_duration()
    text = outlook(row, now=datetime.now(UTC), place=place, running=running, average_seconds=average)
    view.estimate(text, phase=PHASES[row.state].value)
