"""Whether there is room for one more import of a company: asks the stores, briefly remembered, and the decisions."""

from __future__ import annotations

import time

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.adapters.postgres.standings import Standing, StandingStore
from import_core.domain.backpressure import IntakeRefusal, decide_intake
from import_core.domain.jobs import DEFAULT_QUEUE, Tier
from import_core.domain.object_limits import Arrivals, ObjectLimits, decide_room_for_object
from import_gateway.admission.readings import WAIT_SECONDS, Readings
from import_gateway.admission.settings import AdmissionSettings
from import_gateway.metrics import GatewayMetrics
from import_gateway.objects import Objects

COMPANIES = 10_000
"""Companies remembered at the same time: about 5 MB."""


class Room:
    """For one namespace. What can't be known lets a job through.

    The operator asks about the queue once more; the limits on numbers of jobs and objects are kept here only.
    """

    def __init__(
        self,
        database: Database,
        kube: Objects,
        settings: AdmissionSettings,
        metrics: GatewayMetrics,
        *,
        namespace: str,
    ) -> None:
        self._queue_states = QueueStateStore(database)
        self._standings = StandingStore(database)
        self._kube = kube
        self._metrics = metrics
        self._limits = ObjectLimits(settings.company_jobs_limit, settings.namespace_objects_limit)
        fresh, stale = settings.intake_cache_seconds, settings.intake_stale_seconds
        self._queues = Readings(
            "queue", self._ask_queue, fresh=fresh, stale=stale, failed=self._count_failure
        )
        self._companies = Readings(
            "company",
            self._ask_company,
            fresh=fresh,
            stale=stale,
            size=COMPANIES,
            failed=self._count_failure,
        )
        self._namespace = namespace
        self._namespaces = Readings(
            "namespace", self._ask_namespace, fresh=fresh, stale=stale, failed=self._count_failure
        )
        self._arrivals = Arrivals()
        """By this replica."""

    async def refusal(self, company: str) -> IntakeRefusal | None:
        """Why no import of this company is taken now; None: there is room."""
        deadline = time.monotonic() + WAIT_SECONDS
        state = await self._queues.get(DEFAULT_QUEUE, deadline=deadline)
        standing = await self._companies.get(company, deadline=deadline)
        objects = await self._namespaces.get(self._namespace, deadline=deadline)
        if state is not None:
            # Who can't be asked about has the benefit of the doubt: where intake is stopped, all tiers wait.
            tier = Tier.ENTERPRISE if standing is None else standing.tier
            refused = decide_intake(tier, state.intake, starts_per_minute=state.starts_per_minute)
            if refused is not None:
                return refused
        return decide_room_for_object(
            self._limits,
            company_jobs=None if standing is None else standing.unfinished,
            namespace_objects=None if objects is None else self._arrivals.estimate(objects),
        )

    def add(self) -> None:
        """Count an object that was let through, until all are counted again."""
        self._arrivals = self._arrivals.one_more()

    async def close(self) -> None:
        """End questions under way."""
        for readings in (self._queues, self._companies, self._namespaces):
            await readings.close()

    def _count_failure(self, store: str) -> None:
        self._metrics.unanswered_questions.labels(store).inc()

    async def _ask_queue(self, queue: str) -> QueueState:
        self._metrics.store_questions.labels("queue").inc()
        return await self._queue_states.health(queue)

    async def _ask_company(self, company: str) -> Standing:
        self._metrics.store_questions.labels("company").inc()
        return await self._standings.read(company, limit=self._limits.company_jobs)

    async def _ask_namespace(self, namespace: str) -> int:
        self._metrics.store_questions.labels("namespace").inc()
        let_in, objects = self._arrivals.let_in, None
        try:
            objects = await self._kube.count(IMPORT_JOB, namespace)
        finally:
            self._arrivals = self._arrivals.after_count(objects, let_in=let_in)
        return objects
