"""The page of running without Kubernetes: its commands make every file that containers mount, readable there."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compose_file import EVERYTHING, FOLDER, PROJECT, example_environment, resolve

from import_core.adapters.folder.declarations import Declarations
from import_gateway.standalone.tokens import TokenFile

PAGE = PROJECT / "docs" / "how-to" / "run-without-kubernetes.md"
COMPOSED = resolve(example_environment(everything=True), EVERYTHING)
# Stands for the engine: notes what it was called with, and which files were there when it was to start.
DOCKER = """#!/bin/sh
echo "$*" >> "$NOTES/called"
case "$*" in "compose up -d") find . > "$NOTES/there";; esac
"""
# Not every machine that runs tests has it.
OPENSSL = """#!/bin/sh
test "$*" = "rand -hex 32" && od -An -N32 -tx1 /dev/urandom | tr -d ' \\n'
"""


def section(title: str) -> str:
    """A section's text, its own subsections included."""
    found = re.search(
        rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return found[1]


def commands(title: str) -> str:
    """What the section has one type into a shell."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", section(title), re.DOTALL | re.MULTILINE))


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """The folder of the Compose files, after the commands of the page's beginning were typed with a strict umask."""
    folder = tmp_path / "deploy" / "compose"
    ignored = shutil.ignore_patterns(".env", "secrets", "connections")
    shutil.copytree(FOLDER, folder, ignore=ignored)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("docker", DOCKER), ("openssl", OPENSSL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    given = {"KEY_ID": "key id", "KEY": "key", "TOKEN": "shpat_example", "NOTES": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-euc", f"umask 077\n{commands('Start')}"],
        cwd=tmp_path,
        env={**given, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def mounted(kind: str, services: dict[str, Any]) -> Iterator[str]:
    """Folders that services mount from beside the files."""
    for service in services.values():
        for volume in service.get(kind, ()):
            if isinstance(volume, str) and volume.startswith("./"):
                yield volume.split(":")[0]


def test_what_containers_mount_is_there_and_can_be_read_by_them_alone(started: Path) -> None:
    there = (started.parents[1] / "there").read_text().split()
    base = resolve(example_environment())
    for secret in base["secrets"].values():
        assert secret["file"] in there, "before the start"
        assert mode(started / secret["file"]) == 0o444
    folders = {started / folder for folder in mounted("volumes", base["services"])}
    assert {folder.name for folder in folders} == {"connections", "credentials"}
    for folder in folders:
        assert mode(folder) == 0o755
        assert {mode(path) for path in folder.iterdir()} == {0o444}
    # Nobody else of the machine gets so far.
    assert mode(started / "secrets") == 0o700


def test_what_the_page_makes_is_what_processes_want(started: Path) -> None:
    credentials = str(started / "secrets" / "credentials")
    declared = Declarations(str(started / "connections"), credentials, namespace="imports").load()
    assert set(declared.providers) == {"acme-shopify"}
    TokenFile(str(started / "secrets" / "callers.yaml"))
    url = (started / "secrets" / "DATABASE_URL").read_text().strip()
    password = (started / "secrets" / "POSTGRES_PASSWORD").read_text().strip()
    assert url == f"postgresql://imports:{password}@postgres:5432/imports"
    called = (started.parents[1] / "called").read_text().splitlines()
    assert called[0].endswith("operator standalone --check")
    assert called[1:] == ["compose up -d", "compose ps --all"]


def test_the_page_names_what_steps_need(started: Path) -> None:
    """Every variable that is marked as a comment in the example, and every secret that the first start did not make."""
    text = section("Steps after imports")
    more = set(example_environment(everything=True)) - set(example_environment())
    for name in (*more, "POSTGRES_IMAGE"):
        assert f"`{name}" in text, name
    secrets = set(COMPOSED["secrets"]) - {path.name for path in (started / "secrets").iterdir()}
    assert secrets == {"GEMINI_API_KEY"}
    assert "`touch secrets/GEMINI_API_KEY " in text
