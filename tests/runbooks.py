"""What the tests of docs/runbooks share: pages, their sections, and their blocks of commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "runbooks"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
SECTIONS = ("Symptoms", "Check", "Fix", "Prevent", "Escalate")
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: `language` is its info string."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The page's fenced blocks in their order, without the indentation of the list that they stand in."""
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        lines = match["text"].splitlines()
        text = "\n".join(line.removeprefix(match["indent"]) for line in lines)
        found.append(Block(match["language"], text + "\n"))
    return found
