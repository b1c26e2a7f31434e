"""Printing for people and for pipes: text of others never acts on the terminal, and a row is a line for grep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Messages quote what providers and submitters wrote. Control characters could move the cursor or hide
# text, and so could the characters that turn the writing direction (Unicode 16, section 23.2).
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_HARMLESS = {**dict.fromkeys(_CONTROLS, "\N{REPLACEMENT CHARACTER}"), 0x09: " ", 0x0A: " ", 0x0D: " "}


def printable(value: object) -> str:
    """A value as one harmless line; a dash where there is none."""
    return "–" if value is None or value == "" else str(value).translate(_HARMLESS)


def say(console: Console, text: str, *, style: str = "") -> None:
    """Print a line as it is, never as markup; folded only for people."""
    console.print(Text(printable(text), style=style), soft_wrap=not console.is_terminal)


def print_table(console: Console, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns: fitted to the width of a terminal, and else one line per row."""
    lines = [[printable(value) for value in row] for row in rows]
    if console.is_terminal:
        table = Table(*headers, box=None, pad_edge=False)
        for line in lines:
            table.add_row(*(Text(value) for value in line))
        console.print(table)
        return
    widths = [max(map(cell_len, column)) for column in zip(headers, *lines, strict=True)]
    for line in (list(headers), *lines):
        cells = (value + " " * (width - cell_len(value)) for value, width in zip(line, widths, strict=True))
        say(console, "  ".join(cells).rstrip())


def print_json(console: Console, document: dict[str, Any]) -> None:
    """Print a document for programs; times become ISO 8601."""
    console.out(json.dumps(document, indent=2, default=_iso), highlight=False)


def _iso(value: Any) -> str:
    return str(value.isoformat())
