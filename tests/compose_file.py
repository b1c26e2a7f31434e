"""Reads the Compose files as Docker Compose does: variables filled in, one file on top of the other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "deploy" / "compose"
SECRETS = "/run/secrets"
IMPORTS = ("compose.yaml",)
SEARCH = (*IMPORTS, "enrich.yaml")
"""Quality control and search by words, too."""
EVERYTHING = (*SEARCH, "embedding.yaml")
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Z0-9_]+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\})")
_TARGET = re.compile(r"FROM base\S* AS (\S+)\n(?:(?!FROM ).*\n)*?ENTRYPOINT (\[.*\])")
_MARKED = re.compile(r"^#(?=[A-Z_]+=)", re.MULTILINE)
_OWN_IMAGE = re.compile(r"/import-([a-z-]+)@")
_REPLACED = {"command", "entrypoint", "test"}
"""Lists that another file's take the place of; to all others its items are added."""


@dataclass(frozen=True)
class Variable:
    """One `${NAME}`; `kind` "?": it must be set, "-": `text` is its default."""

    name: str
    kind: str | None
    text: str


def compose_text(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


def variables(files: Sequence[str]) -> list[Variable]:
    return [
        Variable(found["name"], found["kind"], found["text"] or "")
        for file in files
        for found in _VARIABLE.finditer(compose_text(file))
        if found["name"]
    ]


def example_text(*, everything: bool = False) -> str:
    """The example of .env; `everything`: with the lines that are marked as comments, as who wants steps has them."""
    text = (FOLDER / "example.env").read_text(encoding="utf-8")
    return _MARKED.sub("", text) if everything else text


def example_environment(*, everything: bool = False) -> dict[str, str]:
    """Of a name that stands there twice the last one counts, as for Docker Compose."""
    lines = example_text(everything=everything).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def resolve(environment: Mapping[str, str], files: Sequence[str] = IMPORTS) -> dict[str, Any]:
    """What the files say together, variables filled in; a required one that is missing raises KeyError."""

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

    together: dict[str, Any] = {}
    for file in files:
        together = _merge(together, walk(yaml.safe_load(compose_text(file))))
    return together


def image_target(service: Mapping[str, Any]) -> str | None:
    """The Dockerfile's target that a service's image is built from; None: it is somebody else's."""
    found = _OWN_IMAGE.search(service["image"])
    return found[1] if found else None


def entrypoints() -> dict[str, list[str]]:
    """The ENTRYPOINT of each image, by the Dockerfile's targets."""
    text = (PROJECT / "deploy" / "images" / "Dockerfile").read_text(encoding="utf-8")
    return {target: yaml.safe_load(command) for target, command in _TARGET.findall(text)}


def _merge(below: Any, above: Any, name: str = "") -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        shared = {key: _merge(below[key], above[key], key) for key in below.keys() & above.keys()}
        return {**below, **above, **shared}
    if isinstance(below, list) and isinstance(above, list) and name not in _REPLACED:
        return [*below, *above]
    return above
