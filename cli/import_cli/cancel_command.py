"""`kubectl imports cancel JOB…`: jobs that are not to be run, or not to run on."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from import_cli.acting import check_number, count, person
from import_cli.finding import find_job
from import_cli.printing import print_json, say
from import_cli.sources import Sources, UsageError
from import_core.adapters.postgres.reports import writable

WHY = "Whether a job is cancelled is decided in PostgreSQL"


async def run(
    sources: Sources, console: Console, *, jobs: Sequence[str], dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Cancel waiting and running jobs; finished ones stay as they are. Always 0.

    Raises UsageError when one of them does not exist or has no row yet; then nothing is cancelled.
    """
    check_number(len(jobs), yes=yes, what="jobs would be cancelled, which nothing takes back")
    async with sources.needed_stores(WHY) as stores:
        names: dict[str, str] = {}
        finished: list[str] = []
        for job in dict.fromkeys(jobs):
            found = await find_job(sources, stores, job)
            if found.row is None:
                raise UsageError(
                    f"{found.name} is not recorded yet: delete it with"
                    f" kubectl delete importjob {found.name} -n {sources.namespace}"
                )
            if found.row.state.is_final:
                finished.append(found.name)
            else:
                names[found.row.id] = found.name
        cancelled = list(names)
        if names and not dry_run:
            async with writable("to cancel jobs"):
                cancelled = await stores.jobs.cancel(
                    list(names), message=f"Cancelled by {person(sources)}", tell=True
                )
    done = [names[job_id] for job_id in cancelled]
    finished += [name for job_id, name in names.items() if job_id not in set(cancelled)]
    if as_json:
        print_json(console, {"dryRun": dry_run, "cancelled": done, "alreadyFinished": finished})
        return 0
    if done:
        say(
            console,
            f"{'Would cancel' if dry_run else 'Cancelled'} {count(len(done), 'job')}: {', '.join(done)}",
        )
    if finished:
        say(console, f"Already finished: {', '.join(finished)}", style="dim")
    return 0
