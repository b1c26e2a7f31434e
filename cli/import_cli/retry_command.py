"""`kubectl imports retry JOB` and `retry-items JOB`: one finished job, once more."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from import_cli.acting import count, new_token
from import_cli.finding import FoundJob, find_job
from import_cli.printing import print_json, say
from import_cli.sources import DEFAULT_NAMESPACE, NoDatabaseError, Sources, Stores, UsageError
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.reports import writable
from import_core.domain.errors import ObjectConflictError, ObjectNotFoundError
from import_core.domain.item_errors import DISCARDED_STAGE
from import_core.domain.reopening import RETRY_ANNOTATION, RETRY_ITEMS_ANNOTATION, why_not_again


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, or would be: `items` failed ones are asked for again, None: not known, or all of it."""

    job: FoundJob
    token: str | None
    items: int | None = None


async def run(
    sources: Sources, console: Console, *, job: str, items_only: bool, dry_run: bool, as_json: bool
) -> int:
    """Run a finished job again, or its failed items only; always 0.

    Raises UsageError when there is no such job, or it can't run again.
    """
    try:
        async with sources.stores() as stores:
            done = await _act(sources, stores, job, items_only=items_only, dry_run=dry_run)
    except NoDatabaseError:
        # An annotation needs no database; what a row would say is not checked.
        done = await _act(sources, None, job, items_only=items_only, dry_run=dry_run)
    if as_json:
        print_json(
            console,
            {
                "job": job,
                "jobId": done.job.id,
                "dryRun": dry_run,
                "by": "annotation" if done.job.body else "row",
                "token": done.token,
                "failedItems": done.items,
            },
        )
        return 0
    show(console, done, namespace=sources.namespace, items_only=items_only, dry_run=dry_run)
    return 0


async def _act(sources: Sources, stores: Stores | None, job: str, *, items_only: bool, dry_run: bool) -> Done:
    found = await find_job(sources, stores, job)
    check_reopenable(found)
    items = None
    if items_only and stores is not None:
        total, reasons = await stores.reports.item_failure_reasons(found.id)
        items = total - sum(reason.count for reason in reasons if reason.stage == DISCARDED_STAGE)
        if not items:
            return Done(found, None, 0)
    if dry_run:
        return Done(found, None, items)
    token = new_token()
    if found.body is not None:
        await _annotate(sources, found, RETRY_ITEMS_ANNOTATION if items_only else RETRY_ANNOTATION, token)
    elif stores is not None:
        reopen = stores.reopening.retry_items if items_only else stores.reopening.retry
        async with writable("to run a job without an object again"):
            changed = await reopen({found.id: token})
        if not changed:
            raise UsageError(f"{job} has changed meanwhile; look at it and try again")
    return Done(found, token, items)


def check_reopenable(found: FoundJob) -> None:
    """Raise UsageError for a job that is not finished, was cancelled, or whose object is gone."""
    phase, _ = found.standing()
    object_gone = found.body is None and found.row is not None and found.row.origin is not None
    why_not = why_not_again(found.name, phase=phase, object_gone=object_gone)
    if why_not is not None:
        raise UsageError(why_not)


async def _annotate(sources: Sources, found: FoundJob, annotation: str, token: str) -> None:
    metadata = (found.body or {})["metadata"]
    try:
        await sources.kube.annotate(
            *(IMPORT_JOB, sources.namespace, metadata["name"], {annotation: token}), uid=metadata["uid"]
        )
    except (ObjectNotFoundError, ObjectConflictError) as error:
        raise UsageError(f"The ImportJob {found.name} was deleted meanwhile") from error


def show(console: Console, done: Done, *, namespace: str, items_only: bool, dry_run: bool) -> None:
    """Print what was done for people."""
    name = done.job.name
    if done.items == 0:
        say(console, f"{name} has no failed items: nothing to do")
        return
    what = "its failed items" if done.items is None else count(done.items, "failed item")
    again = f"{'would import' if dry_run else 'imports'} {what} again"
    if not items_only:
        again = f"{'would run' if dry_run else 'runs'} again from the start"
    how = "by an annotation of its ImportJob" if done.job.body else "by its row, it has no object"
    say(console, f"{name} {again} ({how})")
    if done.job.body and not dry_run:
        where = "" if namespace == DEFAULT_NAMESPACE else f" -n {namespace}"
        say(console, f"Follow it: kubectl imports watch {name}{where}", style="dim")
