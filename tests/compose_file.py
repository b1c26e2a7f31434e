"""Reads deploy/compose/compose.yaml as Docker Compose does: variables filled in, secrets and volumes by service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "deploy" / "compose"
SECRETS = "/run/secrets"
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Z0-9_]+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\})")
_TARGET = re.compile(r"FROM base AS (\w+)\n(?:(?!FROM ).*\n)*?ENTRYPOINT (\[.*\])")


@dataclass(frozen=True)
class Variable:
    """One `${NAME}`; `kind` "?": it must be set, "-": `text` is its default."""

    name: str
    kind: str | None
    text: str


def compose_text() -> str:
    return (FOLDER / "compose.yaml").read_text(encoding="utf-8")


def variables() -> list[Variable]:
    return [
        Variable(found["name"], found["kind"], found["text"] or "")
        for found in _VARIABLE.finditer(compose_text())
        if found["name"]
    ]


def example_environment() -> dict[str, str]:
    lines = (FOLDER / "example.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def resolve(environment: Mapping[str, str]) -> dict[str, Any]:
    """The file with its variables filled in; a required one that is missing raises KeyError."""

    def fill(found: re.Match[str]) -> str:
        if found["name"] is None:
            return "$"
        value = environment.get(found["name"], "")
        if not value and found["kind"] == "?":
            raise KeyError(found["name"])
        return value or (found["text"] if found["kind"] == "-" else "")

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(fill, value)
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return walk(yaml.safe_load(compose_text()))


def entrypoints() -> dict[str, list[str]]:
    """The ENTRYPOINT of each image, by the Dockerfile's targets."""
    text = (PROJECT / "deploy" / "images" / "Dockerfile").read_text(encoding="utf-8")
    return {target: yaml.safe_load(command) for target, command in _TARGET.findall(text)}
