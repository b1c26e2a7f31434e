"""The operator's process: stands by, leads, and ends when told to or when another replica leads."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Coroutine
from typing import Any

from prometheus_client import REGISTRY
from redis.asyncio import Redis

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.connections import ConnectionStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.evidence import EvidenceStore
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.history import HistoryStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.life import LifeSign
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.workers import WorkerStore
from import_core.adapters.redis.queue import JobQueue, connect, ping
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import ImportOperatorError, QueueUnavailableError
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.observability.health import HealthServer
from import_core.observability.logs import get_logger
from import_core.observability.presence import NeighbourWatch
from import_operator.holding import Holding
from import_operator.inbox import Inbox
from import_operator.loops.breakers import BreakerLoop
from import_operator.loops.dispatch import DispatchLoop
from import_operator.loops.guard import GuardLoop
from import_operator.loops.history import HistoryLoop
from import_operator.loops.lead import Leadership
from import_operator.loops.listen import ListenLoop
from import_operator.loops.project import ProjectLoop
from import_operator.loops.provider_status import ProviderStatusLoop
from import_operator.loops.reap import ReapLoop
from import_operator.loops.reconcile import ReconcileLoop
from import_operator.loops.record import RecordLoop
from import_operator.loops.reopen import ReopenLoop
from import_operator.loops.repair import RepairLoop
from import_operator.loops.runner import Loop, run_loops
from import_operator.loops.scale import ScaleLoop
from import_operator.loops.sweep import SweepLoop
from import_operator.loops.tell import TellLoop
from import_operator.settings import OperatorSettings
from import_operator.state import OperatorState
from import_operator.vanishing import VanishedJobs
from import_operator.watching import Watcher

log = get_logger(__name__)

DATABASE_CONNECTIONS = 8
STOP_SECONDS = 10.0
PRIME_SECONDS = 15.0


class WatchEndedError(ImportOperatorError):
    """The thread that watches the API server has ended."""


class OperatorProcess:
    """Everything that one replica holds open."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._database = Database(
            settings.database_url.get_secret_value(),
            application="import-operator",
            maximum=DATABASE_CONNECTIONS,
        )
        self._redis: Redis = connect(settings.redis_url.get_secret_value(), client_name="import-operator")
        self._kube = KubeClient()
        self._queues: dict[str, JobQueue] = {}
        self._life = LifeSign(self._database)
        self._neighbours = NeighbourWatch({"PostgreSQL": self._life.ask, "Redis": lambda: ping(self._redis)})
        self._health = HealthServer(
            settings.pod_ip,
            settings.health_port,
            registry=REGISTRY,
            not_ready=self._neighbours.why_not_ready,
        )
        self._leadership = Leadership(
            self._kube,
            namespace=settings.namespace,
            name=settings.lease_name,
            identity=f"{settings.pod_name}_{uuid.uuid4().hex[:8]}",
        )
        self._state = OperatorState(settings.namespace)
        self._tell = TellLoop(self._kube, namespace=settings.namespace, instance=settings.pod_name)

    async def run(self) -> None:
        """Run until SIGTERM. Raises SupersededError when another replica leads, or what ended a loop."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            await self._database.open()
            log.info("operator.started", namespace=self._settings.namespace)
            await _first_of(self._lead(), stop.wait(), self._health.run(), self._neighbours.run())
            log.info("operator.stopped")
        finally:
            await self._close()

    def queue(self, name: str) -> JobQueue:
        """The queue of that name; kept, because it remembers Redis' epoch."""
        if name not in self._queues:
            self._queues[name] = JobQueue(self._redis, name)
        return self._queues[name]

    async def _lead(self) -> None:
        await self._leadership.acquire()
        # The Lease is renewed from the first moment: getting ready may take longer than it lasts.
        await _first_of(self._leadership.keep(), self._work())

    async def _work(self) -> None:
        reconcile = self._reconcile_loop()
        watcher = Watcher(Inbox(self._state), self._settings.namespace)
        try:
            try:
                async with asyncio.timeout(PRIME_SECONDS):
                    await reconcile.prime()
            except (ImportOperatorError, TimeoutError) as error:
                # The reconcile loop does it again; without it some jobs only look refused for a moment.
                log.warning("reconcile.not_primed", message=str(error))
            watcher.start()
            await _first_of(
                run_loops([*self._loops(), reconcile.loop()]), _watch_over(watcher), self._check_queue()
            )
        finally:
            await watcher.stop()

    def _loops(self) -> list[Loop]:
        state, database, kube = self._state, self._database, self._kube
        jobs, claims, workers = JobStore(database), ClaimStore(database), WorkerStore(database)
        tell, reopening = self._tell, ReopeningStore(database, check=self._leadership.check)
        scale = ScaleLoop(state, jobs, kube, tell, settings=self._settings)
        dispatching, repairs = DispatchStore(database), RepairStore(database)
        dispatch = DispatchLoop(state, dispatching, queue=self.queue, capacities=scale.capacities)
        queues = QueueStateStore(database)
        holding = Holding(state, queues, OriginStore(database))
        guard = GuardLoop(
            state, queues, EvidenceStore(database), tell, holding=holding, policies=scale.policies
        )
        repair = RepairLoop(
            state,
            repairs,
            dispatching,
            queue=self.queue,
            capacities=scale.capacities,
            settings=self._settings,
        )
        return [
            RecordLoop(state, jobs, holding).loop(),
            guard.loop(),
            ReopenLoop(state, reopening, tell).loop(),
            self._sweep_loop(reopening).loop(),
            HistoryLoop(
                self._settings.namespace, HistoryStore(database), days=self._settings.history_days
            ).loop(),
            dispatch.loop(),
            ReapLoop(state, claims, workers, repairs).loop(),
            *repair.loops(),
            ListenLoop(state, database).loop(),
            ProjectLoop(state, jobs, kube, tell).loop(),
            ProviderStatusLoop(state, ConnectionStore(database), BreakerStore(database), kube, tell).loop(),
            BreakerLoop(state, BreakerStore(database)).loop(),
            scale.loop(),
            tell.loop(),
        ]

    def _reconcile_loop(self) -> ReconcileLoop:
        state, database = self._state, self._database
        origins = OriginStore(database)
        vanishing = VanishedJobs(state, origins, JobStore(database), GuardStore(database), self._tell)
        return ReconcileLoop(
            state,
            self._kube,
            origins=origins,
            vanishing=vanishing,
            workers=WorkerStore(database),
            breakers=BreakerStore(database),
        )

    def _sweep_loop(self, reopening: ReopeningStore) -> SweepLoop:
        return SweepLoop(
            self._state,
            self._kube,
            reopening,
            finished_objects_limit=self._settings.finished_objects_limit,
        )

    async def _check_queue(self) -> None:
        """Say once what is wrong with Redis' settings; then wait for the others."""
        try:
            problem = await self.queue(DEFAULT_QUEUE).check()
        except QueueUnavailableError as error:
            problem = error.message
        if problem is not None:
            log.error("queue.problem", message=problem)
        await asyncio.Event().wait()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._leadership.release()
                await self._kube.close()
                await self._redis.aclose()
                await self._life.close()
                await self._database.close()
        except TimeoutError:
            log.warning("operator.stop_timeout", seconds=STOP_SECONDS)


async def _watch_over(watcher: Watcher) -> None:
    await watcher.ended.wait()
    raise WatchEndedError


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run until one of them ends or fails; the others are cancelled and waited for."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Longer than it takes the loops to end theirs.
        await end_tasks(tasks, again_seconds=STOP_SECONDS)
    for task in done:
        task.result()
