"""Fail points: inert by default, named in one place, and each of them really in the code."""

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from import_core import fail_points
from import_core.domain.errors import InvalidInputError
from import_core.fail_points import OPERATOR_POINTS, STEP_POINTS, WORKER_POINTS, arm_fail_point, fail_point

ROOT = Path(__file__).parents[2]
PROCESSES = {"operator": OPERATOR_POINTS, "worker": {**WORKER_POINTS, **STEP_POINTS}}


@pytest.fixture(autouse=True)
def unarmed() -> Iterator[None]:
    """A point that a test armed must not kill the tests after it."""
    yield
    arm_fail_point({}, {})


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Collects the signals that would have been sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def called_points(folder: Path) -> Counter[str]:
    """Names with which `fail_point` is called below a folder; a name that is no literal fails the test."""
    found: Counter[str] = Counter()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "fail_point":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), f"{file}:{node.lineno}: not a literal"
                found[argument.value] += 1
    return found


@pytest.mark.parametrize("process", PROCESSES)
def test_each_name_is_called_once_by_its_process_and_no_other_name_is(process: str) -> None:
    assert called_points(ROOT / process) == Counter(PROCESSES[process].keys())


def test_no_other_code_has_fail_points() -> None:
    assert not called_points(ROOT / "core")
    assert not called_points(ROOT / "cli")
    assert not called_points(ROOT / "gateway")


def test_both_processes_read_at_their_start_which_point_is_armed() -> None:
    for module in ("import_operator", "import_worker"):
        answer = subprocess.run(
            [sys.executable, "-m", module],
            env={
                "PATH": os.environ["PATH"],
                "DATABASE_URL": "postgresql://127.0.0.1:9/none",
                "REDIS_URL": "redis://127.0.0.1:9/0",
                "IMPORT_FAIL_POINT": "no.such-point",
                "IMPORT_FAIL_POINT_MARKER": "/nowhere",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.returncode != 0
        assert "IMPORT_FAIL_POINT: 'no.such-point' is none of this process's" in answer.stdout + answer.stderr


def test_nothing_happens_unless_a_point_is_armed(deaths: list[tuple[int, int]]) -> None:
    arm_fail_point(WORKER_POINTS, {})
    for name in WORKER_POINTS:
        fail_point(name)
    assert deaths == []


def test_the_armed_point_kills_with_sigkill_and_leaves_its_marker_first(
    deaths: list[tuple[int, int]], tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    arm_fail_point(
        WORKER_POINTS, {"IMPORT_FAIL_POINT": "job.claimed", "IMPORT_FAIL_POINT_MARKER": str(marker)}
    )
    fail_point("job.finished")
    assert deaths == []
    assert not marker.exists()
    fail_point("job.claimed")
    assert deaths == [(os.getpid(), signal.SIGKILL)]
    assert marker.exists()


def test_a_marker_disarms_the_point_until_it_is_taken_away(
    deaths: list[tuple[int, int]], tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    marker.touch()
    arm_fail_point(
        OPERATOR_POINTS, {"IMPORT_FAIL_POINT": "job.cancelled", "IMPORT_FAIL_POINT_MARKER": str(marker)}
    )
    fail_point("job.cancelled")
    assert deaths == []
    marker.unlink()
    fail_point("job.cancelled")
    fail_point("job.cancelled")
    assert len(deaths) == 1


@pytest.mark.parametrize("name", ["job.claim", "record.committed", "Job.claimed"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"job\.claimed, page\.images-stored") as refusal:
        arm_fail_point(
            WORKER_POINTS, {"IMPORT_FAIL_POINT": name, "IMPORT_FAIL_POINT_MARKER": str(tmp_path / "m")}
        )
    assert refusal.value.field == "IMPORT_FAIL_POINT"


def test_a_point_without_a_marker_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="IMPORT_FAIL_POINT_MARKER"):
        arm_fail_point(WORKER_POINTS, {"IMPORT_FAIL_POINT": "job.claimed"})


def test_an_unarmed_point_is_one_comparison() -> None:
    """So that it may stand in the hottest code: the body is an `if` on a module's name, and nothing before it."""
    tree = ast.parse(Path(fail_points.__file__).read_text())
    (function,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "fail_point"]
    _docstring, *body = function.body
    assert [ast.unparse(statement) for statement in body] == ["if name == _armed:\n    _die_once()"]
