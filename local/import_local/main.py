"""`import-local`: a whole installation on this machine, for a newcomer's first hour and for development."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from import_local import control
from import_local.binaries import ensure_all_binaries
from import_local.display import ProgressDisplay
from import_local.errors import LocalError
from import_local.state import Run, StateFolder, default_state_folder

app = typer.Typer(
    name="import-local",
    help="A whole installation on this machine: databases, object store, Kubernetes, sample stores, operator.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_State = Annotated[
    Path | None,
    typer.Option(
        "--state", envvar="IMPORT_LOCAL_STATE", help="State folder; by default .local in the project."
    ),
]
_out = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)


def _folder(state: Path | None) -> StateFolder:
    return StateFolder(state or default_state_folder())


@app.command(
    epilog="Examples:\n\n  import-local up\n\n  import-local up --context kind-imports\n\n"
    "  . .local/env && kubectl get pods -A"
)
def up(
    state: _State = None,
    context: Annotated[
        str | None, typer.Option(help="Use the cluster of this kubeconfig context instead of starting one.")
    ] = None,
    operator: Annotated[
        bool,
        typer.Option(
            "--operator/--no-operator", help="Leave the operator out, e.g. to run it in a debugger."
        ),
    ] = True,
) -> None:
    """Start everything and wait until it is ready. Starting twice changes nothing."""
    folder = _folder(state)
    folder.create()
    run = control.current_run(folder)
    if run is not None and run.phase == "running":
        _out.print("It is running already.")
        _show(folder, run)
        return
    failure = folder.read_failure()
    if failure is not None:
        _errors.print(f"[yellow]The last run ended by itself:[/] {escape(failure)}", soft_wrap=True)
    began = time.monotonic()
    try:
        with ProgressDisplay(_out) as progress:
            control.start_supervisor(folder, context=context, operator=operator, progress=progress)
    except KeyboardInterrupt:
        _errors.print("Interrupted; what was started is stopped again.")
        raise typer.Exit(130) from None
    _out.print(f"\nReady after {time.monotonic() - began:.0f} s.\n")
    started = control.current_run(folder)
    if started is not None:
        _show(folder, started)


@app.command(epilog="Examples:\n\n  import-local down\n\n  import-local down --delete-data")
def down(
    state: _State = None,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also remove databases, images, cluster state and logs.")
    ] = False,
) -> None:
    """Stop everything in order; the data stays for the next start."""
    folder = _folder(state)
    with ProgressDisplay(_out) as progress:
        stopped = asyncio.run(control.stop(folder, progress))
    if delete_data:
        control.delete_data(folder)
    _out.print("Stopped." if stopped else "Nothing was running.")


@app.command(epilog="Example:\n\n  import-local status || import-local up")
def status(state: _State = None) -> None:
    """Show what runs and where; exit code 1 when nothing does, with the reason if it ended by itself."""
    folder = _folder(state)
    run = control.current_run(folder)
    if run is None:
        failure = folder.read_failure()
        _out.print("Nothing is running.")
        if failure:
            _out.print(f"The last run ended by itself: {escape(failure.rstrip())}", soft_wrap=True)
        left = folder.read_run()
        if left is not None:
            _out.print(
                "A killed supervisor may have left processes: `import-local down` ends them.", soft_wrap=True
            )
        raise typer.Exit(1)
    _show(folder, run)


@app.command(
    epilog="Examples:\n\n  import-local logs\n\n  import-local logs kube-apiserver --lines 50\n\n"
    "  import-local logs postgres -f"
)
def logs(
    part: Annotated[str | None, typer.Argument(help="Name of a part, as `status` shows it.")] = None,
    state: _State = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
    lines: Annotated[int, typer.Option(min=0, help="How many of the last lines.")] = 100,
) -> None:
    """Show the log of a part, or which logs there are. (Logs of pods: `kubectl logs`.)"""
    folder = _folder(state)
    names = sorted(path.name.removesuffix(".log") for path in folder.logs.glob("*.log"))
    if part is None:
        _out.print("\n".join(names) or "There are no logs yet.")
        return
    if part not in names:
        raise LocalError(f"there is no log of {part!r}; there are: {', '.join(names) or 'none'}")
    options = ["-n", str(lines), *(["-f"] if follow else [])]
    os.execvp("tail", ["tail", *options, str(folder.logs / f"{part}.log")])  # noqa: S606 - POSIX has it


@app.command(epilog="Example:\n\n  import-local build")
def build() -> None:
    """Build the programs that no package carries, unless they are there: minutes once, then nothing."""
    with ProgressDisplay(_out) as progress:
        asyncio.run(ensure_all_binaries(progress, for_tests=True))


@app.command(epilog="Example:\n\n  import-local demo")
def demo(state: _State = None) -> None:
    """Take the tour: an installation of its own, two catalogues, 300 jobs; exits with 1 if anything is amiss."""
    from import_local.demo.running import run_demo

    folder = _folder(state).path
    raise typer.Exit(asyncio.run(run_demo(folder / "demo", folder / "demo-report.json", _out)))


def _show(folder: StateFolder, run: Run) -> None:
    """Print what runs, where it is, and what to do next."""
    table = Table("part", "pid", "memory", "running for", box=None, padding=(0, 2, 0, 0))
    for record in (run.holder, *run.children):
        process = record.process()
        if process is None:
            table.add_row(record.name, str(record.pid), "", "[red]ended[/]")
            continue
        memory = f"{process.memory_info().rss / 2**20:.0f} MiB"
        table.add_row(record.name, str(record.pid), memory, _age(process))
    _out.print(table)
    if run.phase != "running":
        _out.print(f"\nIt is {run.phase}.")
        return
    choices = folder.read_choices()
    if choices is not None:
        _out.print(
            f"\nKubernetes     https://127.0.0.1:{choices.control_plane.api_server}\n"
            f"PostgreSQL     127.0.0.1:{choices.postgres_port}\n"
            f"Valkey         127.0.0.1:{choices.valkey_port}\n"
            f"object store   http://127.0.0.1:{choices.object_store_port}\n"
            f"sample stores  http://127.0.0.1:{choices.samples_port}/shopify and /roastify\n"
            f"gateway        http://127.0.0.1:{choices.gateway_port}\n"
            f"logs           {_short(folder.logs)}"
        )
    _out.print(
        f"\nNext:\n  . {_short(folder.env)}\n  kubectl get pods -A\n  kubectl imports status\n"
        f"  import-local logs\n  import-local down",
        soft_wrap=True,
    )


def _age(process: psutil.Process) -> str:
    seconds = int(time.time() - process.create_time())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _short(path: Path) -> str:
    """Return a path as a person in this folder would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def main() -> None:
    """Run the command line; what keeps it from working is said in one message, without a stack trace."""
    try:
        app()
    except KeyboardInterrupt:
        _errors.print("Interrupted; what was started is stopped again.")
        sys.exit(130)
    except (LocalError, OSError) as error:
        _errors.print(f"[red]Error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
