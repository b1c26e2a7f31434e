"""Processes of this machine: who they are, what they use, how they are signalled and awaited (Linux)."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one of the same number.

    `started` is its start time in clock ticks since boot.
    """

    pid: int
    started: str

    @classmethod
    def parse(cls, text: str) -> "ProcessId":
        """Read the form "pid start-time"."""
        pid, _, started = text.strip().partition(" ")
        return cls(int(pid), started)

    def __str__(self) -> str:
        return f"{self.pid} {self.started}"


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What /proc says of one process; `resident` in bytes."""

    parent: int
    state: str
    started: str
    resident: int


def read_facts(pid: int) -> ProcessFacts | None:
    """Return the facts of a process, or None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return ProcessFacts(
        parent=int(fields[1]),
        state=fields[0].decode(),
        started=fields[19].decode(),
        resident=int(fields[21]) * PAGE_SIZE,
    )


def is_alive(process: ProcessId) -> bool:
    """Tell whether exactly this process still runs (a zombie does not)."""
    facts = read_facts(process.pid)
    return facts is not None and facts.started == process.started and facts.state != "Z"


def list_processes() -> dict[int, ProcessFacts]:
    """Return the facts of all processes, in one pass over /proc."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only, every second
        if name.isdigit() and (facts := read_facts(int(name))) is not None:
            found[int(name)] = facts
    return found


def find_owners(processes: Mapping[int, ProcessFacts], roots: set[int]) -> dict[int, int | None]:
    """Return for each process the nearest root among itself and its ancestors, or None."""
    owners: dict[int, int | None] = {}
    for start in processes:
        pid, path = start, list[int]()
        while pid not in owners and pid not in roots and pid in processes and pid not in path:
            path.append(pid)
            pid = processes[pid].parent
        owner = pid if pid in roots else owners.get(pid)
        owners.update(dict.fromkeys([start, *path], owner))
    return owners


def get_resident_sums(processes: Mapping[int, ProcessFacts], roots: set[int]) -> dict[int, int]:
    """Return the resident bytes of each root together with all its descendants."""
    sums = dict.fromkeys(roots, 0)
    for pid, owner in find_owners(processes, roots).items():
        if owner is not None:
            sums[owner] += processes[pid].resident
    return sums


def send_signal(process: ProcessId, number: int) -> bool:
    """Signal exactly this process; False when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # Verified after the descriptor is held, so that the number can't have been given away meanwhile.
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def kill_group(pid: int) -> None:
    """Kill a process group of our own making, if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


async def wait_for_end(process: ProcessId) -> None:
    """Return when this process has ended, whether or not it is a child of ours."""
    if not is_alive(process):
        reap(process.pid)
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        if is_alive(process):
            loop.add_reader(descriptor, ended.set)
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    reap(process.pid)


def reap(pid: int) -> None:
    """Take an ended child out of the process table; another's child is left to its parent."""
    if pid > 0:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def read_environment(pid: int) -> dict[str, str]:
    """Return the environment with which a process was started; empty when it has ended."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    pairs = (entry.partition(b"=") for entry in data.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def find_marked(name: str, value: str) -> list[ProcessId]:
    """Return all processes whose environment has this variable with this value."""
    return [
        ProcessId(pid, facts.started)
        for pid, facts in list_processes().items()
        if facts.state != "Z" and read_environment(pid).get(name) == value
    ]
