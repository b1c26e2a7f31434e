"""Answers of a slow store, kept for a short time: at most one question per key and period, whoever asks."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from import_core.domain.errors import ImportOperatorError
from import_core.observability.logs import get_logger

log = get_logger(__name__)

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

WAIT_SECONDS = 1.0
"""A review waits so long for answers, for all together; the API server waits longer for the review."""
QUESTION_SECONDS = 5.0
AT_ONCE = 2
"""Questions that the store has at the same time; others need its connections, too."""
WAITING = 200
"""Questions under way, most of them waiting for their turn; more are not asked."""


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value | None = None
    read_at: float = float("-inf")
    asked_at: float = float("-inf")
    question: asyncio.Task[None] | None = None


class Readings(Generic[Key, Value]):
    """`ask` raises an ImportOperatorError when the store does not answer. Times are in seconds.

    An answer is used for `fresh` seconds. Then the store is asked again; while it does not answer, the old
    answer is used until it is `stale` seconds old. A failed question also lasts for `fresh` seconds: a store
    that is away is not asked by every caller. At most `size` keys are remembered, those used last. However many
    keys are asked for, the store has AT_ONCE questions; who comes when WAITING are under way gets what is known.
    `failed` is told, with `name`, of each question that was not answered.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[Key], Awaitable[Value]],
        *,
        fresh: float,
        stale: float,
        size: int = 1,
        clock: Callable[[], float] = time.monotonic,
        failed: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._failed = failed
        self._name = name
        self._ask = ask
        self._fresh = fresh
        self._stale = stale
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._questions: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: Key, *, deadline: float) -> Value | None:
        """The answer, or None where none is known that is young enough; waits until `deadline` of the clock."""
        entry = self._entry(key)
        now = self._clock()
        if now - entry.read_at < self._fresh:
            return entry.value
        due = entry.question is None and now - entry.asked_at >= self._fresh
        if due and len(self._questions) < WAITING:
            entry.asked_at = now
            entry.question = asyncio.create_task(self._read(key, entry))
            self._questions.add(entry.question)
            entry.question.add_done_callback(self._questions.discard)
        if entry.question is not None:
            # It does not cancel what it waits for: the question is everybody's.
            await asyncio.wait({entry.question}, timeout=max(0.0, deadline - now))
        usable = max(self._fresh, self._stale)
        return entry.value if self._clock() - entry.read_at < usable else None

    async def close(self) -> None:
        """End the questions under way."""
        questions = list(self._questions)
        for question in questions:
            question.cancel()
        await asyncio.gather(*questions, return_exceptions=True)

    def _entry(self, key: Key) -> _Entry[Value]:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(key)
        return entry

    async def _read(self, key: Key, entry: _Entry[Value]) -> None:
        try:
            async with asyncio.timeout(QUESTION_SECONDS), self._turns:
                entry.value = await self._ask(key)
            # From the question on: the answer may be as old as that.
            entry.read_at = entry.asked_at
        except (ImportOperatorError, TimeoutError) as error:
            message = str(error) or f"no answer within {QUESTION_SECONDS:g} s"
            self._failed(self._name)
            log.warning("admission.unknown", what=self._name, message=message)
        except Exception as error:  # noqa: BLE001 - told; who asked goes on without an answer
            self._failed(self._name)
            log.warning("admission.unknown", what=self._name, message=type(error).__name__)
        finally:
            entry.question = None
