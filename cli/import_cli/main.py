"""`kubectl imports`: what a person on call asks and does. kubectl finds this program by its name, kubectl-imports."""

from __future__ import annotations

import io
import logging
import sys
from typing import Annotated

import typer

from import_cli import (
    breaker_commands,
    cancel_command,
    confirm_command,
    dead_letter_commands,
    errors_command,
    explain_command,
    installation_commands,
    orphans_command,
    pause_commands,
    queue_commands,
    retry_command,
    retry_failed_command,
    review_commands,
    rollout_commands,
    search_command,
    simulate_command,
    status_command,
    watch_command,
    webhook_commands,
)
from import_cli.retry_failed_command import Wanted
from import_cli.running import AnyJob, DryRun, Namespace, Output, OutputOption, Yes, run_command
from import_cli.sources import DEFAULT_NAMESPACE

_EXIT_CODES = (
    "Exit codes: 0 done (watch: succeeded; doctor, try: nothing failed); 1 watch: failed, cancelled or deleted; doctor,"
    " try: something failed; explain-scaling: a decision comes out differently; 2 wrong usage, no such job, --yes"
    " missing or --timeout over; 3 something does not answer, or refuses; 130 Ctrl-C."
)

app = typer.Typer(
    name="kubectl imports",
    no_args_is_help=True,
    # kubectl completes its plugins by programs of its own: kubectl_complete-imports (completing.py).
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=_EXIT_CODES,
)


ProviderArgument = Annotated[str, typer.Argument(help="Name of the ImportProvider.")]
QueueArgument = Annotated[
    str | None, typer.Argument(help="Name of the queue; not needed where the namespace's pools serve one.")
]


