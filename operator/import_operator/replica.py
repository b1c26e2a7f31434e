"""What one replica of the operator holds open and how it runs, with Kubernetes and without."""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar

from prometheus_client import REGISTRY
from redis.asyncio import Redis

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.life import LifeSign
from import_core.adapters.redis.queue import JobQueue, connect, ping
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import QueueUnavailableError
from import_core.observability.health import HealthServer
from import_core.observability.logs import get_logger
from import_core.observability.presence import NeighbourWatch
from import_core.observability.process_metrics import measure_lag
from import_operator import metrics
from import_operator.settings import OperatorSettings
from import_operator.state import OperatorState

log = get_logger(__name__)

DATABASE_CONNECTIONS = 8
STOP_SECONDS = 10.0


class Replica(ABC):
    """Everything that one replica holds open, whatever it leads by."""

    told_at_start: ClassVar[Mapping[str, object]] = {}
    """What its first line in the log says beside the namespace."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._database = Database(
            settings.database_url.get_secret_value(),
            direct_url=settings.direct_url(),
            application="import-operator",
            maximum=DATABASE_CONNECTIONS,
        )
        self._redis: Redis = connect(settings.redis_url.get_secret_value(), client_name="import-operator")
        self._queues: dict[str, JobQueue] = {}
        self._life = LifeSign(self._database)
        self._neighbours = NeighbourWatch(
            {"PostgreSQL": self._life.ask, "Redis": lambda: ping(self._redis)},
            show=metrics.PROCESS.show_neighbour,
        )
        self._health = HealthServer(
            settings.pod_ip,
            settings.health_port,
            registry=REGISTRY,
            not_ready=self._neighbours.why_not_ready,
        )
        self._state = OperatorState(settings.namespace)
        self._state.unavailable_steps = settings.unavailable_steps

    async def run(self) -> None:
        """Run until SIGTERM. Raises SupersededError when another replica leads, or what ended a loop."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            await self._database.open()
            log.info("operator.started", namespace=self._settings.namespace, **self.told_at_start)
            await first_of(
                self._lead(),
                stop.wait(),
                self._health.run(),
                self._neighbours.run(),
                measure_lag(metrics.PROCESS.event_loop_lag),
            )
            log.info("operator.stopped")
        finally:
            await self._close()

    def queue(self, name: str) -> JobQueue:
        """The queue of that name; kept, because it remembers Redis' epoch."""
        if name not in self._queues:
            self._queues[name] = JobQueue(self._redis, name)
        return self._queues[name]

    @abstractmethod
    async def _lead(self) -> None:
        """Wait until this replica leads, then run the loops."""

    @abstractmethod
    async def _give_up(self) -> None:
        """Stop leading, and close what the kind of replica has opened by itself."""

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._give_up()
                await self._redis.aclose()
                await self._life.close()
                await self._database.close()
        except TimeoutError:
            log.warning("operator.stop_timeout", seconds=STOP_SECONDS)


async def check_queue(queue: JobQueue) -> None:
    """Say once what is wrong with Redis' settings; then wait for the others."""
    try:
        problem = await queue.check()
    except QueueUnavailableError as error:
        problem = error.message
    if problem is not None:
        log.error("queue.problem", message=problem)
    await asyncio.Event().wait()


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run until one of them ends or fails; the others are cancelled and waited for."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Longer than it takes the loops to end theirs.
        await end_tasks(tasks, again_seconds=STOP_SECONDS)
    for task in done:
        task.result()
