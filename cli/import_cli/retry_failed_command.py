"""`kubectl imports retry-failed`: what failed for a cause that is out of the way runs again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from import_cli.acting import Steps, check_number, count, new_token, parse_since, steps
from import_cli.failed_selection import Plan, Selection, Way, object_uids
from import_cli.printing import print_json, print_table, say
from import_cli.sources import Sources, Stores
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.reports import FailedFilter, FailedJob, writable
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import (
    ImportOperatorError,
    ObjectConflictError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from import_core.domain.reopening import RETRY_ANNOTATION

BATCH = 100
PATCHES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say; `since` as the person wrote it."""

    since: str | None = None
    company: str | None = None
    provider: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class Outcome:
    """How many were retried in which way; `changed`: not failed any more, gone, or refused."""

    annotated: int = 0
    reopened: int = 0
    changed: int = 0


async def run(
    sources: Sources, console: Console, *, wanted: Wanted, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Retry the failed jobs that are wanted; always 0.

    Raises UsageError for wrong options and for too many jobs without `yes`. What was retried until an error
    stays so; the same command goes on with the rest.
    """
    quiet = None if as_json else console
    async with sources.needed_stores("Failed jobs are kept in PostgreSQL") as stores:
        moment = await stores.reports.now()
        since = parse_since(wanted.since, now=moment) if wanted.since is not None else None
        # A retried job that fails again ends after this moment, so it is not met again.
        chosen = FailedFilter(
            sources.namespace, moment, since, wanted.company, wanted.provider, wanted.reason
        )
        selection = Selection(stores, chosen, await object_uids(sources))
        plan = await selection.plan()
        if quiet is not None:
            show_plan(quiet, plan, dry_run=dry_run)
        outcome, token = Outcome(), None
        if not dry_run and plan.retried:
            check_number(plan.retried, yes=yes, what="jobs would be retried")
            token = new_token()
            try:
                await _Retry(sources, stores, token, outcome).all(selection, plan, quiet)
            except ImportOperatorError:
                if quiet is not None:
                    show_outcome(quiet, outcome)
                    say(quiet, "Not all: the same command goes on with the rest", style="yellow")
                raise
    if quiet is None:
        print_json(console, _document(plan, outcome, token, dry_run=dry_run))
    elif token is not None:
        show_outcome(quiet, outcome)
    return 0


class _Retry:
    """Both sorts of jobs in bounded batches, all by one token: a job honours it once, whatever happens."""

    def __init__(self, sources: Sources, stores: Stores, token: str, outcome: Outcome) -> None:
        self._sources = sources
        self._stores = stores
        self._token = token
        self._outcome = outcome
        self._slots = asyncio.Semaphore(PATCHES_AT_ONCE)

    async def all(self, selection: Selection, plan: Plan, console: Console | None) -> None:
        with steps(console, "retrying", plan.retried) as progress:
            async for page in selection.pages():
                await self._objects(page[Way.OBJECT], progress)
                await self._rows(page[Way.ROW], progress)

    async def _objects(self, jobs: list[FailedJob], progress: Steps) -> None:
        for start in range(0, len(jobs), BATCH):
            batch = jobs[start : start + BATCH]
            patches = [asyncio.create_task(self._annotate(job), name=f"retry {job.name}") for job in batch]
            try:
                await asyncio.gather(*patches)
            finally:
                await end_tasks(patches)
            progress.advance(len(batch))

    async def _annotate(self, job: FailedJob) -> None:
        async with self._slots:
            try:
                await self._sources.kube.annotate(
                    *(IMPORT_JOB, self._sources.namespace, str(job.name), {RETRY_ANNOTATION: self._token}),
                    uid=str(job.object_uid),
                )
            except (ObjectNotFoundError, ObjectConflictError, ObjectRefusedError):
                self._outcome.changed += 1
            else:
                self._outcome.annotated += 1

    async def _rows(self, jobs: list[FailedJob], progress: Steps) -> None:
        for start in range(0, len(jobs), BATCH):
            batch = jobs[start : start + BATCH]
            async with writable("to run jobs without an object again"):
                reopened = await self._stores.reopening.retry({job.job_id: self._token for job in batch})
            self._outcome.reopened += len(reopened)
            self._outcome.changed += len(batch) - len(reopened)
            progress.advance(len(batch))


def show_plan(console: Console, plan: Plan, *, dry_run: bool) -> None:
    """Print for people what is meant, before it is retried."""
    if plan.retried:
        verb = "Would retry" if dry_run else "Found"
        parts = f"{plan.ways[Way.OBJECT]:,} by their ImportJob, {plan.ways[Way.ROW]:,} without an object"
        say(console, f"{verb} {count(plan.retried, 'failed job')}: {parts}", style="bold")
        print_table(
            console, ("REASON", "JOBS", "FOR EXAMPLE"), [_row(plan, reason) for reason in _order(plan)]
        )
    else:
        say(console, "No failed job to retry")
    if plan.ways[Way.GONE]:
        say(
            console,
            f"{count(plan.ways[Way.GONE], 'more failed job')} left out: the ImportJob is gone;"
            " apply it again, under any name",
            style="yellow",
        )


def _order(plan: Plan) -> list[str]:
    return sorted(plan.reasons, key=lambda reason: (-plan.reasons[reason].number, reason))


def _row(plan: Plan, reason: str) -> tuple[str, str, str]:
    group = plan.reasons[reason]
    more = ", …" if group.number > len(group.names) else ""
    return reason, f"{group.number:,}", ", ".join(group.names) + more


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Print for people what was done."""
    say(
        console,
        f"Retried {outcome.annotated:,} by an annotation of their ImportJob,"
        f" {outcome.reopened:,} by their row alone",
    )
    if outcome.changed:
        say(
            console,
            f"{count(outcome.changed, 'job')} changed meanwhile, and left as they are",
            style="yellow",
        )
    if outcome.annotated:
        say(console, "The operator takes annotations up at once when it runs, and else later", style="dim")


def _document(plan: Plan, outcome: Outcome, token: str | None, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dryRun": dry_run,
        "jobs": plan.retried,
        "withObject": plan.ways[Way.OBJECT],
        "withoutObject": plan.ways[Way.ROW],
        "objectGone": plan.ways[Way.GONE],
        "reasons": [
            {"reason": reason, "count": plan.reasons[reason].number, "examples": plan.reasons[reason].names}
            for reason in _order(plan)
        ],
        "token": token,
        "annotated": outcome.annotated,
        "reopened": outcome.reopened,
        "changedMeanwhile": outcome.changed,
    }
