"""Child processes of a local installation: started with a log file, never outliving their parent unasked."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from import_local.errors import PartError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_TAIL_BYTES = 2_000
_KILL_SECONDS = 10.0


def base_environment(**extra: str) -> dict[str, str]:
    """Environment for a child: only what programs need, so that no proxy or token of the caller leaks in."""
    kept = {
        key: os.environ[key] for key in ("HOME", "LANG", "PATH", "TMPDIR", "TZ", "USER") if key in os.environ
    }
    # Set while the tests' coverage is measured, and only then: children count their lines too.
    measured = {key: value for key, value in os.environ.items() if key.startswith("COVERAGE_PROCESS")}
    return {**kept, **measured, **extra}


def describe_exit(return_code: int) -> str:
    """Say how a process ended, e.g. `was killed by SIGKILL` or `ended with exit code 2`."""
    if return_code >= 0:
        return f"ended with exit code {return_code}"
    try:
        return f"was killed by {signal.Signals(-return_code).name}"
    except ValueError:
        return f"was killed by signal {-return_code}"


def log_tail(log_path: Path) -> str:
    """Return the last lines of a log file, at most 2,000 bytes; empty when there is none."""
    try:
        with log_path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-12:])


@dataclass(frozen=True)
class Account:
    """The system user that a child runs as; only root can choose one."""

    user: str
    group: int


@dataclass
class Child:
    """One running child process."""

    name: str
    process: asyncio.subprocess.Process
    log_path: Path
    started_at: float  # the kernel's start time in seconds since the epoch; tells re-used pids apart
    stop_signal: signal.Signals
    stop_seconds: float

    @property
    def pid(self) -> int:
        """Process id; also the id of the child's process group."""
        return self.process.pid

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit code (negative: the signal)."""
        return await self.process.wait()

    async def stop(self) -> None:
        """Ask the process to stop and wait for its end; after `stop_seconds` it and its group are killed."""
        if self.process.returncode is None:
            self.process.send_signal(self.stop_signal)
            try:
                await asyncio.wait_for(self.process.wait(), self.stop_seconds)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):  # it may have ended just now
                    os.killpg(self.pid, signal.SIGKILL)
                await self.process.wait()

    async def kill(self, *, with_descendants: bool = True) -> None:
        """End the process at once, with all that it started: what is left when its machine is lost."""
        family: list[psutil.Process] = []
        if self.process.returncode is None:
            with contextlib.suppress(psutil.NoSuchProcess):  # it may end by itself at any moment
                family.append(psutil.Process(self.pid))
                family[0].suspend()  # so that it starts nothing more
                if with_descendants:
                    family += family[0].children(recursive=True)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await self.process.wait()
        await asyncio.to_thread(psutil.wait_procs, family, _KILL_SECONDS)

    def failure(self) -> PartError:
        """Describe the end of this process, which nobody asked for."""
        code = self.process.returncode
        what = describe_exit(code) if code is not None else "does not answer"
        return PartError(self.name, what, self.log_path, log_tail(self.log_path))


def _die_with_parent(death_signal: signal.Signals, parent: int) -> Callable[[], None] | None:
    """Build the hook that runs in a new child before its program: ties its life to the parent's (Linux)."""
    if _LIBC is None:
        return None
    libc = _LIBC

    def hook() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return hook


def _open_log(log_path: Path, *, append: bool) -> int:
    if log_path.exists() and not append:
        log_path.replace(log_path.with_name(log_path.name + ".1"))
    return os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


async def start_child(
    name: str,
    command: Sequence[str | os.PathLike[str]],
    *,
    log_path: Path,
    environment: Mapping[str, str],
    folder: Path | None = None,
    account: Account | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    stop_seconds: float = 10.0,
    death_signal: signal.Signals | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    append_log: bool = False,
    dies_with_parent: bool = True,
) -> Child:
    """Start a process in its own process group with output to `log_path`.

    On Linux it gets `death_signal`, or else `stop_signal`, when this process ends, however that happens, if
    `dies_with_parent`.
    The log of an earlier run is kept beside it as `<name>.log.1`. Raises PartError when the program cannot be started.
    """
    descriptor = _open_log(log_path, append=append_log)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=stdin,
            stdout=descriptor,
            stderr=descriptor,
            env=dict(environment),
            cwd=folder,
            user=account.user if account else None,
            group=account.group if account else None,
            extra_groups=[] if account else None,
            start_new_session=True,
            preexec_fn=_die_with_parent(death_signal or stop_signal, os.getpid())
            if dies_with_parent
            else None,
        )
    except OSError as error:
        raise PartError(name, f"cannot be started: {error}", log_path) from error
    finally:
        os.close(descriptor)
    try:
        started_at = psutil.Process(process.pid).create_time()
    except psutil.NoSuchProcess:
        started_at = 0.0
    return Child(name, process, log_path, started_at, stop_signal, stop_seconds)


async def wait_until_ready(
    child: Child, probe: Callable[[], Awaitable[bool]], *, timeout: float = 60.0, interval: float = 0.05
) -> None:
    """Ask `probe` until it says yes.

    Raises PartError as soon as the child ends, or after `timeout` seconds.
    """

    async def ask() -> None:
        while not await probe():  # noqa: ASYNC110 - a server tells nobody that it is ready
            await asyncio.sleep(interval)

    asking = asyncio.create_task(ask())
    ending = asyncio.create_task(child.wait())
    try:
        await asyncio.wait({asking, ending}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
            return
        if ending.done():
            raise child.failure()
        raise PartError(
            child.name, f"was not ready within {timeout:g} s", child.log_path, log_tail(child.log_path)
        )
    finally:
        for task in (asking, ending):
            task.cancel()
        await asyncio.gather(asking, ending, return_exceptions=True)


async def run_once(
    name: str,
    command: Sequence[str | os.PathLike[str]],
    *,
    log_path: Path,
    environment: Mapping[str, str],
    account: Account | None = None,
    timeout: float = 60.0,
) -> None:
    """Run a program to its end; raises PartError when it fails or takes longer than `timeout` seconds."""
    child = await start_child(
        name,
        command,
        log_path=log_path,
        environment=environment,
        account=account,
        append_log=True,
        stop_seconds=2,
    )
    try:
        code = await asyncio.wait_for(child.wait(), timeout)
    except TimeoutError:
        raise PartError(name, f"took longer than {timeout:g} s", log_path, log_tail(log_path)) from None
    finally:
        await child.stop()
    if code != 0:
        raise child.failure()
