"""`kubectl_complete-imports`: what kubectl's own shell completion asks of a plugin, by this name on the PATH.

It gets the words after `kubectl imports`, the one being typed last, and prints a candidate a line with its meaning,
then what the shell may add (https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

import typer

from import_cli.main import app
from import_cli.printing import printable
from import_cli.sources import DEFAULT_NAMESPACE, FIELD_MANAGER
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, WORKER_POOL, Kind
from import_core.domain.errors import ImportOperatorError

FILES = 0
"""The shell may complete files itself."""
NO_FILES = 4
MOST_NAMES = 500
ANSWER_SECONDS = 3.0
NAMES: dict[str, Kind] = {
    "job": IMPORT_JOB,
    "jobs": IMPORT_JOB,
    "provider": IMPORT_PROVIDER,
    "pool": WORKER_POOL,
}
"""What a parameter of this name may be."""
PATHS = frozenset({"job_file", "svg", "trace"})

Candidate = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """Candidates, each with its meaning, and whether the shell adds files."""

    candidates: Sequence[Candidate] = ()
    directive: int = NO_FILES


def complete(words: Sequence[str], names: Callable[[Kind, str], Iterable[str]]) -> Answer:
    """Complete the last word; `names` tells the objects of a kind in a namespace."""
    *before, typed = words or [""]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not before:
            found = [(name, _first_line(each.help)) for name, each in command.commands.items()]
            return Answer(_starting(found, typed))
        command = command.commands.get(before[0])
        if command is None:
            return Answer()
        before = before[1:]
    options = {name: option for option in command.params for name in option.opts if name.startswith("-")}
    awaited = options.get(before[-1]) if before else None
    if awaited is not None and not awaited.is_flag:
        return _values(awaited, typed, lambda kind: names(kind, _namespace(before)))
    if typed.startswith("-"):
        unused = [(name, _first_line(option.help)) for name, option in options.items() if name not in before]
        return Answer(_starting(unused, typed))
    arguments = [each for each in command.params if not any(name.startswith("-") for name in each.opts)]
    given = len(_given(before, options))
    if given < len(arguments) or (arguments and arguments[-1].nargs == -1):
        argument = arguments[min(given, len(arguments) - 1)]
        return _values(argument, typed, lambda kind: names(kind, _namespace(before)))
    return Answer()


def _values(parameter: Any, typed: str, names: Callable[[Kind], Iterable[str]]) -> Answer:
    if parameter.name in PATHS:
        return Answer(directive=FILES)
    # typer keeps the annotation to itself; without it there are just no choices.
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Answer(_starting([(str(each.value), "") for each in annotation], typed))
    if parameter.name in NAMES:
        return Answer(_starting([(name, "") for name in names(NAMES[parameter.name])], typed))
    return Answer()


def _given(words: Sequence[str], options: dict[str, Any]) -> list[str]:
    """The arguments among words: neither options nor their values."""
    given, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            option = options.get(word)
            skip = option is not None and not option.is_flag
        else:
            given.append(word)
    return given


def _namespace(words: Sequence[str]) -> str:
    for option, value in pairwise(words):
        if option in {"-n", "--namespace"}:
            return value
    return os.environ.get("IMPORTS_NAMESPACE") or DEFAULT_NAMESPACE


def _starting(candidates: Iterable[Candidate], typed: str) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate[0].startswith(typed)]


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", 1)[0]


def object_names(kind: Kind, namespace: str) -> list[str]:
    """Names of the cluster's objects; none where it does not answer: a completion has nobody to tell."""

    async def read() -> list[str]:
        async with asyncio.timeout(ANSWER_SECONDS), KubeClient(field_manager=FIELD_MANAGER) as kube:
            return [
                str(body["metadata"]["name"]) async for body in kube.list(kind, namespace, most=MOST_NAMES)
            ]

    try:
        return asyncio.run(read())
    except (ImportOperatorError, TimeoutError):
        return []


def main() -> None:
    """Entry point of the program kubectl_complete-imports."""
    answer = complete(sys.argv[1:], object_names)
    for word, meaning in answer.candidates:
        sys.stdout.write(f"{word}\t{printable(meaning)}\n" if meaning else f"{word}\n")
    sys.stdout.write(f":{answer.directive}\n")
