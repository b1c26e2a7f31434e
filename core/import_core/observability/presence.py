"""Asks a process's neighbours for signs of life, so that its readiness tells the truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from import_core.domain.errors import ImportOperatorError
from import_core.domain.readiness import Presence, why_not_ready
from import_core.observability.logs import get_logger

log = get_logger(__name__)

ASK_SECONDS = 2.0
ANSWER_SECONDS = 3.0


class NeighbourWatch:
    """`questions` raise an ImportOperatorError when their neighbour, named by the key, does not answer.

    `show` is told after each question whether the neighbour counts as there.
    """

    def __init__(
        self,
        questions: Mapping[str, Callable[[], Awaitable[None]]],
        *,
        ask_seconds: float = ASK_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        show: Callable[[str, bool], None] = lambda _name, _there: None,
    ) -> None:
        self._show = show
        self._questions = dict(questions)
        self._ask_seconds = ask_seconds
        self._answer_seconds = answer_seconds
        self._presences = {name: Presence() for name in self._questions}

    def why_not_ready(self) -> str | None:
        """Which neighbours are away; None: all are there."""
        return why_not_ready(self._presences, time.monotonic())

    async def run(self) -> None:
        """Ask for ever, each neighbour by itself: one that hangs does not hide another."""
        async with asyncio.TaskGroup() as group:
            for name in self._questions:
                group.create_task(self._watch(name), name=f"presence-{name}")

    async def _watch(self, name: str) -> None:
        while True:
            asked_at = time.monotonic()
            await self._ask(name)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A library lost the cancellation (python/cpython#86296), and a group asks its tasks once only.
                raise asyncio.CancelledError
            # By the clock: one answer that did not come in time is made good before it counts as an absence.
            await asyncio.sleep(max(0.0, asked_at + self._ask_seconds - time.monotonic()))

    async def _ask(self, name: str) -> None:
        before = self._presences[name]
        detail = None
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._questions[name]()
        except (ImportOperatorError, TimeoutError) as error:
            detail = str(error) or f"no answer within {self._answer_seconds:g} s"
        except Exception as error:  # noqa: BLE001 - told below; a question must not end the process
            detail = type(error).__name__
        now = time.monotonic()
        after = before.after_failure(now) if detail is not None else before.after_answer(now)
        self._presences[name] = after
        self._show(name, after.there)
        if before.there and not after.there:
            log.warning("neighbour.away", neighbour=name, message=detail or "it answered too late")
        elif after.there and not before.there:
            log.info("neighbour.there", neighbour=name)
