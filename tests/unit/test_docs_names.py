"""What the pages name is there: settings, metrics, files, tests, and commands with their options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from import_cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
FOLDERS = "core|operator|worker|gateway|cli|local|bench|tests|infra|deploy|dashboards|docs|crds"
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
SETTING = re.compile(r"(?<![\w-])[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b")
METRIC = re.compile(r"\bimports_[a-z_]+[a-z]")
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w")
COMMAND = re.compile(r"kubectl imports ([a-z][a-z-]+)(?: ([a-z][a-z-]+))?([^\n`#|]*)")
OF_OTHERS = {
    "AWS_ROLE_ARN",
    "GOOD_IMAGE",
    "KEY_ID",
    "OLD_CLUSTER",
    "OLD_REDIS_URL",
    "OLD_SERVICE",
    "WEBHOOK_SECRET",
}
"""Variables of examples, and of libraries that were not chosen."""


def code(page: Path) -> str:
    return "\n".join(CODE.findall(page.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def sources() -> str:
    """Everything that is not a page and may define a name."""
    endings = {".py", ".yaml", ".js", ".env", ""}
    files = (path for folder in FOLDERS.split("|") if folder != "docs" for path in (ROOT / folder).rglob("*"))
    own = Path(__file__).resolve()
    kept = [
        p for p in files if p.suffix in endings and p.is_file() and "__pycache__" not in p.parts and p != own
    ]
    return "\n".join(
        path.read_text(encoding="utf-8", errors="replace") for path in [*kept, ROOT / "Makefile"]
    )


@pytest.fixture(scope="module")
def words(sources: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", sources))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path, words: frozenset[str], sources: str) -> None:
    text = code(page)
    missing = {name for name in SETTING.findall(text) if name not in words | OF_OTHERS}
    # The client adds `_total`; a page may name a family by its beginning (`imports_admission_*`).
    metrics = ((name, name.removesuffix("_total")) for name in METRIC.findall(text))
    missing |= {name for name, begins in metrics if begins not in words and begins not in sources}
    missing |= {path for path in PATH.findall(text) if not [*ROOT.glob(f"{path}*")]}
    missing |= set(_unknown_commands(text))
    assert missing == set()


def _unknown_commands(text: str) -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    for first, second, rest in COMMAND.findall(text):
        command, called, options = group.commands.get(first), first, rest
        if hasattr(command, "commands") and second:
            command, called = command.commands.get(second), f"{first} {second}"
        if command is None:
            yield called
            continue
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        given = re.findall(r"(?<!\S)--[a-z-]+", options.split(" -- ")[0])
        yield from (f"{called} {option}" for option in given if option not in known | {"--help"})
