"""Watches over the process that runs an installation, and cleans up if it dies without stopping it.

Run as `python -m import_local.warden STATE_FOLDER PID` with a pipe as standard input, whose other end is held
by the watched process PID. A byte in it means that all was stopped; its mere end means that the process was
killed. Most children end with their parent by themselves (Linux), but the processes of pods outlive a kubelet,
as containers do.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

from import_local.folders import try_lock
from import_local.state import Run, StateFolder
from import_local.strays import end_strays

ALL_STOPPED = b"."
_LOCK_SECONDS = 30.0


def main() -> None:
    """Wait for the end of the watched process; end its children unless it did so itself."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read(1) == ALL_STOPPED:
        return
    asyncio.run(_clean_up_after(StateFolder(Path(sys.argv[1])), int(sys.argv[2])))


async def _clean_up_after(state: StateFolder, pid: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while state.path.exists() and time.monotonic() < deadline:
        with try_lock(state.lock) as held:
            run = state.read_run()
            if run is None or run.holder.pid != pid:
                return  # a new start was faster, and has ended what was left
            if held and run.holder.process() is None:
                await _clean_up(state, run)
                return
        await asyncio.sleep(0.1)  # the pipe may close a moment before the process is gone


async def _clean_up(state: StateFolder, run: Run) -> None:
    await end_strays(state)
    state.write_failure(
        f"{run.holder.name} (pid {run.holder.pid}) was killed; everything that it ran was stopped"
    )
    state.remove_run()


if __name__ == "__main__":
    main()
