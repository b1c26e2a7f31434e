"""What holds for every command: help with examples, JSON, a dry run where it changes something, one exit code each."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from import_cli.main import app

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "command-line.md"


def every(group: Any, before: str = "") -> dict[str, Any]:
    """All commands by the words that call them."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        words = f"{before}{name}"
        found |= every(command, f"{words} ") if hasattr(command, "commands") else {words: command}
    return found


COMMANDS = every(typer.main.get_command(app))
READING = {
    "status",
    "rollout status",
    "review list",
    "review show",
    "dead-letters list",
    "dead-letters show",
    "explain-scaling",
    "watch",
    "errors",
    "top",
    "search",
    "try",
    "doctor",
    "simulate",
    "webhooks list",
    "webhooks deliveries",
}
"""These change nothing: status screens, and what is only looked at or calculated."""
STREAMING = {"watch"}
"""Follows to an end, which is its exit code."""


def options(name: str) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_says_what_it_does_with_an_example(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert COMMANDS[name].help
    assert f"kubectl imports {name}" in (COMMANDS[name].epilog or "")
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - READING))
def test_what_changes_something_has_a_dry_run(name: str) -> None:
    assert "--dry-run" in options(name)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - STREAMING))
def test_programs_can_read_it(name: str) -> None:
    assert {"--output", "-o"} <= options(name)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_reference_names_it_with_all_its_options(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert re.search(rf"^kubectl imports {re.escape(name)}\b", page, re.MULTILINE)
    if name == "simulate":
        return  # it has a page of its own
    heading = re.search(rf"^## (.*, )?{re.escape(name.split(maxsplit=1)[0])}([, ].*)?$", page, re.MULTILINE)
    assert heading, "it has no section"
    missing = {option for option in options(name) if option.startswith("--") and option not in page}
    assert missing == set()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_unknown_option_ends_with_2(name: str) -> None:
    assert CliRunner().invoke(app, [*name.split(), "--no-such-option"]).exit_code == 2


def test_an_unknown_command_ends_with_2() -> None:
    assert CliRunner().invoke(app, ["no-such-command"]).exit_code == 2
