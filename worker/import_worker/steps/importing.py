"""Takes a step with a batch of products, as a claimed job, and ends the batch behind the claim."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from import_core.adapters.postgres.steps import Batch, StepStore
from import_core.domain.errors import (
    ClaimLostError,
    DependencyUnavailableError,
    HandBackError,
    JobError,
    ProviderThrottledError,
    StepNotUsableError,
)
from import_core.domain.failures import describe, hand_back, is_wrong_setup
from import_core.domain.jobs import JobState, Progress
from import_core.domain.steps import (
    BATCH_TIMEOUT,
    RETRY_DELAYS_SECONDS,
    BatchEnd,
    StepFailed,
    StepOutcome,
    StepPostponed,
    end_batch,
)
from import_core.fail_points import fail_point
from import_core.observability.metrics import WorkerMetrics
from import_worker.jobs import Outcome, Run
from import_worker.outages import through_outages
from import_worker.steps.base import Step, StepBatch

log = structlog.get_logger(__name__)

PASSED_ON = (ClaimLostError, HandBackError, DependencyUnavailableError, ProviderThrottledError)
"""What is no failure of the products: the batch goes back as it is, without a try used up."""


class StepImporter:
    """Runs the batches of one kind of step."""

    retry_delays: Sequence[float] | None = RETRY_DELAYS_SECONDS

    def __init__(
        self, step: Step, store: StepStore, metrics: WorkerMetrics, *, timeout_seconds: float
    ) -> None:
        self._step = step
        self._store = store
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds

    async def run(self, run: Run, *, on_commit: Callable[[], None]) -> str | None:
        """Take the step; the job has its end then, which `run.settled` tells.

        Raises HandBackError, DependencyUnavailableError, ProviderThrottledError and ClaimLostError.
        """
        kind = self._step.kind
        run.provider_type = kind.value
        batch = await through_outages(lambda: self._store.read(run.claim.job.id, kind), what="batch")
        run.live.current = Progress(products_total=len(batch.products))
        done = await self._take(batch, lambda: self._step.run(batch.products))
        if done.rest is not None:
            done = await self._with_rest(batch, done, done.rest)
        fail_point("step.taken")
        end = end_batch(batch.rows, done.outcomes, spread=random.random())  # noqa: S311
        ended = await through_outages(
            lambda: self._store.end(run.claim, batch, end, write=done.write), what="batch's end"
        )
        fail_point("step.ended")
        self._report(run, batch, end)
        on_commit()
        run.settled = _outcome(ended.state)
        return None

    def deadline(self, run: Run, now: datetime) -> float | None:
        """None: a batch has a time limit of its own, and what exceeds it is tried again."""
        return None

    async def _take(self, batch: Batch, take: Callable[[], Awaitable[StepBatch]]) -> StepBatch:
        """The step's outcomes; a failure of the whole batch is one of each product.

        Raises StepNotUsableError for one that is nobody's but the installation's: the backlog waits, and none is dead.
        """
        if not batch.products:
            return StepBatch(())
        try:
            async with asyncio.timeout(self._timeout_seconds) as deadline:
                return await take()
        except PASSED_ON:
            raise
        except TimeoutError as error:
            if not deadline.expired():
                return StepBatch(_all_failed(batch, error))
            limit = f"the batch took longer than {self._timeout_seconds:g} s"
            return StepBatch([StepFailed(row.product_id, BATCH_TIMEOUT, limit) for row in batch.rows])
        except Exception as error:
            if is_wrong_setup(error):
                self._metrics.step_products.labels(batch.kind.value, "held").inc(len(batch.rows))
                raise StepNotUsableError(describe(error)) from error
            log.warning("step.failed", step=batch.kind.value, products=len(batch.rows), exc_info=error)
            return StepBatch(_all_failed(batch, error))

    async def _with_rest(self, batch: Batch, done: StepBatch, error: Exception) -> StepBatch:
        """The same, with what `error` means for the products that have no outcome yet."""
        told = {outcome.product_id for outcome in done.outcomes}
        rest = replace(
            batch,
            rows=[row for row in batch.rows if row.product_id not in told],
            products=[product for product in batch.products if product.product_id not in told],
        )

        async def fail() -> StepBatch:
            raise error

        try:
            left = (await self._take(rest, fail)).outcomes
        except Exception as passed_on:
            retry = hand_back(passed_on, spread=random.random())  # noqa: S311
            if retry is None:
                raise
            why = retry.delay_seconds, retry.waiting_reason, describe(passed_on)
            left = [StepPostponed(row.product_id, *why) for row in rest.rows]
        return StepBatch([*done.outcomes, *left], done.write)

    def _report(self, run: Run, batch: Batch, end: BatchEnd) -> None:
        failed = [item.outcome for item in end.ends if isinstance(item.outcome, StepFailed)]
        dead = sum(item.retry_after is None for item in end.ends if isinstance(item.outcome, StepFailed))
        run.live.current = Progress(
            products_total=len(batch.rows), products_imported=end.done, products_failed=dead
        )
        postponed = sum(isinstance(item.outcome, StepPostponed) for item in end.ends)
        counts = {"done": end.done, "retried": len(failed) - dead, "dead": dead, "postponed": postponed}
        for outcome, number in counts.items():
            self._metrics.step_products.labels(batch.kind.value, outcome).inc(number)
        if failed:
            log.info(
                "step.products_failed",
                step=batch.kind.value,
                failed=len(failed),
                dead=dead,
                reasons=sorted({outcome.reason for outcome in failed}),
            )
        if postponed:
            reasons = {
                item.outcome.waiting_reason for item in end.ends if isinstance(item.outcome, StepPostponed)
            }
            log.info(
                "step.products_postponed", step=batch.kind.value, postponed=postponed, reasons=sorted(reasons)
            )


def _all_failed(batch: Batch, error: Exception) -> Sequence[StepOutcome]:
    reason = error.reason if isinstance(error, JobError) else "UnexpectedError"
    message = describe(error)
    return [StepFailed(row.product_id, reason, message) for row in batch.rows]


def _outcome(state: JobState | None) -> Outcome:
    if state is None:
        return Outcome.RETRIED
    return Outcome.COMPLETED if state is JobState.COMPLETED else Outcome.FAILED
