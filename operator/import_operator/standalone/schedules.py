"""Starts the runs of the folder's ImportSchedules: a row each, whose id its time decides, so that none comes twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from import_core.adapters.folder.declarations import Declarations
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.admission import admit
from import_core.domain.errors import InvalidResourceError
from import_core.domain.jobs import DEFAULT_QUEUE, JobRequest, JobRow
from import_core.domain.resources.import_schedule import ConcurrencyPolicy, parse_import_schedule
from import_core.domain.schedules import Decision, Missed, Plan, Seen, Waiting, decide, job_name, plan_of
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.state import OperatorState

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
WAITING_SECONDS = 5.0
IDLE_SECONDS = 300.0
RUNS_LOOKED_AT = 20
"""The newest times of a schedule that are looked up by their rows: which was the last, and which still run."""
LONGEST_BACK = timedelta(days=400)
REPLACED_MESSAGE = "A newer run of its schedule replaces it"


class ScheduleLoop:
    """Looks at the schedules whose time has come; the rows say what was started, also to the next leader."""

    def __init__(
        self,
        state: OperatorState,
        declarations: Declarations,
        jobs: JobStore,
        *,
        check: Callable[[], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`check` raises unless this replica leads for sure."""
        self._state = state
        self._declarations = declarations
        self._jobs = jobs
        self._check = check
        self._clock = clock
        self._first_seen: dict[str, datetime] = {}
        """Since when this leader knows a schedule as it is: runs of earlier times are not started anew."""
        self._missed: dict[str, datetime] = {}
        self._look_at: dict[str, tuple[int, datetime]] = {}
        for reason in Missed:
            metrics.SCHEDULE_MISSED.labels(reason.value)

    def loop(self) -> Loop:
        """The loop."""
        return Loop("schedule", self.round, interval=INTERVAL_SECONDS)

    async def round(self) -> None:
        """Look at the schedules that are due, and at those that have changed."""
        declared = await self._declarations.refresh()
        now = self._clock()
        for name in [*self._look_at.keys() - declared.schedules.keys()]:
            del self._look_at[name]
            self._first_seen.pop(name, None)
            self._missed.pop(name, None)
        for name, body in declared.schedules.items():
            generation = int(body["metadata"]["generation"])
            known, at = self._look_at.get(name, (None, now))
            if known != generation:
                self._first_seen[name] = now
            if known != generation or at <= now:
                look_at = await self._handle(name, body, declared.providers, now)
                self._look_at[name] = generation, look_at

    async def _handle(
        self, name: str, body: Mapping[str, Any], providers: Mapping[str, Mapping[str, Any]], now: datetime
    ) -> datetime:
        """Do what is due; returns when to look again."""
        try:
            schedule = parse_import_schedule(body)
        except InvalidResourceError as error:
            log.warning("schedule.invalid", name=name, message=error.message)
            return now + timedelta(seconds=IDLE_SECONDS)
        plan = plan_of(schedule)
        times = recent_times(plan, now)
        rows = await self._jobs.read([job_name(name, time) for time in times])
        started = [time for time in times if job_name(name, time) in rows]
        active = [row for row in rows.values() if not row.state.is_final]
        seen = Seen(
            created_at=max(started, default=self._first_seen[name]),
            missed=self._missed.get(name),
            active=len(active),
            hindrance=self._hindrance(),
        )
        decision = decide(plan, seen, now)
        self._note_missed(name, decision)
        if decision.run is not None:
            if schedule.spec.concurrency_policy is ConcurrencyPolicy.REPLACE:
                await self._replace(active)
            await self._start(name, body, providers, decision.run)
            metrics.SCHEDULE_DELAY.observe(max(0.0, (now - plan.start_of(decision.run)).total_seconds()))
        if decision.run is not None or decision.waiting is not None:
            return now + timedelta(seconds=WAITING_SECONDS)
        return decision.look_at or now + timedelta(seconds=IDLE_SECONDS)

    def _hindrance(self) -> Waiting | None:
        queue = self._state.queues.get(DEFAULT_QUEUE)
        if queue is None:
            return Waiting.INTAKE_UNKNOWN
        return Waiting.INTAKE_STOPPED if queue.intake.intake.stopped else None

    async def _start(
        self, name: str, body: Mapping[str, Any], providers: Mapping[str, Mapping[str, Any]], time: datetime
    ) -> None:
        self._check()
        spec = body["spec"]["jobTemplate"]["spec"]
        job_id = job_name(name, time)
        metadata = {"name": job_id, "namespace": self._state.namespace, "uid": job_id}
        admission = admit(
            {"metadata": metadata, "spec": spec},
            providers.get(str(spec["providerRef"]["name"])),
            unavailable=self._state.unavailable_steps,
        )
        refusal = admission.verdict.refusal
        if refusal is not None:
            # The folder was valid as a whole: it has changed since.
            log.error("schedule.refused", name=name, message=refusal.message)
            self._missed[name] = time
            return
        request = JobRequest(
            id=job_id,
            company_id=spec["companyId"],
            provider=spec["providerRef"]["name"],
            namespace=self._state.namespace,
            spec=spec,
            suspended=bool(spec.get("suspend")),
        )
        if (await self._jobs.record([request])).new:
            metrics.SCHEDULE_RUNS.inc()
            log.info("schedule.started", name=name, jobId=job_id)
            self._state.dispatch_wanted.set()

    async def _replace(self, active: list[JobRow]) -> None:
        if active:
            await self._jobs.cancel([row.id for row in active], message=REPLACED_MESSAGE)

    def _note_missed(self, name: str, decision: Decision) -> None:
        if decision.missed_until is None or decision.missed_reason is None:
            return
        self._missed[name] = decision.missed_until
        metrics.SCHEDULE_MISSED.labels(decision.missed_reason.value).inc(decision.missed_count)
        log.warning(
            "schedule.missed", name=name, runs=decision.missed_count, reason=decision.missed_reason.value
        )


def recent_times(plan: Plan, now: datetime) -> list[datetime]:
    """The newest RUNS_LOOKED_AT times of a plan up to now, in descending order."""
    floor = now - LONGEST_BACK
    times: list[datetime] = []
    latest = plan.cron.latest(after=floor, until=now)
    while latest is not None and len(times) < RUNS_LOOKED_AT:
        times.append(latest)
        latest = plan.cron.latest(after=floor, until=latest - timedelta(seconds=1))
    return times
