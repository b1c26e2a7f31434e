"""Readiness follows the neighbours, and is slow to change its mind; the questions are asked by themselves."""

import asyncio
import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.readiness import AWAY_AFTER_SECONDS, Presence, why_not_ready
from import_core.observability.presence import NeighbourWatch


def presence(*events: tuple[float, bool]) -> Presence:
    seen = Presence()
    for now, answered in events:
        seen = seen.after_answer(now) if answered else seen.after_failure(now)
    return seen


def test_nobody_is_there_before_the_first_answer() -> None:
    assert why_not_ready({"PostgreSQL": Presence(), "Redis": Presence()}, 0) == (
        "no answer from PostgreSQL and Redis"
    )
    assert not presence((0, False), (2, False)).there
    assert presence((0, False), (2, True)).there


def test_one_failure_is_nothing() -> None:
    assert presence((0, True), (2, False), (4, False)).there
    assert why_not_ready({"Redis": presence((0, True), (2, False))}, 2) is None


def test_silence_for_a_time_is_an_absence() -> None:
    assert not presence((0, True), (2, False), (AWAY_AFTER_SECONDS, False)).there


def test_one_answer_does_not_bring_it_back() -> None:
    away = [(0.0, True), (10.0, False)]
    assert not presence(*away, (12, True)).there
    assert not presence(*away, (12, True), (14, False), (16, True)).there
    assert presence(*away, (12, True), (14, True)).there


def test_a_question_that_waits_for_its_answer_does_not_hide_the_silence() -> None:
    answered = presence((0, True), (2, True))
    assert why_not_ready({"PostgreSQL": answered}, 2 + AWAY_AFTER_SECONDS - 0.1) is None
    assert why_not_ready({"PostgreSQL": answered}, 2 + AWAY_AFTER_SECONDS) == "no answer from PostgreSQL"
    late = answered.after_answer(3 + AWAY_AFTER_SECONDS)
    assert not late.there, "one answer does not bring it back"
    assert late.after_answer(5 + AWAY_AFTER_SECONDS).there


@given(st.lists(st.booleans(), max_size=200))
def test_readiness_never_changes_twice_within_the_time_it_takes(answers: list[bool]) -> None:
    """Asked every 2 s, a neighbour is away at the earliest 6 s after an answer, and back after two in a row."""
    seen, changes = Presence(), []
    for number, answered in enumerate(answers):
        now = 2.0 * number
        after = seen.after_answer(now) if answered else seen.after_failure(now)
        if after.there != seen.there:
            changes.append((now, after.there))
        seen = after
    for (before, was), (now, there) in itertools.pairwise(changes):
        assert was != there
        assert now - before >= (2.0 if there else AWAY_AFTER_SECONDS)


async def test_a_neighbour_that_hangs_does_not_hide_another() -> None:
    asked = asyncio.Event()

    async def answers() -> None:
        asked.set()

    async def hangs() -> None:
        await asyncio.Event().wait()

    watch = NeighbourWatch({"Redis": answers, "PostgreSQL": hangs}, ask_seconds=0.01, answer_seconds=0.01)
    assert watch.why_not_ready() == "no answer from Redis and PostgreSQL"
    task = asyncio.create_task(watch.run())
    async with asyncio.timeout(5):
        await asked.wait()
        while watch.why_not_ready() != "no answer from PostgreSQL":  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(0.01)
    await end_tasks([task])


@pytest.mark.parametrize("error", [DatabaseUnavailableError(), ZeroDivisionError("what nobody thought of")])
async def test_a_refusal_is_no_answer(error: Exception) -> None:
    failures = 0

    async def refuses() -> None:
        nonlocal failures
        failures += 1
        raise error

    watch = NeighbourWatch({"PostgreSQL": refuses}, ask_seconds=0.001)
    task = asyncio.create_task(watch.run())
    async with asyncio.timeout(5):
        while failures < 3:  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(0.01)
    assert watch.why_not_ready() == "no answer from PostgreSQL"
    assert not task.done(), "an absence does not end the watch"
    await end_tasks([task])


@pytest.mark.parametrize("error", [None, DatabaseUnavailableError()])
async def test_the_watch_ends_also_where_a_question_lost_the_cancellation(error: Exception | None) -> None:
    asked = asyncio.Event()

    async def loses() -> None:
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if error is not None:
            raise error

    task = asyncio.create_task(NeighbourWatch({"Redis": loses}, ask_seconds=0.001).run())
    await asked.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done
    assert task.cancelled()
