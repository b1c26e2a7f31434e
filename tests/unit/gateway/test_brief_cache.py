"""Answers that are remembered: bounded, brief, asked for once."""

import asyncio

import pytest

from import_core.domain.callers import CallRate
from import_gateway.access.brief_cache import BriefCache
from import_gateway.access.gatekeeper import CallLimits


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, *, most: int = 10) -> BriefCache[int]:
    return BriefCache(seconds=lambda answer: 10.0 if answer else 1.0, most=most, clock=clock)


async def test_answer_is_asked_for_once_until_it_is_old() -> None:
    clock, asked = Clock(), 0
    cache = make(clock)

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return 1

    assert await asyncio.gather(*(cache.get("k", ask) for _ in range(5))) == [1] * 5
    clock.now = 9.9
    await cache.get("k", ask)
    assert asked == 1
    clock.now = 10.0
    await cache.get("k", ask)
    assert asked == 2


async def test_refusals_are_forgotten_sooner() -> None:
    clock, answers = Clock(), [0, 1]
    cache = make(clock)

    async def ask() -> int:
        return answers.pop(0)

    assert await cache.get("k", ask) == 0
    clock.now = 1.0
    assert await cache.get("k", ask) == 1


async def test_errors_are_not_remembered() -> None:
    cache = make(Clock())

    async def fail() -> int:
        raise LookupError

    async def ask() -> int:
        return 1

    with pytest.raises(LookupError):
        await cache.get("k", fail)
    assert await cache.get("k", ask) == 1


async def test_one_who_goes_away_does_not_take_the_answer_along() -> None:
    cache, release = make(Clock()), asyncio.Event()

    async def ask() -> int:
        await release.wait()
        return 1

    first = asyncio.create_task(cache.get("k", ask))
    second = asyncio.create_task(cache.get("k", ask))
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert await second == 1


async def test_memory_is_bounded() -> None:
    cache = make(Clock(), most=3)

    async def ask() -> int:
        return 1

    for number in range(10):
        await cache.get(number, ask)
    assert len(cache) == 3


def test_limits_forget_callers_who_have_all_their_calls_again() -> None:
    clock = Clock()
    limits = CallLimits(CallRate(1.0, 2), clock=clock, most=100)
    for number in range(50):
        limits.take(str(number))
    assert len(limits) == 50
    clock.now = 5.0
    limits.take("new")
    assert len(limits) == 1


def test_limits_are_bounded_also_while_all_are_busy() -> None:
    limits = CallLimits(CallRate(0.001, 2), clock=Clock(), most=10)
    for number in range(50):
        limits.take(str(number))
    assert len(limits) == 10
