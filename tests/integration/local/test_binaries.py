"""Binaries are built once, whole or not at all, and say what went wrong."""

import asyncio
import os
from pathlib import Path

import pytest

from import_local.binaries import GoModule, ensure_binaries
from import_local.errors import BuildError

# No imports: the standard library need not be compiled first.
_PROGRAM = 'package main\n\nfunc main() { println("built") }\n'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoModule:
    """Return a module with one small program, and an empty cache."""
    # Go's own cache stays where it is, else each test would compile the standard library.
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    monkeypatch.setenv("GOCACHE", os.environ.get("GOCACHE") or str(usual / "go-build"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "modules" / "hello"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module hello.test/hello\n\ngo 1.21\n")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text(_PROGRAM)
    return GoModule("hello", "v1", {"hello": "hello.test/hello"}, modules=folder.parent)


def _left_behind(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache" / "import-operator").iterdir() if path.name[0] == "."]


async def test_two_at_once_build_once_and_both_get_it(module: GoModule, tmp_path: Path) -> None:
    news: list[str] = []
    folders = await asyncio.gather(
        *(ensure_binaries(module, lambda part, message: news.append(message)) for _ in range(2))
    )
    assert folders[0] == folders[1] == tmp_path / "cache" / "import-operator" / module.key
    program = await asyncio.create_subprocess_exec(folders[0] / "hello", stderr=asyncio.subprocess.PIPE)
    assert (await program.communicate())[1] == b"built\n"
    assert "waiting for another build of it to end" in news
    assert any(message.startswith("building: ") for message in news)
    assert _left_behind(tmp_path) == []


async def test_what_is_in_the_cache_is_not_built_again_until_its_program_changes(module: GoModule) -> None:
    folder = await ensure_binaries(module)
    mark = folder / "not built again"
    mark.touch()
    assert await ensure_binaries(module) == folder
    assert mark.exists()
    (module.folder / "main.go").write_text(_PROGRAM + "// changed\n")
    assert await ensure_binaries(module) != folder


async def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing(
    module: GoModule, tmp_path: Path
) -> None:
    (module.folder / "main.go").write_text("package main\n\nfunc main() { undefinedName() }\n")
    with pytest.raises(BuildError, match=r"(?s)building hello\.test/hello failed.*undefined: undefinedName"):
        await ensure_binaries(module)
    assert not (tmp_path / "cache" / "import-operator" / module.key).exists()
    assert _left_behind(tmp_path) == []


async def test_an_interrupted_build_leaves_nothing_and_can_be_repeated(
    module: GoModule, tmp_path: Path
) -> None:
    building = asyncio.Event()
    task = asyncio.create_task(ensure_binaries(module, lambda part, message: building.set()))
    await building.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _left_behind(tmp_path) == []
    assert (await ensure_binaries(module) / "hello").exists()


async def test_the_rest_of_a_killed_build_is_removed(module: GoModule, tmp_path: Path) -> None:
    leftover = tmp_path / "cache" / "import-operator" / ".hello-build-killed"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("")
    await ensure_binaries(module)
    assert _left_behind(tmp_path) == []


async def test_a_go_that_is_too_old_is_named(module: GoModule) -> None:
    (module.folder / "go.mod").write_text("module hello.test/hello\n\ngo 1.99\n")
    with pytest.raises(BuildError, match=r"Go 1\.99 or newer was not found"):
        await ensure_binaries(module)


async def test_the_wheels_go_builds_when_there_is_none_on_the_path(
    module: GoModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert (await ensure_binaries(module) / "hello").exists()
