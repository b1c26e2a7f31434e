"""One job on this worker: claimed, run, and brought to its end, however the run ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

import structlog

from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import (
    ClaimLostError,
    DatabaseUnavailableError,
    DeadlineExceededError,
    HandBackError,
)
from import_core.domain.failures import Fail, Retry, decide_after_error
from import_core.domain.jobs import Claim, JobState, Message
from import_core.fail_points import fail_point
from import_core.observability.metrics import WorkerMetrics
from import_worker.counting import count_start, count_try
from import_worker.gate import JobGate, Place
from import_worker.leases import HeldLease, LeaseKeeper
from import_worker.outages import through_outages
from import_worker.pipeline.pages import LiveProgress
from import_worker.progress import ProgressNotifier

log = structlog.get_logger(__name__)

UNKNOWN_PROVIDER = "unknown"


class Outcome(StrEnum):
    """How one try of a job ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    RETRIED = "retried"
    HANDED_BACK = "handed_back"
    LOST = "lost"


@dataclass(slots=True)
class Run:
    """A claimed job while it runs; the importer fills in what it finds out."""

    claim: Claim
    live: LiveProgress
    provider_type: str = UNKNOWN_PROVIDER
    settled: Outcome | None = None
    """How the try ended, where the importer has written that itself, together with its work."""


class Importer(Protocol):
    """Does a claimed job's work; see `importing.py`."""

    retry_delays: Sequence[float] | None
    """Seconds before each retry after an unexpected error; None: those of an import."""

    async def run(self, run: Run, *, on_commit: Callable[[], None]) -> str | None:
        """Import; returns a sentence for people or None. Raises JobError, HandBackError, ClaimLostError."""

    def deadline(self, run: Run, now: datetime) -> float | None:
        """Seconds that the job may still take; None: no limit."""


