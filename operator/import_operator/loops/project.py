"""Writes the state of jobs into their objects' status: rarely for each, at a bounded rate for all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.admission import DATABASE_UNAVAILABLE
from import_core.domain.errors import (
    DatabaseUnavailableError,
    KubernetesUnavailableError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from import_core.domain.jobs import JobRow, JobState
from import_core.domain.projection import PatchSchedule, is_final, project
from import_core.domain.resources.import_job import JobPhase
from import_core.domain.steps import asked_steps
from import_core.fail_points import fail_point
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import REFUSED_AGAIN_SECONDS, Loop
from import_operator.loops.tell import TellLoop
from import_operator.state import Body, OperatorState, generation_of, name_of

log = get_logger(__name__)

INTERVAL_SECONDS = 0.1
READ_BATCH = 500
CONCURRENT_PATCHES = 10


class ProjectLoop:
    """Reads the rows of jobs that changed, and patches objects when it is their turn."""

    def __init__(
        self,
        state: OperatorState,
        jobs: JobStore,
        kube: KubeClient,
        events: TellLoop,
        *,
        schedule: PatchSchedule | None = None,
    ) -> None:
        self._events = events
        self._state = state
        self._jobs = jobs
        self._kube = kube
        # An empty schedule is false.
        self._schedule = PatchSchedule() if schedule is None else schedule
        self.again_seconds = REFUSED_AGAIN_SECONDS
        self._rows: dict[str, JobRow | None] = {}
        """Rows of the objects that wait for their patch."""

    def loop(self) -> Loop:
        """Runs by the clock, so that many hints together cost one read."""
        return Loop("project", self.round, interval=INTERVAL_SECONDS)

    async def round(self) -> None:
        """Read one batch of changed rows, then patch whose turn it is."""
        try:
            await self._read()
        finally:
            # The API server may be told of a database that is away.
            await self._patch()

    async def _read(self) -> None:
        dirty = self._state.to_project.take(READ_BATCH)
        if not dirty:
            return
        try:
            rows = await self._jobs.read(dirty)
        except DatabaseUnavailableError:
            self._state.to_project.update(dirty)
            for uid in dirty:
                verdict = self._state.verdicts.get(uid)
                if verdict and verdict.refusal and verdict.refusal.reason == DATABASE_UNAVAILABLE:
                    self._want(uid, None)
            raise
        for uid in dirty:
            try:
                self._want(uid, rows.get(uid))
            except Exception as error:
                # One object that can't be shown must not keep the others from it.
                log.exception("status.failed", jobId=uid)
                metrics.LOOP_ERRORS.labels("project", type(error).__name__).inc()

    def _want(self, uid: str, row: JobRow | None) -> None:
        body = self._state.jobs.get(uid)
        if body is None:
            return
        verdict = self._state.verdicts.get(uid)
        waits = row is not None and row.state is JobState.PENDING and row.generation < generation_of(body)
        if waits and verdict is not None and verdict.refusal is None:
            # A change of the spec that came while the job ran takes effect now.
            self._state.to_record.add(uid)
        patch = project(body, row, verdict, datetime.now(UTC))
        if patch is not None or (row is not None and asked_steps(row.spec)):
            # Whether its steps are as shown is counted when it is its turn: that costs more than a row.
            self._rows[uid] = row
            self._schedule.want(uid, urgent=patch is not None and patch.urgent)
        else:
            self._rows.pop(uid, None)
            self._schedule.forget(uid)

    async def _patch(self) -> None:
        turn = self._schedule.take(time.monotonic())
        metrics.STATUS_WAITING.set(len(self._schedule))
        for start in range(0, len(turn), CONCURRENT_PATCHES):
            batch = turn[start : start + CONCURRENT_PATCHES]
            try:
                await self._count_steps(batch)
            except DatabaseUnavailableError:
                self._state.to_project.update(turn[start:])
                raise
            results = await asyncio.gather(*map(self._patch_one, batch), return_exceptions=True)
            for uid, result in zip(batch, results, strict=True):
                if isinstance(result, BaseException):
                    self._state.to_project.add(uid)
            for result in results:
                if isinstance(result, BaseException):
                    self._state.to_project.update(turn[start + CONCURRENT_PATCHES :])
                    raise result

    async def _count_steps(self, uids: Sequence[str]) -> None:
        rows = [row for row in map(self._rows.get, uids) if row is not None]
        for row in await self._jobs.with_steps(rows):
            self._rows[row.id] = row

    async def _patch_one(self, uid: str) -> None:
        body = self._state.jobs.get(uid)
        row = self._rows.pop(uid, None)
        if body is None:
            return
        patch = project(body, row, self._state.verdicts.get(uid), datetime.now(UTC))
        if patch is None:
            return
        metadata = body["metadata"]
        try:
            answer = await self._kube.patch_status(
                IMPORT_JOB,
                self._state.namespace,
                name_of(body),
                patch.status,
                resource_version=metadata["resourceVersion"],
            )
        except ObjectConflictError:
            # A newer version exists; its event brings the object here again.
            metrics.STATUS_PATCHES.labels("ImportJob", "conflict").inc()
            if is_final(body):
                # Events of finished objects are not looked at, and this one's job runs again.
                self._state.to_project.add(uid)
        except ObjectNotFoundError:
            metrics.STATUS_PATCHES.labels("ImportJob", "gone").inc()
            self._state.forget_job(uid)
            self._state.reconcile_wanted.set()
        except (ObjectRefusedError, ObjectForbiddenError) as error:
            metrics.STATUS_PATCHES.labels("ImportJob", "refused").inc()
            log.warning("status.refused", jobId=uid, message=error.message)
            self._state.to_project.add_later(uid, self.again_seconds)
        except KubernetesUnavailableError:
            metrics.STATUS_PATCHES.labels("ImportJob", "unavailable").inc()
            raise
        else:
            fail_point("status.patched")
            metrics.STATUS_PATCHES.labels("ImportJob", "written").inc()
            # The answer is known before its event, which is then not looked at any more.
            self._state.keep_job(answer)
            if "phase" in patch.status:
                self._tell(uid, body, patch.status, row)

    def _tell(self, uid: str, body: Body, status: dict[str, object], row: JobRow | None) -> None:
        message = str(status.get("message") or "")
        phase = str(status["phase"])
        if phase in {JobPhase.FAILED, JobPhase.PENDING}:
            reason = "Failed" if phase == JobPhase.FAILED else "Refused"
            self._events.tell(IMPORT_JOB, body, reason=reason, action="Import", note=message, warning=True)
        log.info(
            f"job.{phase.lower()}",
            jobId=uid,
            companyId=row.company_id if row else None,
            attempt=row.attempt if row else None,
            message=message,
        )
