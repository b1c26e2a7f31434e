"""Ends of processes in words, free ports, folders that can be used, and what a person sees meanwhile."""

import io
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from import_local.display import ProgressDisplay
from import_local.errors import FolderError, PartError
from import_local.folders import ensure_folder, ensure_space, try_lock
from import_local.ports import LOOPBACK, free_port, is_free
from import_local.processes import base_environment, describe_exit, log_tail, start_child


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (2, "ended with exit code 2"),
        (-9, "was killed by SIGKILL"),
        (-99, "was killed by signal 99"),
    ],
)
def test_an_end_is_said_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_a_failure_names_part_log_and_last_words(tmp_path: Path) -> None:
    error = PartError("postgres", "ended with exit code 1", tmp_path / "postgres.log", "no space")
    assert str(error) == (
        f"postgres ended with exit code 1; its log is {tmp_path / 'postgres.log'}, which ends with:\nno space"
    )


def test_the_end_of_a_log_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    assert log_tail(log) == ""
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    lines = log_tail(log).splitlines()
    assert len(lines) <= 12
    assert lines[-1] == "line 9999"
    log.write_text("x" * 1_000_000)
    assert len(log_tail(log)) <= 2_000


def test_a_childs_environment_holds_no_secret_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "caller's own")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    environment = base_environment(EXTRA="1")
    assert environment["EXTRA"] == "1"
    assert "PATH" in environment
    assert not {"AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY"} & set(environment)


def test_a_preferred_port_is_kept_while_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.socket() as server:
        server.bind((LOOPBACK, port))
        server.listen()
        assert not is_free(port)
        assert free_port(port) != port
    assert port < 32_768  # the first port that Linux gives to outgoing connections


def test_a_lock_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    with try_lock(tmp_path / "lock") as first:
        assert first
        with try_lock(tmp_path / "lock") as second:
            assert not second
    with try_lock(tmp_path / "lock") as third:
        assert third


def test_a_folder_is_made_private(tmp_path: Path) -> None:
    tmp_path.joinpath("open").mkdir(mode=0o755)
    assert ensure_folder(tmp_path / "open").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "open").iterdir()) == []


def test_too_little_space_is_named(tmp_path: Path) -> None:
    ensure_space(tmp_path, needed_bytes=1)
    with pytest.raises(FolderError, match=r"is full: \d+ MiB left, \d+ MiB are needed"):
        ensure_space(tmp_path, needed_bytes=2**60)


def test_a_log_gets_each_step_once_and_brackets_as_they_are() -> None:
    output = io.StringIO()
    with ProgressDisplay(Console(file=output)) as progress:
        progress("kubernetes", "building etcd (1 of 4): 1 packages compiled, 0 s")
        progress("kubernetes", "building etcd (1 of 4): 2 packages compiled, 1 s")
        progress("kubernetes", "building [red]more (2 of 4): 3 packages compiled, 2 s")
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert "1 packages compiled" in lines[0]
    assert "building [red]more" in lines[1]


def test_a_terminal_shows_every_part_with_its_seconds() -> None:
    output = io.StringIO()
    with ProgressDisplay(Console(file=output, force_terminal=True, width=100)) as progress:
        progress("postgres", "starting")
        progress("valkey", "starting")
        progress("postgres", "ready")
    last = output.getvalue()
    assert "ready" in last
    assert "valkey" in last
    assert " s" in last


async def test_a_process_that_has_just_ended_is_killed_without_a_word(tmp_path: Path) -> None:
    child = await start_child("brief", ["true"], log_path=tmp_path / "log", environment=base_environment())
    # Nothing is awaited meanwhile, so that its end is not known yet.
    assert wait_until_gone(child.pid)
    assert child.process.returncode is None
    await child.kill()
    assert await child.wait() == 0


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not psutil.pid_exists(pid)


def test_a_child_that_heeds_no_request_ends_with_its_parent(tmp_path: Path) -> None:
    parent = f"""
import asyncio, signal, sys
from pathlib import Path
from import_local.processes import base_environment, start_child
async def run():
    child = await start_child("deaf", ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"],
        log_path=Path({str(tmp_path / "log")!r}), environment=base_environment(), death_signal=signal.SIGKILL)
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(run())
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
    assert psutil.wait_procs([child], timeout=30)[0] == [child]
