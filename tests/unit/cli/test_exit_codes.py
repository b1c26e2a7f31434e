"""How an end becomes an exit code, and that the reference names each."""

import re
from pathlib import Path

import pytest
import typer
import yaml
from rich.console import Console

from import_cli.acting import person
from import_cli.running import run_command, run_locally
from import_cli.sources import Sources, UsageError
from import_core.domain.errors import (
    DatabaseUnavailableError,
    KubernetesUnavailableError,
    ObjectForbiddenError,
    QueueUnavailableError,
    SchemaMismatchError,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "command-line.md"
ENDS: list[tuple[BaseException | int, int]] = [
    (0, 0),
    (1, 1),
    (UsageError("no such job"), 2),
    (KubernetesUnavailableError(), 3),
    (ObjectForbiddenError(), 3),
    (DatabaseUnavailableError(), 3),
    (SchemaMismatchError(), 3),
    (QueueUnavailableError(), 3),
    (KeyboardInterrupt(), 130),
]


@pytest.fixture(autouse=True)
def some_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig of a cluster that nobody asks."""
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DATABASE_DIRECT_URL", raising=False)


@pytest.mark.parametrize(("end", "code"), ENDS, ids=lambda value: repr(value)[:40])
def test_each_end_has_its_code(
    end: BaseException | int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def command(_sources: Sources, _console: Console) -> int:
        if isinstance(end, BaseException):
            raise end
        return end

    with pytest.raises(typer.Exit) as ended:
        run_command("imports", command)
    assert ended.value.exit_code == code
    assert (capsys.readouterr().err == "") == (not isinstance(end, Exception))


def test_only_who_asks_kubernetes_needs_a_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")

    async def without(sources: Sources, _console: Console) -> int:
        return 0 if person(sources) else 1

    async def asking(sources: Sources, _console: Console) -> int:
        return 0 if sources.kube else 1

    for command, code, said in ((without, 0, ""), (asking, 3, "No usable Kubernetes configuration")):
        with pytest.raises(typer.Exit) as ended:
            run_command("imports", command)
        assert ended.value.exit_code == code
        assert capsys.readouterr().err.startswith(said)


def test_commands_without_a_cluster_have_the_same() -> None:
    def refuse(_console: Console, _problems: Console) -> int:
        raise UsageError("no")

    def interrupt(_console: Console, _problems: Console) -> int:
        raise KeyboardInterrupt

    for command, code in ((refuse, 2), (interrupt, 130)):
        with pytest.raises(typer.Exit) as ended:
            run_locally(command)
        assert ended.value.exit_code == code


def test_the_reference_names_them_all() -> None:
    named = {
        int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named == {code for _, code in ENDS}
