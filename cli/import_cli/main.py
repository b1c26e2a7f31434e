"""`kubectl imports`: what a person on call asks first. kubectl finds this program by its name, kubectl-imports."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from import_cli import errors_command, status_command, watch_command
from import_cli.printing import say
from import_cli.sources import DEFAULT_NAMESPACE, Sources, UsageError
from import_core.domain.errors import ImportOperatorError

EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_INTERRUPTED = 130

_EXIT_CODES = (
    "Exit codes: 0 done (watch: succeeded); 1 watch: failed, cancelled or deleted; 2 wrong usage, no such job or"
    " --timeout over; 3 something does not answer, or refuses."
)

app = typer.Typer(
    name="kubectl imports",
    no_args_is_help=True,
    # kubectl completes its plugins by programs of its own; a completion for "kubectl imports" can't be installed.
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=_EXIT_CODES,
)


class Output(StrEnum):
    """How to print."""

    TEXT = "text"
    JSON = "json"


Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="IMPORTS_NAMESPACE", help="Namespace of the objects.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")]


@app.callback()
def imports() -> None:
    """Imports on this cluster: what runs, what waits, what went wrong.

    Uses your kubeconfig; what only the database knows (places in the queue, failed items) needs DATABASE_URL.
    """


@app.command(epilog="Examples: kubectl imports status; kubectl imports status -o json | jq .depth")
def status(namespace: Namespace = DEFAULT_NAMESPACE, output: OutputOption = Output.TEXT) -> None:
    """One screen: depth, workers, jobs by state, providers, the last errors."""
    _run(
        namespace,
        lambda sources, console: status_command.run(sources, console, as_json=output is Output.JSON),
    )


@app.command(epilog=_EXIT_CODES)
def watch(
    job: Annotated[str, typer.Argument(help="Name of the ImportJob.")],
    namespace: Namespace = DEFAULT_NAMESPACE,
    timeout: Annotated[int, typer.Option(help="Give up after so many seconds; 0: never.", min=0)] = 0,
) -> None:
    """Follow one job: progress bar, place in the queue, estimated time."""
    _run(
        namespace,
        lambda sources, console: watch_command.run(
            sources, console, job=job, timeout_seconds=timeout or None
        ),
    )


@app.command(epilog="Example: kubectl imports errors acme-autumn --limit 1000 -o json")
def errors(
    job: Annotated[
        str, typer.Argument(help="Name of the ImportJob, or id of its row where it has no object.")
    ],
    namespace: Namespace = DEFAULT_NAMESPACE,
    limit: Annotated[
        int, typer.Option(help="At most so many items.", min=1, max=errors_command.MAX_ITEMS)
    ] = 100,
    output: OutputOption = Output.TEXT,
) -> None:
    """The job's own error, and the products and images that could not be imported."""
    _run(
        namespace,
        lambda sources, console: errors_command.run(
            sources, console, job=job, limit=limit, as_json=output is Output.JSON
        ),
    )


def _run(namespace: str, command: Callable[[Sources, Console], Awaitable[int]]) -> None:
    console, problems = Console(), Console(stderr=True)

    async def run() -> int:
        async with Sources(namespace) as sources:
            return await command(sources, console)

    try:
        code = asyncio.run(run())
    except UsageError as error:
        say(problems, str(error), style="red")
        code = EXIT_USAGE
    except ImportOperatorError as error:
        say(problems, str(error), style="red")
        code = EXIT_UNAVAILABLE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)


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
