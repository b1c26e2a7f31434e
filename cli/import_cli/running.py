"""What all commands share: their common options, and how an error becomes an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from import_cli.printing import say
from import_cli.sources import Sources, UsageError
from import_core.domain.errors import ImportOperatorError

EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_INTERRUPTED = 130


class Output(StrEnum):
    """How to print."""

    TEXT = "text"
    JSON = "json"


Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="IMPORTS_NAMESPACE", help="Namespace of the objects.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Act on more than 1,000 jobs at once.")]
AnyJob = Annotated[
    str, typer.Argument(help="Name of the ImportJob, or id of its row where it has no object.")
]


def run_command(namespace: str, command: Callable[[Sources, Console], Awaitable[int]]) -> None:
    """Run a command to its exit code; what it can't do goes to standard error, as one line."""
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


def run_locally(command: Callable[[Console, Console], int]) -> None:
    """Run a command that asks no cluster to its exit code; it gets standard output and standard error."""
    problems = Console(stderr=True)
    try:
        code = command(Console(), problems)
    except UsageError as error:
        say(problems, str(error), style="red")
        code = EXIT_USAGE
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)
