"""The images' build file: its steps carried out in a clean folder, each process started from what they leave.

There is no container engine here. What that leaves out: the base image itself, its user and its file system's
rights.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from build_file import Builder, Stage, context_files, entrypoint, last_of, lineage, parse
from rendering import PROJECT

BUILD_FILE = PROJECT / "deploy" / "images" / "Dockerfile"
IGNORE_FILE = BUILD_FILE.with_name("Dockerfile.dockerignore")
RUNTIME = BUILD_FILE.with_name("requirements.txt")
ENRICHED = BUILD_FILE.with_name("requirements-enrich.txt")
TARGETS = ("operator", "worker", "gateway")
ENRICHED_TARGETS = ("worker-enrich", "gateway-enrich")
PINNED = "docker.io/library/python:3.13-slim@sha256:" + "0" * 64


@dataclass(frozen=True)
class Built:
    """What a target's steps have left."""

    folder: Path
    environment: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = self.folder / "opt" / "venv" / "bin" / words[0]
        return subprocess.run(
            [program, *words[1:]],
            cwd=self.folder / "opt" / "app",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return parse(BUILD_FILE.read_text())


@pytest.fixture(scope="module")
def builder(stages: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Everything up to the packages, which all targets share."""
    # `python` of the base image is the one that runs the tests.
    folder = tmp_path_factory.mktemp("image")
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    (bin_folder / "python").symlink_to(Path(sys.executable).resolve())
    files = context_files(PROJECT, IGNORE_FILE)
    builder = Builder(PROJECT, files, folder, {"PYTHON_IMAGE": PINNED})
    packages = lineage(stages, "packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
        try:
            builder.run(packages)
        except subprocess.CalledProcessError as error:
            pytest.fail(f"{error.cmd[-1]}\n{error.stdout}\n{error.stderr}")
    return builder


@pytest.mark.parametrize("target", TARGETS)
def test_process_starts_from_what_the_build_file_makes(
    builder: Builder, stages: dict[str, Stage], target: str
) -> None:
    built = Built(builder.folder, builder.run(lineage(stages, target)))
    command = entrypoint(stages, target)
    package = command[-1]
    # -B: nothing is written. The main module first, which --help does not import whole.
    module = built.run("python", "-B", "-c", f"import {package}.main, sys; print({package}.__file__)")
    assert module.returncode == 0, module.stderr
    assert str(builder.folder) in module.stdout, "it was imported from somewhere else"
    shown = built.run(*command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "usage" in shown.stdout.lower()


def test_all_that_a_process_imports_is_there(builder: Builder, stages: dict[str, Stage]) -> None:
    """Every module can be imported: none needs a package of the tests. Alembic runs its own files by itself."""
    for target in TARGETS:
        built = Built(builder.folder, builder.run(lineage(stages, target)))
    walk = (
        "import importlib, pkgutil\n"
        "for name in ('import_core', 'import_operator', 'import_worker', 'import_gateway'):\n"
        "    package = importlib.import_module(name)\n"
        "    for found in pkgutil.walk_packages(package.__path__, name + '.'):\n"
        "        if not found.name.endswith('__main__') and '.migrations.' not in found.name:\n"
        "            importlib.import_module(found.name)\n"
    )
    done = built.run("python", "-B", "-c", walk)
    assert done.returncode == 0, done.stderr


def test_no_tool_is_left(builder: Builder) -> None:
    installed = {
        path.name.partition("-")[0] for path in (builder.folder / "opt" / "venv").rglob("*.dist-info")
    }
    assert "kopf" in installed
    assert (
        installed & {"pip", "setuptools", "pkgconfig", "pytest", "hypothesis", "pulumi", "ruff", "moto"}
        == set()
    )


def test_settings_that_are_missing_are_named(builder: Builder, stages: dict[str, Stage]) -> None:
    built = Built(builder.folder, builder.run(lineage(stages, "worker")))
    done = built.run(*entrypoint(stages, "worker"))
    assert (done.returncode, "DATABASE_URL" in done.stderr) == (2, True)


def test_base_image_without_a_digest_is_refused(stages: dict[str, Stage], tmp_path: Path) -> None:
    first = Stage("first", "", stages["tools"].steps[:3])
    with pytest.raises(subprocess.CalledProcessError) as caught:
        Builder(PROJECT, set(), tmp_path, {"PYTHON_IMAGE": "python:3.13-slim"}).run([first])
    assert "needs a digest" in caught.value.stderr
    Builder(PROJECT, set(), tmp_path, {"PYTHON_IMAGE": PINNED}).run([first])


def test_images_are_not_root_and_made_from_one_pinned_base(stages: dict[str, Stage]) -> None:
    assert "ARG PYTHON_IMAGE\n" in BUILD_FILE.read_text(), "with a default, nobody gives the digest"
    for target in (*TARGETS, *ENRICHED_TARGETS):
        assert lineage(stages, target)[0].source == "${PYTHON_IMAGE}"
        user = last_of(stages, target, "USER")
        assert user is not None
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
        assert not any(step.word == "RUN" for stage in lineage(stages, target) for step in stage.steps)
    assert {*TARGETS, *ENRICHED_TARGETS} <= set(stages)


def test_context_holds_code_and_nothing_else(tmp_path: Path) -> None:
    files = {file.as_posix() for file in context_files(PROJECT, IGNORE_FILE)}
    assert "core/import_core/domain/jobs.py" in files
    assert "gateway/import_gateway/page/static/index.html" in files
    assert not [
        file for file in files if file.startswith(("tests/", "local/", "docs/", "bench/", "cli/", "."))
    ]
    copied = {
        source
        for stage in parse(BUILD_FILE.read_text()).values()
        for step in stage.steps
        if step.word == "COPY" and not step.text.startswith("--from=")
        for source in step.text.split()[:-1]
    }
    context = {Path(file) for file in files}
    assert [one for one in copied if not any(file.is_relative_to(one) for file in context)] == []
    everything = tmp_path / "ignore-nothing"
    everything.write_text("**/*.pyc\n")
    assert any(file.parts[0] == "tests" for file in context_files(PROJECT, everything))


def test_build_file_passes_the_linter(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, BUILD_FILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    planted = tmp_path / "Dockerfile"
    planted.write_text("FROM python\nRUN pip install kopf\n")
    done = subprocess.run([linter, planted], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1


def pinned(path: Path) -> dict[str, str]:
    """Each package's whole entry, hashes and markers too, by name."""
    blocks = re.split(r"\n(?=\S)", path.read_text().strip())
    return {re.split(r"[=\s]", block, maxsplit=1)[0]: block for block in blocks}


def test_images_get_the_packages_that_were_tested() -> None:
    """`make lock` writes both files; whoever changes one alone is told here."""
    everything = pinned(PROJECT / "requirements.txt")
    for file in (RUNTIME, ENRICHED):
        runtime = pinned(file)
        assert {name: entry for name, entry in runtime.items() if everything.get(name) != entry} == {}
    tools = pinned(RUNTIME.with_name("build-requirements.txt"))
    assert {name: entry for name, entry in tools.items() if everything.get(name, entry) != entry} == {}


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;~! ]", one, maxsplit=1)[0] for one in requirements}


def test_enriched_images_are_the_others_with_more_packages(stages: dict[str, Stage]) -> None:
    """What installs, copies and starts is the same, but for the file of packages."""
    for enriched in ENRICHED_TARGETS:
        plain = enriched.removesuffix("-enrich")
        assert entrypoint(stages, enriched) == entrypoint(stages, plain)
        for word in ("USER", "EXPOSE", "ENV", "WORKDIR"):
            assert last_of(stages, enriched, word) == last_of(stages, plain, word)
        copied = [
            [step.text for stage in lineage(stages, target) for step in stage.steps if step.word == "COPY"]
            for target in (plain, enriched)
        ]
        assert [text.replace("packages-enrich", "packages") for text in copied[1]] == copied[0]
    steps = [
        [
            (step.word, step.text.replace("requirements-enrich.txt", "requirements.txt"))
            for step in stages[name].steps
        ]
        for name in ("packages", "packages-enrich")
    ]
    assert steps[0] == steps[1]


def test_enriched_images_get_the_extras_of_steps_and_no_tools() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    of_steps = {
        one for extra in ("enrich", "milvus", "opensearch", "scraping") for one in named(extras[extra])
    }
    others = {one for extra in ("infra", "local", "dev") for one in named(extras[extra])}
    enriched = set(pinned(ENRICHED))
    assert (of_steps | set(pinned(RUNTIME))) - enriched == set(), "run `make lock`"
    assert enriched & (others - of_steps - named(project["dependencies"])) == set()


def test_images_get_what_the_project_asks_for_and_no_tools() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]

    runtime = set(pinned(RUNTIME))
    asked = named(project["dependencies"])
    extras = {one for group in project["optional-dependencies"].values() for one in named(group)}
    assert asked - runtime == set(), "run `make lock`"
    assert runtime & (extras - asked) == set(), "a package of an extra is in the images"


def test_the_worker_that_reads_pages_has_chromium_and_is_not_root(stages: dict[str, Stage]) -> None:
    assert last_of(stages, "worker-scraping", "USER") == last_of(stages, "worker", "USER")
    assert entrypoint(stages, "worker-scraping") == entrypoint(stages, "worker")
    everybody = set(re.findall(r"^\S+==\S+", RUNTIME.read_text(), re.MULTILINE))
    pages = set(
        re.findall(r"^\S+==\S+", RUNTIME.with_name("requirements-scraping.txt").read_text(), re.MULTILINE)
    )
    assert {name.partition("==")[0] for name in pages - everybody} == {"playwright", "greenlet"}
    assert everybody <= pages
