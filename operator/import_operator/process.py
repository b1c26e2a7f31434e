"""The operator's process: stands by, leads, and ends when told to or when another replica leads."""

from __future__ import annotations

import asyncio
import uuid

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.connections import ConnectionStore
from import_core.adapters.postgres.counting import CountStore
from import_core.adapters.postgres.decisions import DecisionStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.draining import DrainStore
from import_core.adapters.postgres.evidence import EvidenceStore
from import_core.adapters.postgres.fleet import FleetStore
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.held import HeldStore
from import_core.adapters.postgres.history import HistoryStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.run_ends import RunEndStore
from import_core.adapters.postgres.step_control import StepControl
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.adapters.postgres.work import WorkStore
from import_core.adapters.postgres.workers import WorkerStore
from import_core.domain.errors import ImportOperatorError
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.observability.logs import correlate_by, get_logger
from import_operator.draining import Drains
from import_operator.holding import Holding
from import_operator.inbox import Inbox
from import_operator.loops.breakers import BreakerLoop
from import_operator.loops.decisions import DecisionLoop
from import_operator.loops.dispatch import DispatchLoop
from import_operator.loops.guard import GuardLoop
from import_operator.loops.history import HistoryLoop
from import_operator.loops.lead import Leadership
from import_operator.loops.listen import ListenLoop
from import_operator.loops.measure import MeasureLoop
from import_operator.loops.notify import NotifyLoop
from import_operator.loops.project import ProjectLoop
from import_operator.loops.protect import ProtectLoop
from import_operator.loops.provider_status import ProviderStatusLoop
from import_operator.loops.reap import ReapLoop
from import_operator.loops.reconcile import ReconcileLoop
from import_operator.loops.record import RecordLoop
from import_operator.loops.reopen import ReopenLoop
from import_operator.loops.repair import RepairLoop
from import_operator.loops.rollout import RolloutLoop
from import_operator.loops.runner import Loop, run_loops
from import_operator.loops.scale import ScaleLoop
from import_operator.loops.schedule import ScheduleLoop
from import_operator.loops.steps import StepLoop
from import_operator.loops.sweep import SweepLoop
from import_operator.loops.tell import TellLoop
from import_operator.measuring_cpu import CpuMeasure
from import_operator.measuring_held import HeldMeasure
from import_operator.measuring_work import WorkMeasure
from import_operator.replica import Replica, check_queue, first_of
from import_operator.scaling_policy import PoolDecisions
from import_operator.settings import OperatorSettings
from import_operator.vanishing import VanishedJobs
from import_operator.versions import Versions
from import_operator.watching import Watcher

log = get_logger(__name__)

PRIME_SECONDS = 15.0


class WatchEndedError(ImportOperatorError):
    """The thread that watches the API server has ended."""


class OperatorProcess(Replica):
    """A replica in a cluster: it leads by a Lease, and watches the API server."""

    def __init__(self, settings: OperatorSettings) -> None:
        super().__init__(settings)
        self._kube = KubeClient()
        self._leadership = Leadership(
            self._kube,
            namespace=settings.namespace,
            name=settings.lease_name,
            identity=f"{settings.pod_name}_{uuid.uuid4().hex[:8]}",
        )
        correlate_by(self._state.correlation_of)
        self._tell = TellLoop(self._kube, namespace=settings.namespace, instance=settings.pod_name)

    async def _lead(self) -> None:
        await self._leadership.acquire()
        # The Lease is renewed from the first moment: getting ready may take longer than it lasts.
        await first_of(self._leadership.keep(), self._work())

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
            await first_of(
                run_loops([*self._loops(), reconcile.loop()]),
                _watch_over(watcher),
                check_queue(self.queue(DEFAULT_QUEUE)),
            )
        finally:
            await watcher.stop()

    def _loops(self) -> list[Loop]:
        state, database, kube = self._state, self._database, self._kube
        jobs, claims, workers = JobStore(database), ClaimStore(database), WorkerStore(database)
        tell, reopening = self._tell, ReopeningStore(database, check=self._leadership.check)
        deciding = PoolDecisions(
            state,
            work=WorkMeasure(state, WorkStore(database), BreakerStore(database), QueueStateStore(database)),
            cpu=CpuMeasure(kube, state.namespace),
            held=HeldMeasure(HeldStore(database)),
        )
        drains, versions = Drains(state, DrainStore(database), kube), Versions(state, kube, self._settings)
        scale = ScaleLoop(
            state,
            jobs,
            kube,
            tell,
            settings=self._settings,
            drains=drains,
            decisions=deciding,
            versions=versions,
        )
        dispatching, repairs, decisions = (
            DispatchStore(database),
            RepairStore(database),
            DecisionStore(database),
        )
        dispatch = DispatchLoop(state, dispatching, queue=self.queue, capacities=scale.capacities)
        queues, webhooks = QueueStateStore(database), WebhookStore(database, namespace=state.namespace)
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
                self._settings.namespace,
                HistoryStore(database),
                days=self._settings.history_days,
                decisions=decisions,
            ).loop(),
            StepLoop(state, StepControl(database)).loop(),
            dispatch.loop(),
            ReapLoop(state, claims, workers, repairs).loop(),
            *repair.loops(),
            ListenLoop(state, database).loop(),
            ProjectLoop(state, jobs, kube, tell).loop(),
            ProviderStatusLoop(
                state, ConnectionStore(database), BreakerStore(database), kube, tell, webhooks=webhooks
            ).loop(),
            NotifyLoop(state, webhooks, tell).loop(),
            BreakerLoop(state, BreakerStore(database)).loop(),
            scale.loop(),
            DecisionLoop(state, decisions).loop(),
            ProtectLoop(drains).loop(),
            RolloutLoop(
                state, versions, RunEndStore(database), kube, tell, settings=self._settings, drains=drains
            ).loop(),
            ScheduleLoop(state, kube, tell, check=self._leadership.check).loop(),
            MeasureLoop(
                state,
                CountStore(database),
                queue=self.queue,
                seconds=self._settings.measure_seconds,
                fleet=FleetStore(database),
            ).loop(),
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

    async def _give_up(self) -> None:
        await self._leadership.release()
        await self._kube.close()


async def _watch_over(watcher: Watcher) -> None:
    await watcher.ended.wait()
    raise WatchEndedError
