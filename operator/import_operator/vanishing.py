"""Cancels the jobs whose objects are gone, behind the guard against mass cancellation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from import_core.adapters.kube.resources import NAMESPACE_REFERENCE
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.domain.repairs import RepairKind
from import_core.domain.vanished import CLUSTER_CHANGED, Guard, Ruling, needs_settling, rule
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.tell import TellLoop
from import_operator.repairing import tell_repairs
from import_operator.state import OperatorState

log = get_logger(__name__)

CANCELLED_AT_ONCE = 5000
"""So many ids are held in memory; the rest follows in further comparisons."""
MESSAGE = "The ImportJob was deleted while no operator ran"
CONFIRM_COMMAND = "kubectl imports confirm-cancellations"
REASONS = {
    CLUSTER_CHANGED: "The namespace has another uid than before: another cluster, or made anew",
}
TOO_MANY = "Too many objects are gone at once"


class VanishedJobs:
    """Compares unfinished rows with a complete list of objects."""

    def __init__(
        self, state: OperatorState, origins: OriginStore, jobs: JobStore, guards: GuardStore, events: TellLoop
    ) -> None:
        self._state = state
        self._origins = origins
        self._jobs = jobs
        self._guards = guards
        self._events = events

    async def compare(
        self, listed: Mapping[str, bool], *, recorded_before: datetime, cluster_uid: str
    ) -> None:
        """Cancel rows whose object is not among `listed` (uid, and whether it shows an end), if the guard agrees.

        `recorded_before`: when the list began. Objects that show an end while their row runs again are
        shown anew. Raises DatabaseUnavailableError.
        """
        state = self._state
        guard = await self._guards.read(state.namespace)
        gone: list[str] = []
        number = unfinished = 0
        cancelling = state.cancelling
        pages = self._origins.unfinished(state.namespace, recorded_before=recorded_before)
        async for page in pages:
            for job_id in page:
                if job_id in state.to_cancel or job_id in state.cancelling or job_id in cancelling:
                    # Its deletion was seen: nothing is missing, and the record loop is about to cancel it.
                    state.reconcile_wanted.set()
                    continue
                unfinished += 1
                if listed.get(job_id):
                    state.to_project.add(job_id)
                elif job_id not in listed and state.jobs.get(job_id) is None:
                    number += 1
                    if len(gone) < CANCELLED_AT_ONCE:
                        gone.append(job_id)
            cancelling = state.cancelling
        ruling = rule(gone=number, unfinished=unfinished, cluster_uid=cluster_uid, guard=guard)
        metrics.CANCELLATIONS_WITHHELD.set(ruling.withheld)
        if ruling.withheld:
            await self._withhold(ruling, guard, unfinished=unfinished, cluster_uid=cluster_uid)
            return
        await self._cancel(gone[: ruling.cancel], guard, cluster_uid)
        if ruling.cancel > len(gone):
            state.reconcile_wanted.set()
        elif needs_settling(guard, cluster_uid):
            await self._guards.settle(state.namespace, cluster_uid=cluster_uid)
            if number > ruling.cancel:
                state.reconcile_wanted.set()

    async def _cancel(self, gone: list[str], guard: Guard | None, cluster_uid: str) -> None:
        reason = "Its ImportJob is gone"
        if guard is not None and guard.is_confirmed:
            reason += f"; confirmed by {guard.confirmed_by}"
            cancelled = await self._guards.cancel_confirmed(
                self._state.namespace, gone, cluster_uid=cluster_uid, message=MESSAGE
            )
        else:
            cancelled = await self._jobs.cancel(gone, message=MESSAGE)
        if not cancelled:
            return
        metrics.JOBS_CANCELLED.inc(len(cancelled))
        self._state.dispatch_wanted.set()
        tell_repairs(RepairKind.ROW_WITHOUT_OBJECT, cancelled, reason=reason)

    async def _withhold(
        self, ruling: Ruling, guard: Guard | None, *, unfinished: int, cluster_uid: str
    ) -> None:
        """Ask a person: remembered, logged and counted each time, told in an Event when it begins."""
        namespace = self._state.namespace
        reason = str(ruling.reason)
        known = guard.cluster_uid if guard is not None else cluster_uid
        await self._guards.withhold(namespace, cluster_uid=known, number=ruling.withheld, reason=reason)
        metrics.VANISHED_GUARD.inc()
        message = (
            f"{REASONS.get(reason, TOO_MANY)}: {ruling.withheld} of {unfinished} unfinished jobs have no"
            f" object, and are not cancelled. If they were deleted on purpose: {CONFIRM_COMMAND}"
        )
        log.error(
            "reconcile.withheld",
            vanished=ruling.withheld,
            unfinished=unfinished,
            reason=reason,
            message=message,
        )
        if guard is None or not guard.withheld:
            body = {"metadata": {"name": namespace, "uid": cluster_uid}}
            self._events.tell(
                NAMESPACE_REFERENCE,
                body,
                reason="CancellationsWithheld",
                action="Compare",
                note=message,
                warning=True,
            )
