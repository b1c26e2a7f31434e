"""Starts an installation for the tour, takes it, reports and stops."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from import_local import control
from import_local.demo.cluster import DemoError
from import_local.demo.tour import Tour
from import_local.display import ProgressDisplay
from import_local.folders import ensure_folder
from import_local.installation import Installation
from import_local.kubectl import KubectlError
from import_local.state import StateFolder


async def run_demo(state_folder: Path, report_file: Path, console: Console) -> int:
    """Start an installation in an emptied state folder, take the tour, stop it; returns the exit code."""
    await asyncio.to_thread(_empty, state_folder)
    with ProgressDisplay(console) as progress:
        installation = Installation(state_folder, progress=progress)
        await installation.start()
    try:
        report = await Tour(installation, console).run()
    except (DemoError, KubectlError) as error:
        console.print(f"\n[bold red]The tour stopped:[/] {escape(str(error))}")
        console.print(f"Logs are in {installation.state.logs}.")
        return 1
    finally:
        with ProgressDisplay(console):
            await installation.stop()
    problems = report.problems()
    document = json.dumps(report.to_json(), indent=2, ensure_ascii=False)
    await asyncio.to_thread(report_file.write_text, document + "\n")
    console.print()
    console.print(report.to_table())
    for problem in problems:
        console.print(f"[bold red]Not as it should be:[/] {escape(problem)}")
    console.print(f"Also as {report_file}")
    return 1 if problems else 0


def _empty(state_folder: Path) -> None:
    # Numbers of an earlier tour would be counted again.
    if state_folder.exists():
        control.delete_data(StateFolder(state_folder))
    ensure_folder(state_folder.parent)
