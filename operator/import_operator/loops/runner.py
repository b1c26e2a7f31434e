"""Runs the named loops: rounds with metrics, errors that pass counted and retried, a loop's end ends the process."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import ImportOperatorError
from import_core.observability.logs import get_logger
from import_operator import metrics

log = get_logger(__name__)

FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 5.0
REFUSED_AGAIN_SECONDS = 10.0
"""What the API server refused is tried again: one that has just started refuses all until it has read its roles."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A round that is repeated every `interval` seconds, or as soon as `wake` is set.

    Between two rounds pass at least `pause` seconds, so that events coming together are handled together.
    """

    name: str
    round: Callable[[], Awaitable[None]]
    interval: float
    wake: asyncio.Event | None = None
    pause: float = 0.0


async def run_loops(loops: Sequence[Loop]) -> None:
    """Run all loops until cancelled, or until one of them ends, which raises what it ended with."""
    tasks = [asyncio.create_task(_run(loop), name=f"loop-{loop.name}") for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)
    for task in done:
        task.result()


async def _run(loop: Loop) -> None:
    failures = 0
    due = time.monotonic()
    if loop.interval:
        # One that waits for ever in its round has neither.
        metrics.LOOP_INTERVAL.labels(loop.name).set(max(loop.interval, loop.pause))
        metrics.LOOP_LAST_SUCCESS.labels(loop.name).set_to_current_time()
    while True:
        if loop.wake is not None:
            loop.wake.clear()
        metrics.LOOP_LAG.labels(loop.name).observe(max(0.0, time.monotonic() - due))
        failures = 0 if await _one_round(loop) else failures + 1
        if not failures:
            due = time.monotonic() + max(loop.interval, loop.pause)
        if failures:
            # Woken or not: whatever is away needs a moment.
            await asyncio.sleep(backoff(failures, random.random()))  # noqa: S311
        else:
            await _until_next(loop)


async def _one_round(loop: Loop) -> bool:
    started = time.monotonic()
    try:
        await loop.round()
    except ImportOperatorError as error:
        log.warning("loop.failed", loop=loop.name, error=type(error).__name__, message=error.message)
        metrics.LOOP_ERRORS.labels(loop.name, type(error).__name__).inc()
        return False
    except Exception as error:
        log.exception("loop.failed", loop=loop.name, error=type(error).__name__)
        metrics.LOOP_ERRORS.labels(loop.name, type(error).__name__).inc()
        return False
    if loop.interval:
        metrics.LOOP_LAST_SUCCESS.labels(loop.name).set_to_current_time()
    metrics.LOOP_SECONDS.labels(loop.name).observe(time.monotonic() - started)
    return True


async def _until_next(loop: Loop) -> None:
    if loop.pause:
        await asyncio.sleep(loop.pause)
    rest = max(0.0, loop.interval - loop.pause)
    if loop.wake is None:
        await asyncio.sleep(rest)
        return
    try:
        async with asyncio.timeout(rest):
            await loop.wake.wait()
    except TimeoutError:
        return


def backoff(failures: int, spread: float) -> float:
    """Seconds to wait after so many failures in a row; `spread` in [0, 1) keeps replicas apart."""
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + spread / 2)
