"""Follows the operator's requests to drain: takes nothing more, finishes what it holds, says so, and comes back."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from import_core.adapters.postgres.draining import DrainStore
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import DatabaseUnavailableError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 15.0
"""Requests are heard; one whose hint was lost is found by then."""
AGAIN_SECONDS = 0.5
"""After an answer that could not be written."""


class Pausable(Protocol):
    """What takes messages."""

    async def pause(self) -> None:
        """Take no more; returns when none is held. Cancelled, it stays paused."""

    def resume(self) -> None:
        """Take messages again."""


class DrainKeeper:
    """One worker process' side of the handshake. A request binds the pod, so also a process that starts later."""

    def __init__(self, store: DrainStore, consumer: Pausable, *, worker_id: str, pod_uid: str) -> None:
        self._store = store
        self._consumer = consumer
        self._worker_id = worker_id
        self._pod_uid = pod_uid
        self._hinted = asyncio.Event()
        self._pausing: asyncio.Task[None] | None = None
        self._answered: int | None = None
        self._closed = False

    @property
    def state(self) -> str | None:
        """`draining` while jobs are finished, then `drained`; None: takes jobs."""
        if self._pausing is None:
            return None
        return "drained" if self._holds_nothing() else "draining"

    def why_not_ready(self) -> str | None:
        """A worker that still has jobs is ready: those that are not are what a ReplicaSet stops first."""
        return "drained" if self.state == "drained" else None

    def heed(self, pod_uids: list[str] | None) -> None:
        """The requests of these pods have changed; None: any may have."""
        if pod_uids is None or self._pod_uid in pod_uids:
            self._hinted.set()

    async def prepare(self) -> None:
        """Before the first message is taken: raises DatabaseUnavailableError."""
        await self._follow(await self._store.request_of(self._pod_uid))

    async def run(self) -> None:
        """Follow the requests for ever."""
        while True:
            seconds = LOOK_SECONDS
            self._hinted.clear()
            try:
                if not await self._follow(await self._store.request_of(self._pod_uid)):
                    seconds = AGAIN_SECONDS
            except DatabaseUnavailableError as error:
                log.warning("drain.not_known", detail=error.message)
                seconds = AGAIN_SECONDS
            await self._until_news(seconds)

    async def close(self) -> None:
        """Follow nothing any more: the process stops."""
        self._closed = True
        if self._pausing is not None:
            await end_tasks([self._pausing])

    async def _follow(self, request: int | None) -> bool:
        """Do as asked; False where an answer is due that could not be given yet."""
        if self._closed:
            return True
        if request is None:
            await self._come_back()
            return True
        if self._pausing is None or (self._pausing.done() and not self._holds_nothing()):
            log.info("worker.draining", request=request)
            self._pausing = asyncio.create_task(self._consumer.pause(), name="pausing")
            self._pausing.add_done_callback(lambda _: self._hinted.set())
            # The first step of `pause`, after which nothing more is taken.
            await asyncio.sleep(0)
        if not self._holds_nothing() or self._answered == request:
            return True
        if not await self._store.drained(self._worker_id, request):
            return False
        self._answered = request
        log.info("worker.drained", request=request)
        return True

    async def _come_back(self) -> None:
        if self._pausing is None:
            return
        await end_tasks([self._pausing])
        self._pausing, self._answered = None, None
        self._consumer.resume()
        log.info("worker.taken_back")

    def _holds_nothing(self) -> bool:
        pausing = self._pausing
        return (
            pausing is not None and pausing.done() and not pausing.cancelled() and pausing.exception() is None
        )

    async def _until_news(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hinted.wait()
        except TimeoutError:
            return
