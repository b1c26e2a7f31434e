"""Compares all objects with all rows now and then: for what was missed while nobody watched."""

from __future__ import annotations

from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import (
    DEPLOYMENT,
    IMPORT_JOB,
    IMPORT_PROVIDER,
    IMPORT_SCHEDULE,
    POD,
    WORKER_POOL,
    Kind,
)
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.workers import WorkerStore
from import_core.domain.admission import DATABASE_UNAVAILABLE, Refusal
from import_core.domain.holding import BACKPRESSURE
from import_core.domain.projection import is_final
from import_core.domain.reopening import requests_of
from import_core.domain.steps import StepKind
from import_operator.deployments import POOL_LABEL
from import_operator.handlers.handle_check_import_provider import (
    handle_check_import_provider,
    handle_forget_import_provider,
)
from import_operator.handlers.handle_observe_worker_pod import (
    handle_forget_worker_pod,
    keep_worker_pod,
)
from import_operator.handlers.handle_record_import_job import handle_record_import_job
from import_operator.handlers.handle_run_import_schedule import (
    handle_forget_import_schedule,
    handle_run_import_schedule,
)
from import_operator.handlers.handle_scale_worker_pool import (
    handle_forget_deployment,
    handle_forget_worker_pool,
    handle_observe_deployment,
    handle_scale_worker_pool,
)
from import_operator.inbox import Handler
from import_operator.loops.runner import Loop
from import_operator.state import ObjectStore, OperatorState, name_of, uid_of
from import_operator.vanishing import VanishedJobs

INTERVAL_SECONDS = 300.0
PAUSE_SECONDS = 5.0
"""A hint that an object is gone may come in crowds."""


class ReconcileLoop:
    """At the start, every five minutes, and when an object turned out to be gone."""

    def __init__(
        self,
        state: OperatorState,
        kube: KubeClient,
        *,
        origins: OriginStore,
        vanishing: VanishedJobs,
        workers: WorkerStore,
        breakers: BreakerStore,
    ) -> None:
        self._state = state
        self._kube = kube
        self._origins = origins
        self._vanishing = vanishing
        self._workers = workers
        self._breakers = breakers

    def loop(self) -> Loop:
        """The loop."""
        return Loop(
            "reconcile",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.reconcile_wanted,
            pause=PAUSE_SECONDS,
        )

    async def prime(self) -> None:
        """Learn providers, pools and Deployments before anything is decided about jobs."""
        state = self._state
        await self._sync(
            IMPORT_PROVIDER, state.providers, handle_check_import_provider, handle_forget_import_provider
        )
        await self._sync(WORKER_POOL, state.pools, handle_scale_worker_pool, handle_forget_worker_pool)
        await self._sync(
            IMPORT_SCHEDULE, state.schedules, handle_run_import_schedule, handle_forget_import_schedule
        )
        await self._sync(
            DEPLOYMENT,
            state.deployments,
            handle_observe_deployment,
            handle_forget_deployment,
            labels={POOL_LABEL: None},
        )
        # One whose end was missed would count as a worker for ever.
        await self._sync(
            POD, state.scaling.pods, keep_worker_pod, handle_forget_worker_pod, labels={POOL_LABEL: None}
        )
        await self._find_orphaned_breakers()

    async def round(self) -> None:
        """Bring rows and objects together."""
        await self.prime()
        await self._reconcile_jobs()
        await self._workers.sweep()

    async def _find_orphaned_breakers(self) -> None:
        """Have breakers forgotten whose provider was deleted while nobody watched: they would hold its jobs."""
        listed = [name_of(body) for body in self._state.providers]
        if not listed:
            # Rather a wrong cluster than one without any; what a person opened must not close by that.
            return
        # The models of steps have breakers without an object.
        kept = [*listed, *(kind.value for kind in StepKind)]
        for name in await self._breakers.orphans(self._state.namespace, kept):
            self._state.providers_gone.setdefault(name, "")
            self._state.to_check.add(name)

    async def _reconcile_jobs(self) -> None:
        state = self._state
        cluster_uid = await self._kube.namespace_uid(state.namespace)
        # Only rows recorded before the list began are compared with it: their objects were there before it.
        started = await self._origins.now()
        known = set(state.jobs.uids())
        final: dict[str, bool] = {}
        # An error in the list ends the round, so it is complete or not used.
        async for body in self._kube.list(IMPORT_JOB, state.namespace):
            uid = uid_of(body)
            final[uid] = is_final(body)
            handle_record_import_job(state, body)
            if final[uid] and requests_of(body):
                state.to_reopen.add(uid)
        for uid in known - final.keys():
            state.forget_job(uid)
        state.jobs_listed = True
        await self._record_missing([uid for uid, finished in final.items() if not finished])
        await self._vanishing.compare(final, recorded_before=started, cluster_uid=cluster_uid)

    async def _record_missing(self, unfinished_objects: list[str]) -> None:
        existing = await self._origins.existing(unfinished_objects)
        for uid in unfinished_objects:
            verdict = self._state.verdicts.get(uid)
            if uid in existing:
                self._state.to_project.add(uid)
            elif verdict is None or verdict.refusal is None or self._was_put_off(uid, verdict.refusal):
                self._state.to_record.add(uid)

    def _was_put_off(self, uid: str, refusal: Refusal) -> bool:
        """Whether nothing is wrong with the job itself, and nothing remembers to take it later."""
        return refusal.reason in {BACKPRESSURE, DATABASE_UNAVAILABLE} and uid not in self._state.held

    async def _sync(
        self,
        kind: Kind,
        store: ObjectStore,
        changed: Handler,
        deleted: Handler,
        *,
        labels: dict[str, Any] | None = None,
    ) -> None:
        before = set(store.uids())
        listed = set()
        async for body in self._kube.list(kind, self._state.namespace, labels=labels):
            listed.add(uid_of(body))
            changed(self._state, body)
        # Only what was there before the list: an object that came meanwhile may be missing in it.
        for uid in before - listed:
            gone = store.get(uid)
            if gone is not None:
                deleted(self._state, gone)
