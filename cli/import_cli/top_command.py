"""`kubectl imports top`: a screen that stays up to date, until Ctrl-C."""

from __future__ import annotations

import asyncio
import io
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.live import Live

from import_cli.printing import print_json, say
from import_cli.sources import Sources, UsageError
from import_cli.top_report import TopReport, collect_top, document
from import_cli.top_view import render, show
from import_core.domain.errors import DatabaseUnavailableError, KubernetesUnavailableError

PICTURE_COLUMNS = 132
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


async def run(
    sources: Sources, console: Console, *, once: bool, every: float, svg: Path | None, as_json: bool
) -> int:
    """Show the screen for ever, or once (also where there is no terminal to stay on); then 0.

    Raises UsageError for a picture that can't be written, and what the first look raises.
    """
    report = await collect_top(sources)
    if svg is not None:
        _draw(report, svg)
        say(console, f"Drew {svg}")
    elif as_json:
        print_json(console, document(report))
    elif once or not console.is_terminal:
        show(report, console)
    else:
        await _stay(sources, console, report, every)
    return 0


async def _stay(sources: Sources, console: Console, report: TopReport, every: float) -> None:
    with Live(render(report), console=console, screen=True, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(every)
            try:
                report = await collect_top(sources)
                shown = report
            except (KubernetesUnavailableError, DatabaseUnavailableError) as error:
                # What was seen last stays, and says since when it is old.
                note = f"as at {report.at:%H:%M:%S} UTC, trying again: {error}"
                shown = replace(report, status=replace(report.status, notes=[note, *report.status.notes]))
            live.update(render(shown), refresh=True)


def _draw(report: TopReport, svg: Path) -> None:
    console = Console(
        record=True, force_terminal=True, color_system="truecolor", width=PICTURE_COLUMNS, file=io.StringIO()
    )
    console.print(render(report))
    try:
        drawn = console.export_svg(title="kubectl imports top", unique_id="top")
        # Whoever looks at it shall ask nobody for fonts.
        svg.write_text(_FONT.sub("", drawn) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{svg} can't be written: {error.strerror}") from error