QueueOption = Annotated[str | None, typer.Option("--queue", help="The same as the argument.")]
CompanyOption = Annotated[str | None, typer.Option("--company", help="Id of a company, in place of a queue.")]
ProviderOption = Annotated[
    str | None,
    typer.Option("--provider", help="Name of an ImportProvider of the namespace, in place of a queue."),
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Shown to whoever asks.")]


@app.callback()
def imports() -> None:
    """Imports on this cluster: what runs, what waits, what went wrong.

    Uses your kubeconfig; what only the database knows (places in the queue, failed items) needs DATABASE_URL.
    Commands that change something take --dry-run.
    """


@app.command(epilog="Examples: kubectl imports status; kubectl imports status -o json | jq .depth")
def status(namespace: Namespace = DEFAULT_NAMESPACE, output: OutputOption = Output.TEXT) -> None:
    """One screen: depth, workers, jobs by state, providers, the last errors."""
    run_command(
        namespace,
        lambda sources, console: status_command.run(sources, console, as_json=output is Output.JSON),
    )


@app.command(
    epilog="Examples: kubectl imports watch acme-autumn; kubectl imports watch acme-autumn --timeout 600."
    " Exit codes: 0 succeeded; 1 failed, cancelled or deleted; 2 no such job, or --timeout over; 3 no answer."
)
def watch(
    job: Annotated[str, typer.Argument(help="Name of the ImportJob.")],
    namespace: Namespace = DEFAULT_NAMESPACE,
    timeout: Annotated[int, typer.Option(help="Give up after so many seconds; 0: never.", min=0)] = 0,
) -> None:
    """Follow one job: progress bar, place in the queue, estimated time."""
    run_command(
        namespace,
        lambda sources, console: watch_command.run(
            sources, console, job=job, timeout_seconds=timeout or None
        ),
    )


@app.command(epilog="Example: kubectl imports errors acme-autumn --limit 1000 -o json")
def errors(
    job: AnyJob,
    namespace: Namespace = DEFAULT_NAMESPACE,
    limit: Annotated[
        int, typer.Option(help="At most so many items.", min=1, max=errors_command.MAX_ITEMS)
    ] = 100,
    output: OutputOption = Output.TEXT,
) -> None:
    """The job's own error, and the products and images that could not be imported."""
    run_command(
        namespace,
        lambda sources, console: errors_command.run(
            sources, console, job=job, limit=limit, as_json=output is Output.JSON
        ),
    )


@app.command(
    name="retry-failed",
    epilog="Examples: kubectl imports retry-failed --since 2h --reason ProviderUnavailable --dry-run;"
    " kubectl imports retry-failed --company acme --since 2026-11-23T08:00Z -o json",
)
def retry_failed(
    *,
    since: Annotated[
        str | None, typer.Option(help="Failed since: a duration (90s, 30m, 2h, 3d, 1w) or a time (ISO 8601).")
    ] = None,
    company: Annotated[str | None, typer.Option(help="Only jobs of this company.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only jobs of this ImportProvider.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only jobs that failed for this reason.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run failed jobs again from the start, once the cause is out of the way."""
    run_command(
        namespace,
        lambda sources, console: retry_failed_command.run(
            *(sources, console),
            wanted=Wanted(since, company, provider, reason),
            dry_run=dry_run,
            yes=yes,
            as_json=output is Output.JSON,
        ),
    )


@app.command(epilog="Example: kubectl imports retry acme-autumn && kubectl imports watch acme-autumn")
def retry(
    job: AnyJob,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run one finished job again from the start."""
    _retry(job, namespace, items_only=False, dry_run=dry_run, output=output)


@app.command(
    name="retry-items",
    epilog="Examples: kubectl imports retry-items acme-autumn --dry-run; kubectl imports retry-items acme-autumn",
)
def retry_items(
    job: AnyJob,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Import only the failed products and images of a finished job again."""
    _retry(job, namespace, items_only=True, dry_run=dry_run, output=output)


def _retry(job: str, namespace: str, *, items_only: bool, dry_run: bool, output: Output) -> None:
    run_command(
        namespace,
        lambda sources, console: retry_command.run(
            *(sources, console),
            job=job,
            items_only=items_only,
            dry_run=dry_run,
            as_json=output is Output.JSON,
        ),
    )


@app.command(
    name="requeue-orphans",
    epilog="Example: kubectl imports requeue-orphans --dry-run. Needs DATABASE_URL and REDIS_URL.",
)
def requeue_orphans(
    dry_run: DryRun = False, namespace: Namespace = DEFAULT_NAMESPACE, output: OutputOption = Output.TEXT
) -> None:
    """Hand over again what Redis forgot, now: the operator does so by itself every few seconds."""
    run_command(
        namespace,
        lambda sources, console: orphans_command.run(
            sources, console, dry_run=dry_run, as_json=output is Output.JSON
        ),
    )


@app.command(
    epilog="Examples: kubectl imports drain --reason 'database upgrade' --wait --timeout 600;"
    " kubectl imports drain product-imports --dry-run"
)
def drain(
    queue: QueueArgument = None,
    *,
    reason: Annotated[str | None, typer.Option(help="Shown to whoever asks why nothing starts.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until no job of the queue is under way.")
    ] = False,
    timeout: Annotated[
        int, typer.Option(help="With --wait: give up after so many seconds; 0: never.", min=0)
    ] = 0,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Pause a queue: jobs under way go on, no other one starts until it is resumed."""
    run_command(
        namespace,
        lambda sources, console: queue_commands.drain(
            *(sources, console),
            queue=queue,
            reason=reason,
            waiting=queue_commands.Waiting(wait, timeout or None),
            dry_run=dry_run,
            as_json=output is Output.JSON,
        ),
    )


@app.command(
    epilog="Examples: kubectl imports pause --company acme --reason 'floods the queue';"
    " kubectl imports pause --provider acme-shopify; kubectl imports pause (the queue, as drain does)"
)
def pause(
    queue: QueueArgument = None,
    *,
    queue_option: QueueOption = None,
    company: CompanyOption = None,
    provider: ProviderOption = None,
    reason: ReasonOption = None,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start no more jobs of a queue, a company or a provider; jobs under way go on, nothing is lost."""
    run_command(
        namespace,
        lambda sources, console: pause_commands.pause(
            *(sources, console),
            what=pause_commands.What(queue, company, provider, queue_option=queue_option),
            reason=reason,
            dry_run=dry_run,
            as_json=output is Output.JSON,
        ),
    )


@app.command(
    epilog="Examples: kubectl imports resume; kubectl imports resume product-imports --dry-run;"
    " kubectl imports resume --company acme"
)
def resume(
    queue: QueueArgument = None,
    *,
    queue_option: QueueOption = None,
    company: CompanyOption = None,
    provider: ProviderOption = None,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Start jobs of a paused queue, company or provider again; also ends an emergency pause of the queue."""
    run_command(
        namespace,
        lambda sources, console: pause_commands.resume(
            *(sources, console),
            what=pause_commands.What(queue, company, provider, queue_option=queue_option),
            dry_run=dry_run,
            as_json=output is Output.JSON,
        ),
    )


@app.command(name="stop-intake", epilog="Example: kubectl imports stop-intake --reason 'moving the database'")
def stop_intake(
    queue: QueueArgument = None,
    *,
    reason: ReasonOption = None,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take no new jobs until intake is resumed; the jobs that are there go on."""
    _set_intake(queue, namespace, stopped=True, reason=reason, dry_run=dry_run, output=output)


@app.command(name="resume-intake", epilog="Example: kubectl imports resume-intake")
def resume_intake(
    queue: QueueArgument = None,
    *,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take new jobs again, also while the queue is too long."""
    _set_intake(queue, namespace, stopped=False, reason=None, dry_run=dry_run, output=output)


def _set_intake(
    queue: str | None, namespace: str, *, stopped: bool, reason: str | None, dry_run: bool, output: Output
) -> None:
    run_command(
        namespace,
        lambda sources, console: pause_commands.set_intake(
            *(sources, console),
            queue=queue,
            stopped=stopped,
            reason=reason,
            dry_run=dry_run,
            as_json=output is Output.JSON,
        ),
    )


@app.command(epilog="Examples: kubectl imports cancel acme-autumn --dry-run; kubectl imports cancel one two")
def cancel(
    jobs: Annotated[
        list[str], typer.Argument(help="Names of ImportJobs, or ids of rows that have no object.")
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Cancel waiting and running jobs; their objects stay and say so. Nothing takes it back."""
    run_command(
        namespace,
        lambda sources, console: cancel_command.run(
            sources, console, jobs=jobs, dry_run=dry_run, yes=yes, as_json=output is Output.JSON
        ),
    )


@app.command(
    name="open-breaker",
    epilog="Example: kubectl imports open-breaker acme-shopify --reason 'the shop moves to another plan' --dry-run",
)
def open_breaker(
    provider: ProviderArgument,
    *,
    reason: Annotated[str, typer.Option(help="Shown to whoever asks why its jobs wait.")],
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Leave a provider alone: its jobs wait, until reset-breaker."""
    run_command(
        namespace,
        lambda sources, console: breaker_commands.open_breaker(
            *(sources, console),
            provider=provider,
            reason=reason,
            dry_run=dry_run,
            as_json=output is Output.JSON,
        ),
    )


@app.command(
    name="reset-breaker",
    epilog="Examples: kubectl imports reset-breaker acme-shopify; kubectl imports reset-breaker acme-shopify --dry-run",
)
def reset_breaker(
    provider: ProviderArgument,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Close a provider's circuit breaker now, whoever or whatever opened it."""
    run_command(
        namespace,
        lambda sources, console: breaker_commands.reset_breaker(
            sources, console, provider=provider, dry_run=dry_run, as_json=output is Output.JSON
        ),
    )


@app.command(
    name="confirm-cancellations",
    epilog="Examples: kubectl imports confirm-cancellations --dry-run; kubectl imports confirm-cancellations",
)
def confirm_cancellations(
    dry_run: DryRun = False,
    yes: Yes = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Confirm that the jobs whose objects are gone were deleted on purpose, and may be cancelled."""
    run_command(
        namespace,
        lambda sources, console: confirm_command.run(
            sources, console, dry_run=dry_run, yes=yes, as_json=output is Output.JSON
        ),
    )


app.command(name="explain-scaling", epilog=explain_command.EXAMPLES)(explain_command.explain_scaling)
app.command(name="search", epilog=search_command.EXAMPLES)(search_command.search)
app.command(name="simulate", epilog=simulate_command.EXAMPLES)(simulate_command.simulate)
app.add_typer(review_commands.app)
app.add_typer(rollout_commands.app)
app.add_typer(webhook_commands.app)
app.add_typer(dead_letter_commands.app)
installation_commands.register(app)


def main() -> None:
    """Entry point of the program kubectl-imports."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Unicode shows question marks instead of a stack trace.
            stream.reconfigure(errors="replace")
    # The pool would print its own attempts to connect between our lines.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    app(prog_name="kubectl imports")


if __name__ == "__main__":
    main()
