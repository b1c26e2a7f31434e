"""Starting, stopping and looking at a supervisor from another process."""

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time

import psutil

from import_local.errors import LocalError
from import_local.folders import runs_as_root, try_lock
from import_local.processes import describe_exit, log_tail
from import_local.progress import Progress
from import_local.state import Run, StateFolder
from import_local.strays import end_strays

# The pods' grace, then databases and control plane.
_STOP_SECONDS = 120.0


def start_supervisor(state: StateFolder, *, context: str | None, operator: bool, progress: Progress) -> None:
    """Start a detached supervisor and wait until all is ready; LocalError says why it is not.

    An interrupted wait (Ctrl-C) stops what was started and raises KeyboardInterrupt once that is done.
    """
    state.create()
    log_path = state.logs / "supervisor.log"
    command = [sys.executable, "-m", "import_local.supervisor", str(state.path)]
    command += ["--context", context] if context else []
    command += [] if operator else ["--no-operator"]
    with log_path.open("ab") as log:
        supervisor = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    try:
        _follow(supervisor, progress)
    except KeyboardInterrupt:
        supervisor.terminate()
        progress("supervisor", "interrupted: stopping what was started")
        with contextlib.suppress(LocalError):
            _follow(supervisor, progress)
        supervisor.wait(_STOP_SECONDS)
        raise
    except _SupervisorEndedError:
        code = supervisor.wait(10)
        raise LocalError(
            f"the supervisor {describe_exit(code)} during the start; its log is {log_path}, "
            f"which ends with:\n{log_tail(log_path)}"
        ) from None


class _SupervisorEndedError(Exception):
    """The supervisor ended without a word."""


def _follow(supervisor: "subprocess.Popen[bytes]", progress: Progress) -> None:
    """Show a supervisor's news until it is ready or says what went wrong."""
    if supervisor.stdout is None:
        raise LocalError("the supervisor was started without a pipe")
    for line in supervisor.stdout:
        news = json.loads(line)
        if "error" in news:
            supervisor.wait(_STOP_SECONDS)
            raise LocalError(news["error"])
        if "ready" in news:
            return
        progress(news["part"], news["message"])
    raise _SupervisorEndedError


def is_held(state: StateFolder) -> bool:
    """Whether a process runs an installation in this folder."""
    if not state.lock.exists():
        return False
    with try_lock(state.lock) as free:
        return not free


def current_run(state: StateFolder) -> Run | None:
    """Return what runs now; None when nothing does, whatever the last run left written."""
    run = state.read_run() if state.path.exists() else None
    return run if run is not None and run.holder.process() is not None and is_held(state) else None


async def stop(state: StateFolder, progress: Progress) -> bool:
    """Stop what runs in this folder and wait for its end; False when nothing ran.

    Also ends what a killed supervisor left behind.
    """
    if not state.path.exists():
        return False
    run = current_run(state)
    holder = run.holder.process() if run is not None else None
    if run is None or holder is None:
        return await _stop_leftovers(state, progress)
    began = time.monotonic()
    holder.send_signal(signal.SIGTERM)
    while holder.is_running() and holder.status() != psutil.STATUS_ZOMBIE:
        elapsed = time.monotonic() - began
        if elapsed > _STOP_SECONDS:
            holder.kill()
            await _stop_leftovers(state, progress)
            break
        left = [
            record.name for record in run.children if record.name != "warden" and record.process() is not None
        ]
        progress("stopping", ", ".join(left) or "the supervisor")
        with contextlib.suppress(psutil.TimeoutExpired):
            await asyncio.to_thread(holder.wait, 0.5)
    return True


async def _stop_leftovers(state: StateFolder, progress: Progress) -> bool:
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        with try_lock(state.lock) as held:
            if held:
                ended = await end_strays(state)
                if ended:
                    progress("stopping", f"left by a killed supervisor: {', '.join(ended)}")
                state.remove_run()
                return bool(ended)
        progress("stopping", "waiting for the warden, which is cleaning up")
        await asyncio.sleep(0.5)
    raise LocalError(f"{state.path} is still in use after {_STOP_SECONDS:g} s")


def delete_data(state: StateFolder) -> None:
    """Remove a stopped installation's folders with everything in them."""
    choices = state.read_choices() if state.path.exists() else None
    if choices is not None:
        data = state.postgres(choices)
        shutil.rmtree(data.parent if runs_as_root() else data, ignore_errors=True)
    shutil.rmtree(state.path, ignore_errors=True)
