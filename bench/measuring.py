"""Runs one side of a comparison in a process of its own, and says what it took: seconds, CPU and memory.

`BENCH_PROFILE=FOLDER` leaves a profile of each run there, for `python -m pstats`; its figures are then too high.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import gc
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop


@dataclass(frozen=True, slots=True)
class Figures:
    """What a piece of work took: CPU seconds of its process, all threads; its peak memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    said: Any = None
    """What the work itself returned."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Figures:
        """What a peer's script printed."""
        return cls(value["seconds"], value["cpu_seconds"], value["peak_mib"], value.get("said"))


class Clock:
    """Given to the work, which starts it when all is prepared and stops it at its end."""

    def __init__(self, profile: Path | None = None) -> None:
        self._profile = profile
        self._profiler = cProfile.Profile() if profile else None
        self._began = (0.0, 0.0)
        self.taken = (0.0, 0.0)

    def start(self) -> None:
        if self._profiler:
            self._profiler.enable()
        self._began = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        seconds, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self.taken = (seconds, cpu)
        if self._profiler and self._profile:
            self._profiler.disable()
            self._profiler.dump_stats(self._profile)


def peak_mib() -> float:
    """The most memory that this process has had (resident, MiB), whatever its parent had before."""
    if sys.platform == "linux":
        # ru_maxrss of a child begins with its parent's; this does not.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process and its children so far, ended ones included."""
    process = psutil.Process(pid)
    total = sum(process.cpu_times()[:4])
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # its time has gone over to the parent
            total += sum(child.cpu_times()[:2])
    return float(total)


Work = Callable[..., Any]


async def _in_line(function: Callable[..., Any], *arguments: Any) -> Any:
    """In place of a thread, which the profiler would not see."""
    return function(*arguments)


def _child(sender: Any, name: str, work: Work, arguments: tuple[Any, ...], on_uvloop: bool) -> None:
    folder = os.environ.get("BENCH_PROFILE")
    if folder:
        asyncio.to_thread = _in_line  # type: ignore[assignment]
    clock = Clock(Path(folder) / f"{name}.prof" if folder else None)
    # As the worker's own process begins.
    gc.freeze()
    said = (uvloop.run if on_uvloop else asyncio.run)(work(clock, *arguments))
    sender.send(Figures(*clock.taken, peak_mib(), said))
    sender.close()


async def in_process(name: str, work: Work, *arguments: Any, on_uvloop: bool = False) -> Figures:
    """Run `await work(clock, *arguments)` in a new process; RuntimeError where it fails.

    `on_uvloop`: with the event loop that our processes run on.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, name, work, arguments, on_uvloop))
    process.start()
    sender.close()
    try:
        figures: Figures = await asyncio.to_thread(receiver.recv)
    except EOFError:
        raise RuntimeError(f"{name} failed; see its output above") from None
    finally:
        await asyncio.to_thread(process.join)
    return figures
