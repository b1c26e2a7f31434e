"""Starts, awaits and stops container processes, each through its shim."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from import_local.kubelet import processes
from import_local.kubelet.notifier import FolderNotifier
from import_local.kubelet.processes import ProcessId
from import_local.kubelet.records import Attempt
from import_local.kubelet.status import Terminated

SHIM = Path(__file__).with_name("shim.py")


class ContainerRuntime:
    """The container processes of one node."""

    def __init__(self, notifier: FolderNotifier, log_bytes: int) -> None:
        self._notifier = notifier
        self._log_bytes = log_bytes

    async def start(
        self, attempt: Attempt, command: list[str], environment: Mapping[str, str], working_directory: Path
    ) -> None:
        """Start a container; returns once its process runs, or has failed to.

        Raises OSError when the system has no room for it; the attempt is forgotten then.
        """
        with self._notifier.watch(attempt.folder) as changed:
            try:
                pid = await asyncio.to_thread(self._spawn, attempt, command, environment, working_directory)
            except OSError:
                shutil.rmtree(attempt.folder)
                raise
            facts = processes.read_facts(pid)
            if facts is not None:
                await self._wait_for_child(attempt, ProcessId(pid, facts.started), changed)

    async def resume(self, attempt: Attempt) -> bool:
        """Take on an attempt of an earlier kubelet; False when it was never started, and won't be."""
        if attempt.give_up():
            # A shim that comes late finds no folder, or one that another has claimed.
            shutil.rmtree(attempt.folder)
            return False
        shim = attempt.read_process("shim")
        if shim is not None:
            with self._notifier.watch(attempt.folder) as changed:
                await self._wait_for_child(attempt, shim, changed)
        return True

    async def wait(self, attempt: Attempt) -> Terminated:
        """Wait for the end of a started container and return how it ended."""
        shim = attempt.read_process("shim")
        if shim is not None:
            await processes.wait_for_end(shim)
        child = attempt.read_process("child")
        if child is not None and processes.send_signal(child, signal.SIGKILL):
            await processes.wait_for_end(child)
        return attempt.read_end()

    def terminate(self, attempt: Attempt) -> bool:
        """Ask the container's main process to end (SIGTERM); False when it has ended."""
        child = attempt.read_process("child")
        return child is not None and processes.send_signal(child, signal.SIGTERM)

    def kill(self, attempt: Attempt) -> bool:
        """Kill the container's main process (SIGKILL), whose end is that of all its descendants."""
        child = attempt.read_process("child")
        return child is not None and processes.send_signal(child, signal.SIGKILL)

    def _spawn(
        self, attempt: Attempt, command: list[str], environment: Mapping[str, str], working_directory: Path
    ) -> int:
        arguments = [sys.executable, "-I", "-S", str(SHIM), str(attempt.folder), str(self._log_bytes)]
        arguments += [str(working_directory), "--", *command]
        error_file = str(attempt.folder / "shim.err")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return os.posix_spawn(
            sys.executable,
            arguments,
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, error_file, flags, 0o600),
            ],
            setsid=True,
        )

    async def _wait_for_child(self, attempt: Attempt, shim: ProcessId, changed: asyncio.Event) -> None:
        ended = asyncio.ensure_future(processes.wait_for_end(shim))
        try:
            while not (attempt.folder / "child").exists() and not ended.done():
                changed.clear()
                if (attempt.folder / "child").exists():
                    break
                change = asyncio.ensure_future(changed.wait())
                await asyncio.wait({ended, change}, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
        finally:
            ended.cancel()
            await asyncio.wait([ended])


async def run_command(
    command: list[str], environment: Mapping[str, str], working_directory: Path, timeout: float
) -> int:
    """Run a command to its end and return its exit code, negative for a signal.

    Raises TimeoutError after `timeout` seconds, its process group being killed, and OSError when it
    cannot be executed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        cwd=working_directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            return await process.wait()
    finally:
        if process.returncode is None:
            processes.kill_group(process.pid)
            await process.wait()
