"""Records ImportJobs as rows, in batches, and cancels the rows of deleted ones."""

from __future__ import annotations

import asyncio
from collections import Counter

from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.admission import (
    DATABASE_UNAVAILABLE,
    PROVIDER_NOT_FOUND,
    Admission,
    Refusal,
    Verdict,
    admit,
)
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.projection import is_final
from import_core.domain.repairs import RepairKind
from import_core.fail_points import fail_point
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.holding import Holding
from import_operator.loops.runner import Loop
from import_operator.repairing import tell_repairs
from import_operator.state import Body, OperatorState, provider_name_of

log = get_logger(__name__)

BATCH = 500
PAUSE_SECONDS = 0.02
MISSING_PROVIDER_GRACE_SECONDS = 1.0
"""A job and its provider applied together may be seen in either order."""
DELETED_MESSAGE = "The ImportJob was deleted"


class RecordLoop:
    """Takes what the handlers put into `state.to_record` and `state.to_cancel`."""

    def __init__(self, state: OperatorState, jobs: JobStore, holding: Holding) -> None:
        self._state = state
        self._jobs = jobs
        self._holding = holding

    def loop(self) -> Loop:
        """Woken by handlers; a batch collects what comes within PAUSE_SECONDS."""
        return Loop("record", self.round, interval=5.0, wake=self._state.to_record.wake, pause=PAUSE_SECONDS)

    async def round(self) -> None:
        """Cancel first, then record one batch. What the database did not take stays in its queue."""
        await self._cancel()
        await self._record()

    async def _cancel(self) -> None:
        deleted = self._state.to_cancel.take(BATCH)
        if not deleted:
            return
        self._state.cancelling = frozenset(deleted)
        try:
            cancelled = await self._jobs.cancel(deleted, message=DELETED_MESSAGE)
        except DatabaseUnavailableError:
            self._state.to_cancel.update(deleted)
            raise
        if cancelled:
            fail_point("job.cancelled")
            metrics.JOBS_CANCELLED.inc(len(cancelled))
            self._state.dispatch_wanted.set()
            for job_id in cancelled:
                log.info("job.cancelled", jobId=job_id, reason="Deleted")
        if len(self._state.to_cancel):
            self._state.to_record.wake.set()

    async def _record(self) -> None:
        accepted: dict[str, Admission] = {}
        for uid in self._state.to_record.take(BATCH):
            body = self._state.jobs.get(uid)
            if body is None or is_final(body):
                self._state.held.pop(uid, None)
                continue
            try:
                admission = admit(
                    body,
                    self._state.providers.named(provider_name_of(body)),
                    unavailable=self._state.unavailable_steps,
                )
            except Exception as error:  # noqa: BLE001 - logged and counted there
                self._give_up(uid, error)
                continue
            if admission.request is None:
                # It needs no room any more, which others may wait for.
                self._state.held.pop(uid, None)
                self._refuse(uid, body, admission.verdict)
            else:
                accepted[uid] = admission
        if accepted:
            await self._let_in(accepted)

    async def _let_in(self, accepted: dict[str, Admission]) -> None:
        """Record what there is room for; the rest is held and says so."""
        try:
            held = await self._holding.sort(accepted)
        except DatabaseUnavailableError as error:
            self._put_off(accepted, error)
            raise
        for uid, refusal in held.items():
            body, verdict = self._state.jobs.get(uid), accepted[uid].verdict
            if body is not None:
                self._refuse(uid, body, Verdict(verdict.generation, refusal))
        room_for = {uid: admission for uid, admission in accepted.items() if uid not in held}
        if room_for:
            await self._write(room_for)

    def _put_off(self, accepted: dict[str, Admission], error: DatabaseUnavailableError) -> None:
        refusal = Refusal(DATABASE_UNAVAILABLE, f"{error.message}; the job is recorded once it is back")
        for uid, admission in accepted.items():
            before = self._state.verdicts.get(uid)
            if before is None or before.refusal is not None:
                verdict = admission.verdict
                self._state.verdicts[uid] = Verdict(verdict.generation, refusal)
                self._state.to_project.add(uid)
        self._state.to_record.update(accepted)

    async def _write(self, accepted: dict[str, Admission]) -> None:
        requests = [admission.request for admission in accepted.values() if admission.request is not None]
        try:
            # After a start nearly all of them have their rows.
            requests = await self._jobs.unrecorded(requests)
            recorded = await self._jobs.record(requests)
            fail_point("record.committed")
        except DatabaseUnavailableError as error:
            self._put_off(accepted, error)
            raise
        except Exception as error:  # noqa: BLE001 - logged and counted there
            # Something about one of them; alone each of the others gets through.
            for uid, admission in accepted.items():
                if len(accepted) > 1:
                    await self._write({uid: admission})
                else:
                    self._give_up(uid, error)
            return
        metrics.JOBS_RECORDED.inc(len(requests))
        self._holding.recorded(len(recorded.new))
        tell_repairs(
            RepairKind.OBJECT_WITHOUT_ROW,
            filter(self._was_recorded, recorded.new),
            reason="The row of a live ImportJob was gone; it starts over",
        )
        for uid in recorded.steps_left:
            self._state.hold_steps(uid)
        for uid, admission in accepted.items():
            self._state.held.pop(uid, None)
            if self._state.jobs.get(uid) is not None:
                self._state.verdicts[uid] = admission.verdict
                self._state.to_project.add(uid)
        if not requests:
            return
        self._state.dispatch_wanted.set()
        companies = Counter(request.company_id for request in requests)
        log.info("jobs.recorded", jobs=len(requests), companies=len(companies))
        for request in requests:
            log.info(
                "job.recorded",
                jobId=request.id,
                companyId=request.company_id,
                name=request.origin.name if request.origin else None,
                generation=request.generation,
            )

    def _was_recorded(self, uid: str) -> bool:
        body = self._state.jobs.get(uid)
        return body is not None and "jobId" in (body.get("status") or {})

    def _give_up(self, uid: str, error: Exception) -> None:
        """Leave an object for the reconcile loop, or a change of its own."""
        self._state.held.pop(uid, None)
        verdict = self._state.verdicts.get(uid)
        if verdict is not None and verdict.refusal is not None:
            # An older word, as that it is held, would keep the reconcile loop from it.
            del self._state.verdicts[uid]
        log.exception("job.not_recorded", jobId=uid, exc_info=error)
        metrics.LOOP_ERRORS.labels("record", type(error).__name__).inc()

    def _refuse(self, uid: str, body: Body, verdict: Verdict) -> None:
        before = self._state.verdicts.get(uid)
        self._state.verdicts[uid] = verdict
        if before == verdict or verdict.refusal is None:
            self._state.to_project.add(uid)
            return
        metrics.JOBS_REFUSED.labels(verdict.refusal.reason).inc()
        log.info(
            "job.refused",
            jobId=uid,
            namespace=self._state.namespace,
            name=body["metadata"]["name"],
            reason=verdict.refusal.reason,
            message=verdict.refusal.message,
        )
        waits = verdict.refusal.reason == PROVIDER_NOT_FOUND
        asyncio.get_running_loop().call_later(
            MISSING_PROVIDER_GRACE_SECONDS if waits else 0.0, self._project_if_live, uid
        )

    def _project_if_live(self, uid: str) -> None:
        if self._state.jobs.get(uid) is not None:
            self._state.to_project.add(uid)
