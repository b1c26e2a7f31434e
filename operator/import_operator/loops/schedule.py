"""Starts the runs of ImportSchedules: makes their ImportJobs, at a bounded rate, and each once.

A run is done when its ImportJob is there and the status says so. Whoever dies in between is followed by one that
finds the job: by its owner, or by its name, which the run's time decides.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_SCHEDULE
from import_core.domain.errors import (
    ImportOperatorError,
    IntakeRefusedError,
    InvalidResourceError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.resources.common import format_timestamp
from import_core.domain.resources.conditions import ImportScheduleCondition
from import_core.domain.resources.import_schedule import (
    ConcurrencyPolicy,
    ImportSchedule,
    parse_import_schedule,
)
from import_core.domain.schedule_status import Known, condition_reason, project_schedule, waiting_message
from import_core.domain.schedules import (
    Decision,
    Missed,
    Seen,
    Waiting,
    decide,
    job_name,
    plan_of,
    surplus,
)
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.handlers.handle_record_import_job import handle_record_import_job
from import_operator.loops.runner import REFUSED_AGAIN_SECONDS, Loop
from import_operator.loops.tell import TellLoop
from import_operator.scheduled_jobs import Runs, get_scheduled_job, time_of
from import_operator.state import Body, OperatorState, generation_of, name_of, schedule_uid_of, uid_of

log = get_logger(__name__)

BATCH = 100
CONCURRENT = 10
INTERVAL_SECONDS = 1.0
PAUSE_SECONDS = 0.1
NO_ROOM_SECONDS = 30.0
LONGEST_HINDERED_SECONDS = 300.0
"""Asked again no later than this, whatever the webhook says: room may come earlier."""


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a job could not be created lately, and until when it is not tried again: longer each time."""

    waiting: Waiting
    until: datetime
    seconds: float
    detail: str
    generation: int