class JobRunner:
    """Runs the jobs of this worker's messages, until it is told to hand them back."""

    def __init__(
        self,
        *,
        worker_id: str,
        claims: ClaimStore,
        leases: LeaseKeeper,
        notifier: ProgressNotifier,
        importer: Importer,
        metrics: WorkerMetrics,
    ) -> None:
        self._worker_id = worker_id
        self._claims = claims
        self._leases = leases
        self._notifier = notifier
        self._importer = importer
        self._metrics = metrics
        self._gate = JobGate()
        self._interrupts: set[asyncio.Future[BaseException]] = set()
        self._handing_back = False
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Start no more jobs: messages that are still fetched go back at once."""
        self._stopping.set()

    def hand_back(self) -> None:
        """Stop all running jobs now and hand them back with their checkpoints."""
        self.stop()
        self._handing_back = True
        for interrupt in self._interrupts:
            if not interrupt.done():
                interrupt.set_result(HandBackError("the worker stops"))

    async def handle(self, message: Message) -> None:
        """Work on one message until its job is off this worker; only cancelling it raises."""
        async with self._gate.shared() as place:
            claimed_at = asyncio.get_running_loop().time()
            try:
                claim = await self._claims.claim(message, worker_id=self._worker_id)
            except DatabaseUnavailableError as error:
                # The dispatcher hands the row over again when it is not claimed in time.
                self._drop(message, "unavailable", error.message)
                return
            if claim is None:
                self._drop(message, "stale", None)
                return
            fail_point("job.claimed")
            await self._run_claimed(claim, place, claimed_at)

    def _drop(self, message: Message, reason: str, detail: str | None) -> None:
        self._metrics.messages_dropped.labels(reason).inc()
        log.info(
            "message.dropped",
            jobId=message.job_id,
            correlationId=message.correlation_id or message.job_id,
            dispatch=message.dispatch,
            reason=reason,
            detail=detail,
        )

    async def _run_claimed(self, claim: Claim, place: Place, claimed_at: float) -> None:
        job = claim.job
        with structlog.contextvars.bound_contextvars(
            jobId=job.id,
            companyId=job.company_id,
            correlationId=job.correlation_id,
            attempt=job.attempt + 1,
        ):
            count_start(self._metrics, claim)
            log.info(
                "job.claimed", provider=job.provider, pages=claim.checkpoint.pages if claim.checkpoint else 0
            )
            self._notifier.changed_state(job.id)
            run = Run(claim, LiveProgress(job.progress))
            interrupt: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

            def on_lost(why: str) -> None:
                if not interrupt.done():
                    interrupt.set_result(ClaimLostError(why))

            with self._leases.hold(
                claim, claimed_at=claimed_at, live=lambda: run.live.current, on_lost=on_lost
            ) as lease:
                error, message = await self._work(run, place, interrupt)
                lease.settled = True
                outcome = await self._settle(run, lease, error, message)
            self._notifier.changed_state(job.id)
            self._report(run, outcome, error, asyncio.get_running_loop().time() - claimed_at)

    async def _work(
        self, run: Run, place: Place, interrupt: asyncio.Future[BaseException]
    ) -> tuple[BaseException | None, str | None]:
        """Run the job in a task of its own until it ends or has to stop; returns its error and message.

        `interrupt` is given the error to stop with.
        """
        work = asyncio.create_task(self._import(run, place))
        self._interrupts.add(interrupt)
        if self._handing_back:
            self.hand_back()
        try:
            waited_for: set[asyncio.Future[Any]] = {work, interrupt}
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._interrupts.discard(interrupt)
            if not work.done():
                await end_tasks([work])
        if not work.cancelled():
            error = work.exception()
            return error, None if error else work.result()
        return interrupt.result() if interrupt.done() else HandBackError("the worker stops"), None

    async def _import(self, run: Run, place: Place) -> str | None:
        if self._stopping.is_set():
            raise HandBackError("the worker stops")
        if run.claim.suspected:
            await place.become_alone()
            await self._claims.mark_alone(run.claim)
            log.warning("job.runs_alone", deaths=run.claim.job.deaths)
        limit = self._importer.deadline(run, datetime.now(UTC))
        try:
            async with asyncio.timeout(limit) as deadline:
                return await self._importer.run(
                    run, on_commit=lambda: self._notifier.changed(run.claim.job.id)
                )
        except TimeoutError as error:
            if deadline.expired():
                raise DeadlineExceededError from error
            raise

    async def _settle(
        self, run: Run, lease: HeldLease, error: BaseException | None, message: str | None
    ) -> Outcome:
        """Write the try's end to PostgreSQL; without it the lease runs out, and the job runs again."""
        claim = run.claim
        if run.settled is not None:
            return run.settled
        if isinstance(error, ClaimLostError):
            return Outcome.LOST
        try:
            if error is None:
                await self._finish(run, JobState.COMPLETED, None, message)
                return Outcome.COMPLETED
            decision = decide_after_error(
                error,
                attempt=claim.job.attempt,
                spread=random.random(),  # noqa: S311
                delays=self._importer.retry_delays,
            )
            if isinstance(decision, Fail):
                await self._finish(run, JobState.FAILED, decision.reason, decision.message)
                return Outcome.FAILED
            await self._release(claim, decision)
        except (ClaimLostError, DatabaseUnavailableError) as settling:
            log.warning("job.not_settled", detail=settling.message)
            return Outcome.LOST
        return Outcome.RETRIED if decision.tries else Outcome.HANDED_BACK

    async def _finish(self, run: Run, state: JobState, reason: str | None, message: str | None) -> None:
        gave_up = run.live.current.products_failed > 0
        await through_outages(
            lambda: self._claims.finish(run.claim, state, reason=reason, message=message, gave_up=gave_up),
            what="finish",
        )
        fail_point("job.finished")

    async def _release(self, claim: Claim, decision: Retry) -> None:
        await through_outages(
            lambda: self._claims.release(
                claim,
                delay_seconds=decision.delay_seconds,
                tries=decision.tries,
                waiting_reason=decision.waiting_reason if decision.delay_seconds else None,
                message=decision.message,
            ),
            what="release",
        )
        fail_point("job.released")

    def _report(self, run: Run, outcome: Outcome, error: BaseException | None, seconds: float) -> None:
        progress = run.live.current
        count_try(
            self._metrics,
            run.claim,
            progress,
            outcome=outcome.value,
            provider_type=run.provider_type,
            seconds=seconds,
            now=datetime.now(UTC),
        )
        details = {
            "provider": run.provider_type,
            "duration": round(seconds * 1000),
            "products": progress.products_done,
            "productsFailed": progress.products_failed,
            "images": progress.images_total,
            "imagesFailed": progress.images_failed,
            "phases": run.live.phases.job_milliseconds(),
        }
        if error is None:
            log.info(f"job.{outcome}", **details)
            return
        is_expected = isinstance(error, ClaimLostError | HandBackError)
        write = log.info if is_expected else log.warning
        write(
            f"job.{outcome}",
            phase=run.live.phases.current.value,
            error=type(error).__name__,
            detail=str(error),
            exc_info=None if is_expected else error,
            **details,
        )
