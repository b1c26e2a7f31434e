"""Reads a Dockerfile and carries out a target's steps in a folder: no engine, so no isolation and no base image.

Absolute paths below /opt are led into the folder. It knows the instructions that our build file uses and refuses
others, so that no step is left out unseen.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_DESCRIBING = {"LABEL", "EXPOSE", "USER", "SHELL", "ENTRYPOINT", "ARG"}


@dataclass(frozen=True)
class Step:
    """One instruction, its continued lines joined."""

    word: str
    text: str


@dataclass
class Stage:
    """From one FROM to the next."""

    name: str
    source: str
    steps: list[Step] = field(default_factory=list)

    def last(self, word: str) -> str | None:
        """The text of the last instruction of this kind."""
        return next((step.text for step in reversed(self.steps) if step.word == word), None)


def parse(text: str) -> dict[str, Stage]:
    """The stages of a build file by name, in their order."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            current = stages[name] = Stage(name, source)
        elif current is not None:
            current.steps.append(Step(word, rest.strip()))
    return stages


def lineage(stages: dict[str, Stage], target: str) -> list[Stage]:
    """The stages that a target is made of, the first one first."""
    chain = [stages[target]]
    while chain[0].source in stages:
        chain.insert(0, stages[chain[0].source])
    return chain


def last_of(stages: dict[str, Stage], target: str, word: str) -> str | None:
    """The instruction of this kind that holds for a target."""
    return next((text for stage in reversed(lineage(stages, target)) if (text := stage.last(word))), None)


def context_files(root: Path, ignore_file: Path) -> set[Path]:
    """The files of the work tree that git knows and the ignore file lets through, relative to `root`."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    rules = [line for line in ignore_file.read_text().splitlines() if line and not line.startswith("#")]
    files = (Path(line) for line in listed.stdout.splitlines())
    return {file for file in files if not _ignored(file.as_posix(), rules) and (root / file).is_file()}


def _ignored(path: str, rules: list[str]) -> bool:
    """The last rule that matches a path or a folder above it decides."""
    ignored = False
    parts = path.split("/")
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for rule in rules:
        pattern = rule.removeprefix("!")
        anywhere = pattern.removeprefix("**/")
        names = parts if pattern.startswith("**/") else above
        if any(fnmatch.fnmatchcase(one, anywhere) for one in names):
            ignored = not rule.startswith("!")
    return ignored


class Builder:
    """Carries out stages; `folder` takes the place of /, for what the build file puts below /opt."""

    def __init__(self, context: Path, files: set[Path], folder: Path, arguments: dict[str, str]) -> None:
        self._context = context
        self._files = files
        self.folder = folder
        self._arguments = arguments

    def run(self, stages: list[Stage]) -> dict[str, str]:
        """Carry out the steps in order; returns the environment that the image has then.

        CalledProcessError says what a RUN line printed when it failed.
        """
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        where = self.folder
        for step in (step for stage in stages for step in stage.steps):
            if step.word == "ENV":
                environment |= self._assignments(step.text)
            elif step.word == "WORKDIR":
                where = self._placed(step.text)
                where.mkdir(parents=True, exist_ok=True)
            elif step.word == "COPY":
                self._copy(step.text, where)
            elif step.word == "RUN":
                self._shell(step.text, where, environment)
            elif step.word not in _DESCRIBING:
                raise NotImplementedError(f"{step.word} is not known here")
        return environment

    def _placed(self, path: str) -> Path:
        return Path(path.replace("/opt/", f"{self.folder}/opt/"))

    def _assignments(self, text: str) -> dict[str, str]:
        pairs = (word.partition("=") for word in shlex.split(text))
        return {key: value.replace("/opt/", f"{self.folder}/opt/") for key, _, value in pairs}

    def _shell(self, text: str, where: Path, environment: dict[str, str]) -> None:
        command = text.replace("/opt/", f"{self.folder}/opt/")
        subprocess.run(
            ["/bin/sh", "-euc", command],
            cwd=where,
            env={**environment, **self._arguments},
            check=True,
            capture_output=True,
            text=True,
            timeout=400,
        )

    def _copy(self, text: str, where: Path) -> None:
        *sources, target = text.split()
        if sources[0].startswith("--from="):
            return  # the stages share the folder
        for source in sources:
            inside = {file for file in self._files if file.is_relative_to(source)}
            if not inside:
                raise FileNotFoundError(f"COPY {source}: not in the build's context")
            for file in inside:
                below = file.relative_to(source)
                to = where / target / (below if below.parts else file.name)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._context / file, to)


def entrypoint(stages: dict[str, Stage], target: str) -> list[str]:
    """The command that a container of this image runs."""
    text = last_of(stages, target, "ENTRYPOINT")
    words: list[str] = json.loads(text or "[]")
    return words
