"""Options of the commands about an installation as a whole: `top`, `scale`, `doctor`, `try`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from import_cli import doctor_command, scale_command, top_command, try_command
from import_cli.running import DryRun, Namespace, Output, OutputOption, run_command
from import_cli.sources import DEFAULT_NAMESPACE, Sources

SCALE_EXAMPLES = (
    "Examples: kubectl imports scale product-imports 8 --dry-run; kubectl imports scale product-imports 8;"
    " kubectl imports scale product-imports --auto"
)


def scale(
    pool: Annotated[str, typer.Argument(help="Name of the WorkerPool.")],
    replicas: Annotated[int | None, typer.Argument(help="So many workers.", min=0, max=1000)] = None,
    *,
    auto: Annotated[bool, typer.Option("--auto", help="As many as the queue asks for again.")] = False,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Hold a pool at a number of workers, or let the queue decide again."""

    async def run(sources: Sources, console: Console) -> int:
        scale_command.check_wish(replicas, auto=auto)
        return await scale_command.run(
            *(sources, console),
            pool=pool,
            replicas=replicas,
            dry_run=dry_run,
            as_json=output is Output.JSON,
        )

    run_command(namespace, run)


DOCTOR_EXAMPLES = (
    "Examples: kubectl imports doctor; kubectl imports doctor --alertmanager http://127.0.0.1:9093;"
    " kubectl imports doctor -o json | jq '.checks[] | select(.verdict == \"failed\")'."
    " Exit codes: 0 nothing failed; 1 something did; 2 wrong usage; 3 no usable kubeconfig."
)


def doctor(
    *,
    alertmanager: Annotated[
        str | None,
        typer.Option(
            envvar="ALERTMANAGER_URL",
            help="Look where this Alertmanager would send alerts; nothing is posted.",
        ),
    ] = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check an installation from end to end, each thing that is wrong with a fix.

    Looks at definitions, rights, the operator, the webhook's certificate; with DATABASE_URL, REDIS_URL, S3_BUCKET
    (S3_ENDPOINT_URL, AWS_REGION) also at those. Writes nothing but one probe object, which it deletes.
    """
    run_command(
        namespace,
        lambda sources, console: doctor_command.run(
            sources, console, alertmanager=alertmanager, as_json=output is Output.JSON
        ),
    )


TOP_EXAMPLES = (
    "Examples: kubectl imports top; kubectl imports top --once; kubectl imports top -o json | jq .paces;"
    " kubectl imports top --svg top.svg"
)


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end; so it is in a pipe.")] = False,
    every: Annotated[float, typer.Option(help="Look again after so many seconds.", min=0.5, max=3600)] = 2.0,
    svg: Annotated[Path | None, typer.Option(help="Draw it once into this file.")] = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """A live screen: queues and their pace, pools, providers, the running jobs. Ends with Ctrl-C."""
    run_command(
        namespace,
        lambda sources, console: top_command.run(
            sources, console, once=once, every=every, svg=svg, as_json=output is Output.JSON
        ),
    )


TRY_EXAMPLES = (
    "Examples: kubectl imports try acme-autumn.yaml; kubectl imports try acme-autumn.yaml -o json | jq .products[0];"
    " TOKEN=… kubectl imports try job-and-provider.yaml --credential accessToken=TOKEN --uncounted."
    " Exit codes: 0 all of the page can be imported; 1 the provider refused or failed, or a product can't be mapped;"
    " 2 the file, the provider or the credentials can't be used; 3 something else does not answer."
)


def try_(
    job_file: Annotated[
        str, typer.Argument(metavar="JOBFILE", help="YAML with an ImportJob; -: standard input.")
    ],
    *,
    credential: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VARIABLE",
            help="Take a credential from an environment variable, not from the Secret.",
        ),
    ] = None,
    uncounted: Annotated[
        bool,
        typer.Option(
            "--uncounted", help="Do without REDIS_URL: the calls don't count in the connection's limit."
        ),
    ] = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Fetch the first page of a catalogue and show what it would become; nothing is written.

    The provider is that of the file, if it is there too, or else the cluster's; mapping and filter are the job's.
    """
    trial = try_command.Trial(job_file, credential or (), uncounted)
    run_command(
        namespace,
        lambda sources, console: try_command.run(
            sources, console, trial=trial, as_json=output is Output.JSON
        ),
    )


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(name="top", epilog=TOP_EXAMPLES)(top)
    app.command(name="scale", epilog=SCALE_EXAMPLES)(scale)
    app.command(name="try", epilog=TRY_EXAMPLES)(try_)
    app.command(name="doctor", epilog=DOCTOR_EXAMPLES)(doctor)
