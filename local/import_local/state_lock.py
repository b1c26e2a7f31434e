"""The lock of a state folder: one installation at a time runs in it."""

import asyncio
import time
from contextlib import ExitStack

from import_local.errors import AlreadyRunningError
from import_local.folders import try_lock
from import_local.state import StateFolder

_CLEAN_UP_SECONDS = 40.0


class StateLock:
    """Taken by one process; the system takes it back when that one ends."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._lock = ExitStack()
        self.is_held = False

    async def take(self) -> None:
        """Wait until what ran here before has been cleaned up. Raises AlreadyRunningError, naming who runs."""
        deadline = time.monotonic() + _CLEAN_UP_SECONDS
        while not self._lock.enter_context(try_lock(self._state.lock)):
            self.release()
            run = self._state.read_run()
            if run is not None and run.holder.process() is not None:
                since = time.strftime("%H:%M:%S", time.localtime(run.since))
                raise AlreadyRunningError(
                    f"{self._state.path} is in use: {run.holder.name} (pid {run.holder.pid}) "
                    f"is {run.phase} since {since}"
                )
            # Its holder was killed and its warden is still ending what ran, or another start just began.
            if time.monotonic() > deadline:
                raise AlreadyRunningError(
                    f"{self._state.path} is in use, and what uses it did not say what it is"
                )
            await asyncio.sleep(0.2)
        self.is_held = True

    def release(self) -> None:
        """Let others run here."""
        self._lock.close()
        self.is_held = False
