"""The loops' runner: errors that pass do not end a loop, wakes are heard, an end ends all."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from import_core.domain.errors import DatabaseUnavailableError
from import_operator.loops import runner
from import_operator.loops.runner import LONGEST_BACKOFF_SECONDS, Loop, backoff, run_loops


def errors(loop: str, error: str) -> float:
    return REGISTRY.get_sample_value("imports_loop_errors_total", {"loop": loop, "error": error}) or 0.0


async def test_loop_goes_on_after_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_BACKOFF_SECONDS", 0.0)
    done = asyncio.Event()
    rounds = 0

    async def round_() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise DatabaseUnavailableError
        if rounds == 2:
            raise ZeroDivisionError
        done.set()

    task = asyncio.create_task(run_loops([Loop("stubborn", round_, interval=60)]))
    await asyncio.wait_for(done.wait(), 10)
    assert errors("stubborn", "DatabaseUnavailableError") == 1
    assert errors("stubborn", "ZeroDivisionError") == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_wake_is_heard() -> None:
    wake, second = asyncio.Event(), asyncio.Event()
    first = asyncio.Event()

    async def round_() -> None:
        (second if first.is_set() else first).set()

    task = asyncio.create_task(run_loops([Loop("sleeper", round_, interval=3600, wake=wake)]))
    await asyncio.wait_for(first.wait(), 10)
    assert not second.is_set()
    wake.set()
    await asyncio.wait_for(second.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_end_of_one_loop_ends_all() -> None:
    class EndError(BaseException):
        """What no loop expects."""

    async def forever() -> None:
        await asyncio.sleep(3600)

    async def broken() -> None:
        raise EndError

    with pytest.raises(EndError):
        await run_loops([Loop("fine", forever, interval=1), Loop("broken", broken, interval=1)])


async def test_loop_that_loses_its_cancellation_ends_all_the_same() -> None:
    """As psycopg's waiting does on Python 3.11, when a result comes with the cancellation."""
    started = asyncio.Event()
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        started.set()
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost += 1

    task = asyncio.create_task(run_loops([Loop("deaf", deaf, interval=1)]))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert lost == 1


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded(failures: int, spread: float) -> None:
    assert 0 < backoff(failures, spread) <= LONGEST_BACKOFF_SECONDS


def sample(name: str, loop: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"loop": loop})


async def test_a_loop_that_fails_falls_behind_and_shows_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_BACKOFF_SECONDS", 0.02)
    tried, began = asyncio.Event(), asyncio.Event()
    rounds = 0

    async def round_() -> None:
        nonlocal rounds
        rounds += 1
        began.set()
        if rounds >= 4:
            tried.set()
        raise DatabaseUnavailableError

    task = asyncio.create_task(run_loops([Loop("stuck", round_, interval=0.001)]))
    await asyncio.wait_for(began.wait(), 10)
    started = sample("imports_loop_last_success_timestamp_seconds", "stuck")
    await asyncio.wait_for(tried.wait(), 10)
    assert started is not None, "a loop that never succeeded is seen as well"
    assert sample("imports_loop_last_success_timestamp_seconds", "stuck") == started
    assert sample("imports_loop_interval_seconds", "stuck") == 0.001
    assert (sample("imports_loop_lag_seconds_sum", "stuck") or 0) > 0.02
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_loop_that_waits_in_its_round_has_no_last_success() -> None:
    began = asyncio.Event()

    async def round_() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run_loops([Loop("listener", round_, interval=0.0)]))
    await asyncio.wait_for(began.wait(), 10)
    assert sample("imports_loop_last_success_timestamp_seconds", "listener") is None
    assert sample("imports_loop_interval_seconds", "listener") is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
