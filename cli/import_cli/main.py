"""`kubectl imports`: what a person on call asks first. kubectl finds this program by its name, kubectl-imports."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from import_cli import errors_command, status_command, watch_command
from import_cli.sources import DEFAULT_NAMESPACE, Sources, UsageError
from import_core.domain.errors import ImportOperatorError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3

app = typer.Typer(
    name="kubectl imports",
    help="Imports on this cluster: what runs, what waits, what went wrong.\n\n"
    "Uses your kubeconfig; what only the database knows (places in the queue, failed items) needs DATABASE_URL.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Output(StrEnum):
    """How to print."""

    TEXT = "text"
    JSON = "json"


Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="IMPORTS_NAMESPACE", help="The namespace.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")]


@app.callback()
def imports() -> None:
    """Imports on this cluster: what runs, what waits, what went wrong."""


@app.command(
    epilog="Examples:\n\n  kubectl imports status\n\n  kubectl imports status -o json | jq .depth",
)
def status(namespace: Namespace = DEFAULT_NAMESPACE, output: OutputOption = Output.TEXT) -> None:
    """One screen: depth, workers, jobs by state, providers, the last errors."""
    _run(
        namespace,
        lambda sources, console: status_command.run(sources, console, as_json=output is Output.JSON),
    )


@app.command(
    epilog="Examples:\n\n  kubectl imports watch acme-autumn\n\n"
    "  kubectl imports watch acme-autumn --timeout 600 && echo done\n\n"
    "Exit codes: 0 succeeded, 1 failed or cancelled, 2 wrong usage, 3 something does not answer.",
)
def watch(
    job: Annotated[str, typer.Argument(help="Name of the ImportJob.")],
    namespace: Namespace = DEFAULT_NAMESPACE,
    timeout: Annotated[float, typer.Option(help="Give up after so many seconds; 0: never.", min=0)] = 0,
) -> None:
    """Follow one job: progress bar, place in the queue, estimated time."""
    _run(
        namespace,
        lambda sources, console: watch_command.run(
            sources, console, job=job, timeout_seconds=timeout or None
        ),
    )


@app.command(
    epilog="Examples:\n\n  kubectl imports errors acme-autumn\n\n"
    "  kubectl imports errors acme-autumn --limit 1000 -o json",
)
def errors(
    job: Annotated[str, typer.Argument(help="Name of the ImportJob, or id of a row without an object.")],
    namespace: Namespace = DEFAULT_NAMESPACE,
    limit: Annotated[int, typer.Option(help="At most so many items.", min=1, max=10_000)] = 100,
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
    console = Console(width=_width(), soft_wrap=False)
    problems = Console(stderr=True)

    async def run() -> int:
        async with Sources(namespace) as sources:
            return await command(sources, console)

    try:
        code = asyncio.run(run())
    except UsageError as error:
        problems.print(str(error), style="red", markup=False, highlight=False)
        code = EXIT_USAGE
    except ImportOperatorError as error:
        problems.print(str(error), style="red", markup=False, highlight=False)
        code = EXIT_UNAVAILABLE
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


def _width() -> int | None:
    # Into a pipe or file rich would fold at 80 columns; people grep there.
    return None if os.isatty(1) else 160


def main() -> None:
    """Entry point of the program kubectl-imports."""
    app(prog_name="kubectl imports")


if __name__ == "__main__":
    main()
