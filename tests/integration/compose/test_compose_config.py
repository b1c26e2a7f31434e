"""The Compose files as Docker Compose itself reads them: valid, and what the other tests take them for."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from compose_file import (
    EVERYTHING,
    FOLDER,
    IMPORTS,
    SEARCH,
    example_environment,
    example_text,
    resolve,
    variables,
)

from import_local.binaries import COMPOSE_CONFIG, ensure_binaries

EXAMPLE = example_environment(everything=True)
BYTES = {"M": 2**20, "G": 2**30}
SAME = (
    "image",
    "environment",
    "command",
    "user",
    "read_only",
    "cap_drop",
    "security_opt",
    "tmpfs",
    "restart",
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def compose_config() -> Path:
    return await ensure_binaries(COMPOSE_CONFIG) / "compose-config"


class Folder:
    """A copy of the files, with a .env of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self.path = folder / "compose"
        shutil.copytree(FOLDER, self.path)

    def config(self, text: str) -> subprocess.CompletedProcess[str]:
        """What Compose says with this text as .env, and nothing else in the environment."""
        (self.path / ".env").write_text(text)
        return subprocess.run(
            [self._program], cwd=self.path, env={}, capture_output=True, text=True, timeout=60, check=False
        )

    def services(self, text: str) -> dict[str, Any]:
        done = self.config(text)
        assert done.returncode == 0, done.stderr
        services: dict[str, Any] = json.loads(done.stdout)["services"]
        return services


@pytest.fixture
def folder(compose_config: Path, tmp_path: Path) -> Folder:
    return Folder(compose_config, tmp_path)


def with_files(files: Sequence[str], **more: str) -> str:
    """A .env of someone who has these files; what is set last counts."""
    lines = [f"{name}={value}" for name, value in {"COMPOSE_FILE": ":".join(files), **more}.items()]
    return "\n".join([example_text(everything=True), *lines, ""])


def seen(service: dict[str, Any]) -> dict[str, Any]:
    """What counts of a service, as Compose writes it."""
    limits = service["deploy"]["resources"]["limits"]
    return {
        **{key: service.get(key) for key in SAME},
        "replicas": service["deploy"].get("replicas"),
        "limits": (float(limits["cpus"]), int(limits["memory"]), limits["pids"]),
        "networks": set(service["networks"]),
        "secrets": {secret["source"] for secret in service["secrets"]},
        "depends_on": {name: each["condition"] for name, each in service.get("depends_on", {}).items()},
        "volumes": {
            volume["target"]: volume.get("read_only", False) for volume in service.get("volumes", ())
        },
        "healthcheck": service.get("healthcheck", {}).get("test"),
    }


def meant(service: dict[str, Any]) -> dict[str, Any]:
    """The same, of what the tests' own reader makes of the files."""
    limits = service["deploy"]["resources"]["limits"]
    volumes = [
        (each["target"], each["read_only"])
        if isinstance(each, dict)
        else (each.split(":")[1], each.endswith(":ro"))
        for each in service.get("volumes", ())
    ]
    memory = int(limits["memory"][:-1]) * BYTES[limits["memory"][-1]]
    return {
        **{key: service.get(key) for key in SAME},
        "replicas": service["deploy"].get("replicas"),
        "limits": (float(limits["cpus"]), memory, limits["pids"]),
        "networks": set(service["networks"]),
        "secrets": set(service["secrets"]),
        "depends_on": {name: each["condition"] for name, each in service.get("depends_on", {}).items()},
        "volumes": dict(volumes),
        "healthcheck": service.get("healthcheck", {}).get("test"),
    }


def test_the_example_is_valid_as_it_is(folder: Folder) -> None:
    services = folder.services(example_text())
    assert set(services) == set(resolve(EXAMPLE)["services"])


@pytest.mark.parametrize("files", [IMPORTS, SEARCH, EVERYTHING], ids=lambda files: files[-1])
def test_it_is_read_as_the_tests_read_it(folder: Folder, files: Sequence[str]) -> None:
    services = folder.services(with_files(files))
    expected = resolve(EXAMPLE, files)["services"]
    assert {name: seen(service) for name, service in services.items()} == {
        name: meant(service) for name, service in expected.items()
    }


def test_the_example_with_all_its_lines_starts_everything(folder: Folder) -> None:
    assert folder.services(example_text(everything=True)) == folder.services(with_files(EVERYTHING))


def test_whatever_is_missing_is_named(folder: Folder) -> None:
    for name in {variable.name for variable in variables(EVERYTHING) if variable.kind == "?"}:
        done = folder.config(with_files(EVERYTHING, **{name: ""}))
        assert done.returncode == 1
        assert f"required variable {name} is missing a value" in done.stderr
    # Embeddings go on top of both other files.
    done = folder.config(with_files((*IMPORTS, "embedding.yaml")))
    assert done.returncode == 1
    assert "has neither an image nor a build context specified" in done.stderr


def test_a_word_that_compose_does_not_know_is_refused(folder: Folder) -> None:
    """So that the tests above mean something."""
    path = folder.path / "enrich.yaml"
    path.write_text(path.read_text().replace("stop_grace_period", "stop_grace_time"))
    done = folder.config(with_files(EVERYTHING))
    assert done.returncode == 1
    assert "stop_grace_time" in done.stderr
