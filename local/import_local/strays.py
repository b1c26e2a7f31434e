"""Ends what an earlier run left behind, when the process that ran it was killed without a chance to stop it."""

import asyncio
import contextlib
import os
import signal

import psutil

from import_local.state import StateFolder

_GRACE_SECONDS = 20.0
_POD_GRACE_SECONDS = 5.0  # databases and API server are gone: nothing is left to hand back to


async def end_strays(state: StateFolder) -> list[str]:
    """End every process that an earlier run in this folder left; returns their names.

    Only to be called while holding the folder's lock: what still lives then has nobody who would stop it.
    Processes are asked to stop first, and killed after 20 s.
    """
    run = state.read_run()
    found: list[tuple[str, psutil.Process]] = []
    for record in reversed(run.children if run else ()):
        process = record.process()
        if process is not None and process.pid != os.getpid():
            found.append((record.name, process))
    for _, process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    _, alive = await _wait_for([process for _, process in found], _GRACE_SECONDS)
    for process in alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await _wait_for(alive, 5)
    # After the kubelet, which would start a killed container again.
    pods = await end_pod_processes(state)
    return [name for name, _ in found] + [f"{pods} pod processes"] * (pods > 0)


async def end_pod_processes(state: StateFolder) -> int:
    """End the processes of this installation's pods; only when no kubelet cares for them any more.

    Returns how many there were. Works without the kubelet's records too: its mark is in the processes.
    """
    from import_local.kubelet.cleanup import clean_up  # imports much; seldom needed
    from import_local.kubelet.pod_context import STATE_MARK
    from import_local.kubelet.processes import find_marked, send_signal

    recorded = await clean_up(state.kubelet, _POD_GRACE_SECONDS)
    marked = [
        process for process in find_marked(STATE_MARK, str(state.kubelet)) if process.pid != os.getpid()
    ]
    for process in marked:
        send_signal(process, signal.SIGKILL)
    return recorded + len(marked)


async def _wait_for(
    processes: list[psutil.Process], timeout: float
) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Wait for the processes' end, at most `timeout` seconds; returns those that ended and those that live."""
    if not processes:
        return [], []
    return await asyncio.to_thread(psutil.wait_procs, processes, timeout)
