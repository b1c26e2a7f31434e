"""Answers kept for a short time: one question per key and period, old answers for a while, bounded memory."""

import asyncio

import pytest

from import_core.domain.errors import DatabaseUnavailableError
from import_gateway.admission.readings import AT_ONCE, WAITING, Readings

NEVER = float("inf")


class Store:
    """Answers with the number of the question, or not at all; time is what the test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()
        self.readings: Readings[str, int] = Readings(
            "test", self.ask, fresh=10, stale=60, size=3, clock=lambda: self.now
        )

    async def ask(self, key: str) -> int:
        self.asked.append(key)
        await self.answering.wait()
        if self.away:
            raise DatabaseUnavailableError
        return len(self.asked)

    async def get(self, key: str = "a", *, wait: float = NEVER) -> int | None:
        return await self.readings.get(key, deadline=self.now + wait)


@pytest.fixture
def store() -> Store:
    return Store()


async def test_one_question_for_many_askers(store: Store) -> None:
    store.answering.clear()
    asking = [asyncio.create_task(store.get()) for _ in range(50)]
    await asyncio.sleep(0)
    store.answering.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert await store.get() == 1
    assert store.asked == ["a"]


async def test_an_answer_lasts_its_period(store: Store) -> None:
    assert await store.get() == 1
    store.now += 9.9
    assert await store.get() == 1
    store.now += 0.2
    assert await store.get() == 2


async def test_a_store_that_is_away_is_asked_once_a_period(store: Store) -> None:
    store.away = True
    for _ in range(20):
        assert await store.get() is None
    assert store.asked == ["a"]
    store.now += 10
    assert await store.get() is None
    assert store.asked == ["a", "a"]


async def test_the_old_answer_holds_while_the_store_is_away_but_not_for_ever(store: Store) -> None:
    assert await store.get() == 1
    store.away = True
    for _ in range(5):
        store.now += 11
        assert await store.get() == 1
    store.now += 11
    assert await store.get() is None
    store.away = False
    store.now += 11
    assert await store.get() == 8


async def test_who_can_not_wait_gets_the_old_answer_and_the_question_goes_on(store: Store) -> None:
    assert await store.get() == 1
    store.now += 11
    store.answering.clear()
    assert await store.get(wait=0) == 1
    assert await store.get(wait=0) == 1
    store.answering.set()
    assert await store.get() == 2
    assert store.asked == ["a", "a"]


async def test_an_asker_who_gives_up_ends_nobody_elses_question(store: Store) -> None:
    store.answering.clear()
    first, second = asyncio.create_task(store.get()), asyncio.create_task(store.get())
    await asyncio.sleep(0)
    first.cancel()
    store.answering.set()
    assert await second == 1


async def test_those_used_last_are_remembered(store: Store) -> None:
    for key in ("a", "b", "c", "a", "d"):
        await store.get(key)
    assert len(store.readings) == 3
    assert await store.get("a") == 1
    assert await store.get("b") == 5


async def test_closing_ends_questions(store: Store) -> None:
    store.answering.clear()
    asking = asyncio.create_task(store.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await store.readings.close()
    assert await asking is None


async def test_the_store_has_few_questions_however_many_keys_are_asked_for(store: Store) -> None:
    store.answering.clear()
    asking = [asyncio.create_task(store.get(f"key-{number}")) for number in range(WAITING)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(store.asked) == AT_ONCE
    assert await store.get("one-more") is None, "nobody is asked about it, and nobody waits"
    store.answering.set()
    assert None not in await asyncio.gather(*asking)
    assert len(store.asked) == WAITING
    assert await store.get("one-more") == WAITING + 1, "it is asked about as soon as there is a turn"
