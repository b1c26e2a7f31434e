"""The operator's process without Kubernetes: it leads by a lock, and runs the loops on PostgreSQL and Redis."""

from __future__ import annotations

from types import MappingProxyType

from import_core.adapters.folder.declarations import Declarations
from import_core.adapters.kube.resources import Kind
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.connections import ConnectionStore
from import_core.adapters.postgres.counting import CountStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.evidence import EvidenceStore
from import_core.adapters.postgres.fleet import FleetStore
from import_core.adapters.postgres.history import HistoryStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.leading import LeaderLock
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.step_control import StepControl
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.adapters.postgres.workers import WorkerStore
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.observability.logs import get_logger
from import_operator.holding import Holding
from import_operator.loops.breakers import BreakerLoop
from import_operator.loops.dispatch import DispatchLoop
from import_operator.loops.guard import GuardLoop
from import_operator.loops.history import HistoryLoop
from import_operator.loops.listen import ListenLoop
from import_operator.loops.measure import MeasureLoop
from import_operator.loops.notify import NotifyLoop
from import_operator.loops.reap import ReapLoop
from import_operator.loops.repair import RepairLoop
from import_operator.loops.runner import Loop, run_loops
from import_operator.loops.steps import StepLoop
from import_operator.replica import Replica, check_queue, first_of
from import_operator.settings import OperatorSettings
from import_operator.standalone.connections import ConnectionLoop
from import_operator.standalone.fleet import FleetLoop
from import_operator.standalone.leading import LockLeadership
from import_operator.standalone.schedules import ScheduleLoop
from import_operator.state import Body, name_of

log = get_logger(__name__)


class LogTeller:
    """Tells people in the log what Events tell them in a cluster."""

    def tell(
        self, kind: Kind, body: Body, *, reason: str, action: str, note: str, warning: bool = False
    ) -> None:
        """Write one line."""
        (log.warning if warning else log.info)(
            "told", kind=kind.kind, name=name_of(body), reason=reason, action=action, note=note
        )


class StandaloneProcess(Replica):
    """A replica without a cluster: it leads by a lock, and reads a folder."""

    told_at_start = MappingProxyType({"kubernetes": False})

    def __init__(self, settings: OperatorSettings) -> None:
        """Raises DeclarationsError where the folder is not valid."""
        super().__init__(settings)
        self._declarations = Declarations(
            settings.providers_path, namespace=settings.namespace, unavailable=settings.unavailable_steps
        )
        self._declarations.load()
        name = f"{settings.lease_name} {settings.namespace}"
        self._leadership = LockLeadership(LeaderLock(self._database, name))

    async def _lead(self) -> None:
        await self._leadership.acquire()
        await first_of(
            self._leadership.keep(), run_loops(self._loops()), check_queue(self.queue(DEFAULT_QUEUE))
        )

    def _loops(self) -> list[Loop]:
        state, database, settings = self._state, self._database, self._settings
        jobs, workers, repairs = JobStore(database), WorkerStore(database), RepairStore(database)
        dispatching, queues, breakers = (
            DispatchStore(database),
            QueueStateStore(database),
            BreakerStore(database),
        )
        fleet = FleetLoop(state, FleetStore(database), jobs, workers)
        guard = GuardLoop(
            state,
            queues,
            EvidenceStore(database),
            LogTeller(),
            holding=Holding(state, queues, OriginStore(database)),
            policies=fleet.policies,
        )
        dispatch = DispatchLoop(state, dispatching, queue=self.queue, capacities=fleet.capacities)
        repair = RepairLoop(
            state, repairs, dispatching, queue=self.queue, capacities=fleet.capacities, settings=settings
        )
        measure = MeasureLoop(
            state,
            CountStore(database),
            queue=self.queue,
            seconds=settings.measure_seconds,
            fleet=FleetStore(database),
            queues=fleet.queues,
        )
        return [
            fleet.loop(),
            guard.loop(),
            dispatch.loop(),
            StepLoop(state, StepControl(database)).loop(),
            ReapLoop(state, ClaimStore(database), workers, repairs).loop(),
            *repair.loops(),
            ListenLoop(state, database).loop(),
            BreakerLoop(state, breakers).loop(),
            NotifyLoop(state, WebhookStore(database, namespace=state.namespace), LogTeller()).loop(),
            ConnectionLoop(state, self._declarations, ConnectionStore(database), breakers).loop(),
            ScheduleLoop(state, self._declarations, jobs, check=self._leadership.check).loop(),
            HistoryLoop(settings.namespace, HistoryStore(database), days=settings.history_days).loop(),
            measure.loop(),
        ]

    async def _give_up(self) -> None:
        await self._leadership.release()
