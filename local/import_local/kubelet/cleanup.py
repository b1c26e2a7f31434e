"""Ends processes that no kubelet cares for: all that a state folder records, or only what lost its container."""

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path

from import_local.kubelet.lock import StateLock
from import_local.kubelet.pod_context import STATE_MARK
from import_local.kubelet.processes import (
    ProcessId,
    find_marked,
    find_owners,
    is_alive,
    list_processes,
    send_signal,
    wait_for_end,
)
from import_local.kubelet.records import PodRecord, read_records

KILL_SECONDS = 5.0


async def clean_up(state: Path, grace: float) -> int:
    """End all recorded processes: SIGTERM, and SIGKILL after `grace` seconds; return how many there were.

    Each is verified by its start time. What is left of a pod after that is found by its environment.
    Raises KubeletError while a kubelet uses the folder.
    """
    if not (state / "pods").is_dir():
        return 0
    with StateLock(state):
        attempts = [attempt for record in read_records(state) for attempt in record.list_all_attempts()]
        for attempt in attempts:
            attempt.give_up()
        children = list_alive([attempt.read_process("child") for attempt in attempts])
        for child in children:
            send_signal(child, signal.SIGTERM)
        await wait_for_all(children, grace)
        for child in children:
            send_signal(child, signal.SIGKILL)
        await wait_for_all(children, grace)
        shims = list_alive([attempt.read_process("shim") for attempt in attempts])
        await wait_for_all(shims, grace)
        left = find_marked(STATE_MARK, str(state))
        for process in left:
            send_signal(process, signal.SIGKILL)
        await wait_for_all(left, grace)
        return len(children) + len(set(left) - set(children))


async def end_strays(state: Path, records: Iterable[PodRecord]) -> None:
    """Kill processes of this state folder that belong to no recorded container.

    A kubelet that was killed leaves its running probes; a killed shim leaves its container's children.
    """
    facts = list_processes()
    attempts = [attempt for record in records for attempt in record.list_all_attempts()]
    recorded = [attempt.read_process(name) for attempt in attempts for name in ("shim", "child")]
    roots = {process.pid for process in list_alive(recorded)}
    owners = find_owners(facts, roots)
    strays = [process for process in find_marked(STATE_MARK, str(state)) if owners.get(process.pid) is None]
    for process in strays:
        send_signal(process, signal.SIGKILL)
    await wait_for_all(strays, KILL_SECONDS)


def list_alive(processes: list[ProcessId | None]) -> list[ProcessId]:
    """Return those that are still alive."""
    return [process for process in processes if process is not None and is_alive(process)]


async def wait_for_all(processes: list[ProcessId], timeout: float) -> None:
    """Wait until all have ended, at most `timeout` seconds."""
    waits = [asyncio.create_task(wait_for_end(process)) for process in processes]
    if waits:
        _, pending = await asyncio.wait(waits, timeout=timeout)
        for task in pending:
            task.cancel()