class ScheduleLoop:
    """Takes the uids in `state.to_schedule`, and those whose time has come."""

    def __init__(
        self,
        state: OperatorState,
        kube: KubeClient,
        tell: TellLoop,
        *,
        check: Callable[[], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`check` raises unless this replica leads for sure: one that was replaced would start old runs again."""
        self._state = state
        self._kube = kube
        self._tell = tell
        self._check = check
        self._clock = clock
        self._look_at: dict[str, datetime] = {}
        self._waiting: dict[str, Waiting] = {}
        self._hindrances: dict[str, Hindrance] = {}
        for reason in Missed:
            # There from the start: of a counter that appears with its first event, no increase is seen.
            metrics.SCHEDULE_MISSED.labels(reason.value)

    def loop(self) -> Loop:
        """The loop."""
        return Loop(
            "schedule",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.to_schedule.wake,
            pause=PAUSE_SECONDS,
        )

    async def round(self) -> None:
        """Look at one batch of schedules. Before all jobs are known, a run that is under way could be missed."""
        if not self._state.jobs_listed:
            return
        now, intake = self._clock(), self._intake()
        self._state.to_schedule.update(uid for uid, at in self._look_at.items() if at <= now)
        self._state.to_schedule.update(
            uid for uid, waiting in self._waiting.items() if waiting in _BY_INTAKE and waiting is not intake
        )
        uids = self._state.to_schedule.take(BATCH)
        for start in range(0, len(uids), CONCURRENT):
            batch = uids[start : start + CONCURRENT]
            results = await asyncio.gather(
                *(self._handle(uid, now, intake) for uid in batch), return_exceptions=True
            )
            failed = self._failed(batch, results)
            if failed is not None:
                self._state.to_schedule.update(uids[start + CONCURRENT :])
                raise failed
        self._show()

    def _failed(self, uids: list[str], results: list[BaseException | None]) -> BaseException | None:
        """Have what failed looked at again; what passes fails the round, what lies with one object does not."""
        first: BaseException | None = None
        for uid, result in zip(uids, results, strict=True):
            if isinstance(result, ImportOperatorError):
                self._state.to_schedule.add(uid)
                first = first or result
            elif isinstance(result, Exception):
                log.exception("schedule.failed", uid=uid, exc_info=result)
                metrics.LOOP_ERRORS.labels("schedule", type(result).__name__).inc()
                self._state.to_schedule.add_later(uid, REFUSED_AGAIN_SECONDS)
            elif result is not None:
                return result
        return first

    def _intake(self) -> Waiting | None:
        queue = self._state.queues.get(DEFAULT_QUEUE)
        if queue is None:
            return Waiting.INTAKE_UNKNOWN
        return Waiting.INTAKE_STOPPED if queue.intake.intake.stopped else None

    async def _handle(self, uid: str, now: datetime, intake: Waiting | None) -> None:
        self._forget(uid)
        body = self._state.schedules.get(uid)
        if body is None or "deletionTimestamp" in body["metadata"]:
            self._state.scaling.next_starts.pop(uid, None)
            self._hindrances.pop(uid, None)
            self._state.surplus.difference_update(self._state.scheduled.get(uid, ()))
            return
        try:
            schedule = parse_import_schedule(body)
        except InvalidResourceError as error:
            self._state.scaling.next_starts.pop(uid, None)
            await self._write(body, Known(generation_of(body), problem=str(error)), Decision(), now)
            return
        runs = Runs.of(self._jobs_of(uid))
        await self._settle(schedule, body, runs)
        self._keep_surplus(uid, schedule, runs)
        hindrance = self._hindrance(body, now)
        seen = _seen(body, runs, intake or (hindrance.waiting if hindrance else None))
        decision = decide(plan_of(schedule), seen, now)
        if decision.run is not None:
            decision = await self._start(schedule, body, decision, decision.run)
            runs = Runs.of(self._jobs_of(uid))
            hindrance = self._hindrance(body, now)
        self._remember(uid, decision, hindrance)
        await self._write(body, _known(schedule, body, runs, decision, hindrance), decision, now)

    async def _start(
        self, schedule: ImportSchedule, body: Body, decision: Decision, time: datetime
    ) -> Decision:
        """Create the job of the run of that time; what comes back says what became of it."""
        self._check()
        try:
            job = await self._kube.create(IMPORT_JOB, self._state.namespace, get_scheduled_job(body, time))
        except ObjectConflictError as error:
            return await self._find(body, decision, time, error)
        except IntakeRefusedError as error:
            seconds = error.retry_after or NO_ROOM_SECONDS
            self._hinder(body, Waiting.NO_ROOM, error.message, seconds=seconds)
            return replace(decision, run=None, waiting=Waiting.NO_ROOM)
        except (ObjectRefusedError, ObjectForbiddenError) as error:
            log.warning("schedule.refused", name=name_of(body), message=error.message)
            self._hinder(body, Waiting.REFUSED, error.message, seconds=REFUSED_AGAIN_SECONDS)
            return replace(decision, run=None, waiting=Waiting.REFUSED)
        self._hindrances.pop(uid_of(body), None)
        handle_record_import_job(self._state, job)
        metrics.SCHEDULE_RUNS.inc()
        metrics.SCHEDULE_DELAY.observe(
            max(0.0, (self._clock() - plan_of(schedule).start_of(time)).total_seconds())
        )
        log.info("schedule.started", name=name_of(body), job=name_of(job), time=format_timestamp(time))
        await self._replace(schedule, Runs.of(self._jobs_of(uid_of(body))))
        return decision

    async def _find(
        self, body: Body, decision: Decision, time: datetime, error: ObjectConflictError
    ) -> Decision:
        """Whether the job is there already: another operator's, or our own before we died."""
        name = job_name(name_of(body), time)
        async for job in self._kube.list(
            IMPORT_JOB, self._state.namespace, fields={"metadata.name": name}, most=1
        ):
            if schedule_uid_of(job) == uid_of(body):
                handle_record_import_job(self._state, job)
                return decision
            self._say(body, "NameTaken", f"The run is missed: another ImportJob has its name, {name}")
            return replace(
                decision,
                run=None,
                missed_until=time,
                missed_count=decision.missed_count + 1,
                missed_reason=Missed.NAME_TAKEN,
            )
        if "already exists" in error.message:
            # It was there and has gone since: it ran.
            return decision
        # A quota that was counted at the same moment, for one.
        raise error

    def _hinder(self, body: Body, waiting: Waiting, detail: str, *, seconds: float) -> None:
        uid = uid_of(body)
        before = self._hindrances.get(uid)
        if before is not None and before.generation == generation_of(body):
            seconds = max(seconds, 2 * before.seconds)
        seconds = min(seconds, LONGEST_HINDERED_SECONDS)
        until = self._clock() + timedelta(seconds=seconds)
        self._hindrances[uid] = Hindrance(waiting, until, seconds, detail, generation_of(body))

    def _hindrance(self, body: Body, now: datetime) -> Hindrance | None:
        """What hindered the last try, while it counts: for a time, and for the spec that was tried."""
        hindrance = self._hindrances.get(uid_of(body))
        if hindrance is None or hindrance.until <= now or hindrance.generation != generation_of(body):
            return None
        return hindrance

    async def _settle(self, schedule: ImportSchedule, body: Body, runs: Runs) -> None:
        """Finish what an operator before us has begun: a job is there that the status does not tell of."""
        last = _time(body, "lastScheduleTime")
        if runs.last is not None and (last is None or runs.last > last):
            await self._replace(schedule, runs)

    async def _replace(self, schedule: ImportSchedule, runs: Runs) -> None:
        """Delete the jobs that the newest run replaces."""
        if schedule.spec.concurrency_policy is not ConcurrencyPolicy.REPLACE:
            return
        for job in runs.active:
            if time_of(job) != runs.last:
                try:
                    await self._kube.delete(IMPORT_JOB, self._state.namespace, name_of(job), uid=uid_of(job))
                    log.info("schedule.replaced", name=schedule.metadata.name, job=name_of(job))
                except (ObjectNotFoundError, ObjectConflictError):
                    # Gone, and perhaps another one has its name.
                    continue

    def _jobs_of(self, uid: str) -> list[Body]:
        jobs = (self._state.jobs.get(job) for job in self._state.scheduled.get(uid, ()))
        return [job for job in jobs if job is not None]

    def _keep_surplus(self, uid: str, schedule: ImportSchedule, runs: Runs) -> None:
        self._state.surplus.difference_update(self._state.scheduled.get(uid, ()))
        self._state.surplus.update(
            surplus(
                runs.finished,
                successful=schedule.spec.successful_jobs_history_limit,
                failed=schedule.spec.failed_jobs_history_limit,
            )
        )

    def _remember(self, uid: str, decision: Decision, hindrance: Hindrance | None) -> None:
        if decision.next_start is None:
            self._state.scaling.next_starts.pop(uid, None)
        else:
            self._state.scaling.next_starts[uid] = decision.next_start
        times = [decision.look_at, hindrance.until if hindrance else None]
        look_at = min((time for time in times if time is not None), default=None)
        if look_at is not None:
            self._look_at[uid] = look_at
        if decision.waiting is not None:
            self._waiting[uid] = decision.waiting

    def _forget(self, uid: str) -> None:
        self._look_at.pop(uid, None)
        self._waiting.pop(uid, None)

    async def _write(self, body: Body, known: Known, decision: Decision, now: datetime) -> None:
        patch = project_schedule(body, known, now)
        if patch is None:
            return
        try:
            answer = await self._kube.patch_status(
                IMPORT_SCHEDULE,
                self._state.namespace,
                name_of(body),
                patch,
                resource_version=body["metadata"]["resourceVersion"],
            )
        except (ObjectConflictError, ObjectNotFoundError):
            # Changed or gone: its event brings the object here again.
            metrics.STATUS_PATCHES.labels("ImportSchedule", "conflict").inc()
        except (ObjectRefusedError, ObjectForbiddenError) as error:
            metrics.STATUS_PATCHES.labels("ImportSchedule", "refused").inc()
            log.warning("status.refused", name=name_of(body), message=error.message)
            self._state.to_schedule.add_later(uid_of(body), REFUSED_AGAIN_SECONDS)
        else:
            metrics.STATUS_PATCHES.labels("ImportSchedule", "written").inc()
            self._state.schedules.put(answer)
            self._tell_of(body, known, decision)

    def _tell_of(self, body: Body, known: Known, decision: Decision) -> None:
        """Tell once, when the status that says it is written, of what a person may want to change."""
        if decision.missed_until is not None and decision.missed_reason is not None:
            count = decision.missed_count
            metrics.SCHEDULE_MISSED.labels(decision.missed_reason.value).inc(count)
            log.warning(
                "schedule.missed", name=name_of(body), runs=count, reason=decision.missed_reason.value
            )
            if _is_first_missed(body):
                until = format_timestamp(decision.missed_until)
                note = f"{count} run(s) up to the one of {until} are missed ({decision.missed_reason.value})"
                self._say(body, "RunMissed", f"{note}; further ones in a row are only counted")
        if known.problem is not None:
            if condition_reason(body, ImportScheduleCondition.READY) != "InvalidSpec":
                self._say(body, "InvalidSpec", known.problem)
        elif known.waiting not in {None, Waiting.INTAKE_UNKNOWN} and known.waiting != condition_reason(
            body, ImportScheduleCondition.HELD
        ):
            self._say(body, "RunHeld", waiting_message(known))

    def _say(self, body: Body, reason: str, note: str) -> None:
        self._tell.tell(IMPORT_SCHEDULE, body, reason=reason, action="Schedule", note=note, warning=True)

    def _show(self) -> None:
        held = Counter(self._waiting.values())
        for waiting in Waiting:
            metrics.SCHEDULES_HELD.labels(waiting.value).set(held[waiting])


_BY_INTAKE = frozenset({Waiting.INTAKE_STOPPED, Waiting.INTAKE_UNKNOWN})


def _seen(body: Body, runs: Runs, hindrance: Waiting | None) -> Seen:
    known = [time for time in (_time(body, "lastScheduleTime"), runs.last) if time is not None]
    return Seen(
        created_at=datetime.fromisoformat(body["metadata"]["creationTimestamp"]),
        last=max(known, default=None),
        missed=_time(body, "lastMissedTime"),
        active=len(runs.active),
        hindrance=hindrance,
    )


def _known(
    schedule: ImportSchedule, body: Body, runs: Runs, decision: Decision, hindrance: Hindrance | None
) -> Known:
    return Known(
        generation=generation_of(body),
        active=len(runs.active),
        last=decision.run or runs.last,
        succeeded=runs.succeeded,
        missed=decision.missed_until,
        next_start=decision.next_start,
        suspended=schedule.spec.suspend,
        waiting=decision.waiting,
        due=decision.due,
        detail=hindrance.detail if hindrance and hindrance.waiting is decision.waiting else None,
    )


def _time(body: Body, field: str) -> datetime | None:
    text = (body.get("status") or {}).get(field)
    return datetime.fromisoformat(text) if text else None


def _is_first_missed(body: Body) -> bool:
    """Whether a run was started since the last one that was missed."""
    missed, last = _time(body, "lastMissedTime"), _time(body, "lastScheduleTime")
    return missed is None or (last is not None and last > missed)
