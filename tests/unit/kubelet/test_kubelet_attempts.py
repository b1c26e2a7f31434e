"""A container start is claimed once: by its shim, or by a kubelet that gives it up."""

import asyncio
import os
import sys

import pytest

from import_local.kubelet.cleanup import end_strays
from import_local.kubelet.notifier import FolderNotifier
from import_local.kubelet.pod_context import STATE_MARK
from import_local.kubelet.processes import ProcessId, is_alive, read_facts, send_signal, wait_for_end
from import_local.kubelet.records import PodRecord, read_records
from import_local.kubelet.runtime import SHIM, ContainerRuntime


@pytest.fixture
def record(tmp_path):
    record = PodRecord(tmp_path / "pods" / "u", "u", "n", "p", "127.64.0.1", 1)
    record.save()
    return record


@pytest.fixture
async def runtime():
    notifier = FolderNotifier()
    yield ContainerRuntime(notifier, 10_000)
    notifier.close()


async def run_shim(attempt, *command):
    words = [sys.executable, "-I", "-S", str(SHIM), str(attempt.folder), "10000", "/", "--", *command]
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(30):
        return await process.wait()


async def test_a_given_up_attempt_is_never_started(record, tmp_path):
    attempt = record.add_attempt("c", 0)
    assert attempt.give_up()
    await run_shim(attempt, "touch", str(tmp_path / "started"))
    assert not (tmp_path / "started").exists()
    assert attempt.give_up()


async def test_a_started_attempt_cannot_be_given_up(record, runtime):
    attempt = record.add_attempt("c", 0)
    await runtime.start(attempt, ["sh", "-c", "exit 4"], {"PATH": os.environ["PATH"]}, record.folder)
    assert not attempt.give_up()
    ended = await runtime.wait(attempt)
    assert (ended.exit_code, ended.reason) == (4, "Error")
    assert ended.started <= ended.finished


async def test_a_late_shim_finds_nothing_to_start(record, runtime, tmp_path):
    attempt = record.add_attempt("c", 0)
    assert not await runtime.resume(attempt)
    assert record.list_attempts("c") == []
    await run_shim(attempt, "touch", str(tmp_path / "started"))
    assert not (tmp_path / "started").exists()


async def test_a_given_up_number_can_be_started_again(record, runtime):
    assert not await runtime.resume(record.add_attempt("c", 0))
    attempt = record.add_attempt("c", 0)
    await runtime.start(attempt, ["true"], {"PATH": os.environ["PATH"]}, record.folder)
    assert (await runtime.wait(attempt)).reason == "Completed"


async def test_a_process_of_another_start_time_is_left_alone():
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    facts = read_facts(process.pid)
    assert facts is not None
    other = ProcessId(process.pid, str(int(facts.started) - 1))
    assert not is_alive(other)
    assert not send_signal(other, 9)
    await wait_for_end(other)
    own = ProcessId(process.pid, facts.started)
    assert is_alive(own)
    assert send_signal(own, 9)
    await process.wait()
    assert not is_alive(own)


async def test_only_strays_are_ended(record, runtime, tmp_path):
    environment = {"PATH": os.environ["PATH"], STATE_MARK: str(tmp_path)}
    attempt = record.add_attempt("c", 0)
    await runtime.start(attempt, ["sh", "-c", "sleep 1000 & wait"], environment, record.folder)
    stray = await asyncio.create_subprocess_exec("sleep", "1000", env=environment)
    stranger = await asyncio.create_subprocess_exec("sleep", "1000", env={"PATH": os.environ["PATH"]})
    await end_strays(tmp_path, [record])
    # 255 where the stray's end was collected before asyncio saw it, which is then all that asyncio knows.
    assert await asyncio.wait_for(stray.wait(), 30) in {-9, 255}
    assert attempt.is_running()
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()
    runtime.kill(attempt)
    assert (await runtime.wait(attempt)).exit_code == 137


def test_only_the_last_attempts_are_kept(record):
    for number in range(5):
        record.add_attempt("c", number)
    assert [attempt.number for attempt in record.list_attempts("c")] == [3, 4]


def test_records_survive_and_half_made_folders_do_not(record, tmp_path):
    (tmp_path / "pods" / "half").mkdir()
    assert read_records(tmp_path) == [record]
    assert not (tmp_path / "pods" / "half").exists()
    record.add_attempt("c", 0)
    record.remove()
    assert read_records(tmp_path) == []


def test_a_reason_is_set_once(record):
    attempt = record.add_attempt("c", 0)
    (attempt.folder / "child").write_text("1 1")
    (attempt.folder / "exit").write_text("137 5000000000 ")
    attempt.set_reason("OOMKilled", "too large")
    attempt.set_reason("", "later")
    ended = attempt.read_end()
    assert (ended.reason, ended.message, ended.finished) == ("OOMKilled", "too large", 5_000_000_000)
