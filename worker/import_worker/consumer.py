"""Takes messages from the BullMQ queue. BullMQ only carries ids here: PostgreSQL decides who works on what."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import structlog
from bullmq import Job, Worker  # type: ignore[import-untyped]
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from import_core.adapters.redis.queue import QUEUE_PREFIX
from import_core.domain.jobs import Message
from import_core.domain.limits import growing_delay
from import_core.fail_points import fail_point
from import_core.observability.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

LOCK_MILLISECONDS = 300_000
STALLED_CHECK_MILLISECONDS = 30_000
RETRY_MILLISECONDS = 1_000
BLOCK_SECONDS = 5
SOCKET_TIMEOUT_SECONDS = 15
"""Longer than a blocking read, or every quiet moment would look like a broken connection."""
CLOSE_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 5.0
PAUSE_LOOK_SECONDS = 1.0
"""How often a pause looks whether the package began to wait for messages after it was asked not to."""


class QueueConsumer:
    """One BullMQ worker. `handle` is awaited for each message; what it returns is not looked at."""

    def __init__(
        self,
        redis_url: str,
        *,
        queue: str,
        concurrency: int,
        handle: Callable[[Message], Awaitable[None]],
        metrics: WorkerMetrics,
        name: str = "worker",
    ) -> None:
        self._handle = handle
        self._metrics = metrics
        self._stopping = asyncio.Event()
        self._worker = _FetchingWorker(
            queue,
            self._process,
            {
                "connection": connection_options(redis_url),
                "prefix": QUEUE_PREFIX,
                "name": name,
                "autorun": False,
                "concurrency": concurrency,
                "lockDuration": LOCK_MILLISECONDS,
                "stalledInterval": STALLED_CHECK_MILLISECONDS,
                "runRetryDelay": RETRY_MILLISECONDS,
                "drainDelay": BLOCK_SECONDS,
            },
        )
        # The package's loop waits for this event while it is paused, and looks at nothing meanwhile.
        self._gate = _Gate()
        self._worker.resume_event = self._gate
        self._worker.on("error", self._on_error)
        self._worker.on("completed", self._on_acknowledged)
        for client in (self._worker.client, self._worker.bclient):
            # The package's own retries sleep for up to 20 s each, through a stop as well.
            client.set_retry(Retry(ExponentialBackoff(cap=1, base=0.05), 2))

    async def run(self) -> None:
        """Take messages until `stop`; then return when all handlers have."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                await self._worker.run()
                break
            except (RedisError, OSError) as error:
                # Its first word to Redis is the only one that the package does not repeat by itself.
                self._on_error(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(growing_delay(attempt, first=0.25, longest=LONGEST_WAIT_SECONDS)):
                    await self._stopping.wait()
            attempt += 1
        # The package's loop may end before the handlers that it started, and before those of what it has fetched.
        while self._worker.processing:
            await asyncio.wait(self._worker.processing)
            self._start_fetched()

    async def pause(self) -> None:
        """Take no more messages; returns once no handler is left. Cancelled, it stays paused.

        The package's own `pause` leaves a message that is fetched at that moment lying until `resume`; here it
        is handled.
        """
        worker = self._worker
        worker.paused = True
        self._gate.clear()
        self._end_waiting()
        while worker.running and not self._gate.reached.is_set():
            await self._until_reached()
            # It may have begun to wait since; what it took then would run while others are busy here.
            self._end_waiting()
        while worker.processing:
            await asyncio.wait(
                worker.processing, timeout=PAUSE_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            self._end_waiting()
            self._start_fetched()

    def resume(self) -> None:
        """Take messages again."""
        self._worker.paused = False
        self._gate.set()

    def _end_waiting(self) -> None:
        waiting = self._worker.waiting
        if waiting and not waiting.done():
            waiting.cancel()

    async def _until_reached(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_LOOK_SECONDS):
                await self._gate.reached.wait()

    def _start_fetched(self) -> None:
        """What the package's loop does with what it has waited for: messages get their handlers."""
        worker = self._worker
        ended = {task for task in worker.processing if task.done()}
        fetched = [task.result() for task in ended if not task.cancelled() and task.exception() is None]
        started = {
            asyncio.ensure_future(worker.processJob(job, job.token)) for job in fetched if job is not None
        }
        worker.processing = (worker.processing - ended) | started

    def stop(self) -> None:
        """Take no more messages; `run` returns once the handlers have."""
        self._stopping.set()
        self._worker.closing = True
        self._gate.set()
        if self._worker.waiting:
            self._worker.waiting.cancel()

    async def close(self) -> None:
        """Close the connections; handlers still running are cancelled."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._worker.close(force=True)
        except TimeoutError:
            log.warning("queue.close_timeout", seconds=CLOSE_SECONDS)

    async def _process(self, job: Job, _token: str) -> None:
        try:
            message = Message.from_data(job.data)
        except (KeyError, TypeError, ValueError) as error:
            self._metrics.messages_dropped.labels("unreadable").inc()
            log.warning("message.unreadable", queueId=job.id, detail=str(error))
            return
        try:
            await self._handle(message)
        except Exception:
            # A defect: the claim, if there is one, ends with its lease. Raising would only fail the message.
            log.exception(
                "message.failed",
                jobId=message.job_id,
                correlationId=message.correlation_id or message.job_id,
                dispatch=message.dispatch,
            )

    def _on_acknowledged(self, *_details: object) -> None:
        fail_point("message.acknowledged")

    def _on_error(self, error: object, *_details: object) -> None:
        """Errors of locks and acknowledgements change nothing: only the claim in PostgreSQL decides."""
        self._metrics.queue_errors.inc()
        log.warning("queue.error", detail=str(error)[:500], error=type(error).__name__)


class _FetchingWorker(Worker):  # type: ignore[misc]
    """Fetches the next message with the acknowledgement of the last one, in one round trip.

    The package's Lua script does both; of its workers, the Python one alone asks for one after the other.
    """

    async def processJob(self, job: Job, token: str) -> Job | None:  # noqa: N802 - the package's name
        """Handle a message and acknowledge it; returns the next one, which the package's loop goes on with."""
        self.lockManager.track_job(job.id, token, int(time.time() * 1000))
        try:
            await self.processor(job, token)
            if self.forceClosing:
                return None
            fetch = not self.closing and not self.paused
            answer = await self.backend.moveToCompleted(job, None, True, token, fetch_next=fetch)
            self.emit("completed", job, None)
            if not fetch:
                return None
            data, job_id, limited_until, delayed_until = answer["result"]
            return await self.nextJobFromJobData(data, job_id, limited_until or 0, delayed_until or 0, token)
        except (RedisError, OSError, TypeError) as error:
            # A lock that is gone is a TypeError of the package's.
            self.emit("error", error, job)
            return None
        finally:
            self.lockManager.untrack_job(job.id)


class _Gate(asyncio.Event):
    """Open but while the consumer is paused; `reached` is set while the package's loop waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.set()

    async def wait(self) -> Literal[True]:
        """Wait until it is open."""
        self.reached.set()
        try:
            return await super().wait()
        finally:
            self.reached.clear()


def connection_options(redis_url: str) -> dict[str, Any]:
    """BullMQ's connection options for a URL, with time limits, which it doesn't take from a URL."""
    options: dict[str, Any] = dict(parse_url(redis_url))
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return {
        **options,
        "socket_connect_timeout": 5,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_keepalive": True,
    }
