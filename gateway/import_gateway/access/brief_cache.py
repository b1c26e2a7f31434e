"""Answers that are remembered for a short time: bounded, and asked for once however many wait for them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class BriefCache(Generic[Answer]):
    """`seconds` says how long an answer holds; `clock` is monotonic. The oldest go when there are too many."""

    def __init__(self, *, seconds: Callable[[Answer], float], most: int, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._answers: OrderedDict[object, tuple[Answer, float]] = OrderedDict()
        self._asking: dict[object, asyncio.Task[Answer]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: object) -> bool:
        """Whether there is an answer, be it too old."""
        return key in self._answers

    def put(self, key: object, answer: Answer) -> None:
        """Remember an answer from now on."""
        self._answers.pop(key, None)
        self._answers[key] = (answer, self._clock() + self._seconds(answer))
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def forget(self, key: object) -> None:
        """Remember nothing of it."""
        self._answers.pop(key, None)

    async def get(self, key: object, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer for `key`, from memory or from `ask`; an error of it is raised to all who wait."""
        known = self._answers.get(key)
        if known is not None and known[1] > self._clock():
            return known[0]
        task = self._asking.get(key)
        if task is None:
            # A task of its own: one who waits and goes away must not take the answer from the others.
            task = asyncio.create_task(self._ask(key, ask))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    async def _ask(self, key: object, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        answer = await ask()
        self.put(key, answer)
        return answer

    def _done(self, key: object, task: asyncio.Task[Answer]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio would complain where all who waited have gone
