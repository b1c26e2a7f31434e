"""Puts right what rows, claims and Redis disagree on, in full now and then, and ends jobs that have stalled."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence

from import_core.adapters.hand_overs import OVERDUE_SECONDS
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.repairs import LIMIT, RepairStore
from import_core.adapters.redis.queue import JobQueue
from import_core.domain.failures import Fail, Retry
from import_core.domain.repairs import RepairKind, StalledClaim, decide_stalled, message_of
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.dispatch import Capacity
from import_operator.loops.runner import Loop
from import_operator.recovering import recover_hand_overs
from import_operator.repairing import tell_repairs
from import_operator.settings import OperatorSettings
from import_operator.state import OperatorState

log = get_logger(__name__)

BATCHES_A_ROUND = 20
"""So many batches of rows in progress without a claim are freed a round; somebody may write them as fast."""


class RepairLoop:
    """Two rounds: over all hand-overs, and over all claims. Both stream, and both are harmless done twice."""

    def __init__(
        self,
        state: OperatorState,
        repairs: RepairStore,
        dispatching: DispatchStore,
        *,
        queue: Callable[[str], JobQueue],
        capacities: Callable[[], Mapping[str, Capacity]],
        settings: OperatorSettings,
    ) -> None:
        self._state = state
        self._repairs = repairs
        self._dispatching = dispatching
        self._queue = queue
        self._capacities = capacities
        self._settings = settings

    def loops(self) -> list[Loop]:
        """Both run by the clock; the dispatch and reap loops find the common cases much sooner."""
        settings = self._settings
        return [
            Loop("repair", self.repair_hand_overs, interval=settings.orphan_scan_seconds),
            Loop("stalled", self.end_stalled, interval=settings.stalled_scan_seconds),
        ]

    async def repair_hand_overs(self) -> None:
        """Rows that Redis lacks, rows that no worker holds, and messages that stand for nothing any more."""
        await self._free_jobs_without_claim()
        for name in self._capacities():
            queue = self._queue(name)
            await recover_hand_overs(
                self._dispatching,
                queue,
                older_than_seconds=OVERDUE_SECONDS,
                kind=RepairKind.HAND_OVER_LOST,
                cause="Orphaned",
            )
            async for removed in queue.weed(self._outdated):
                jobs = [message.job_id for message in map(message_of, removed) if message is not None]
                tell_repairs(RepairKind.LEFTOVER_MESSAGE, jobs, reason="The hand-over is outdated")

    async def _free_jobs_without_claim(self) -> None:
        for _ in range(BATCHES_A_ROUND):
            freed = await self._repairs.free_jobs_without_claim()
            if not freed:
                return
            tell_repairs(RepairKind.JOB_WITHOUT_CLAIM, freed, reason="No worker holds the job in progress")
            self._state.to_project.update(freed)
            self._state.dispatch_wanted.set()
            if len(freed) < LIMIT:
                return

    async def _outdated(self, queue_ids: Sequence[str]) -> Collection[str]:
        messages = [message for message in map(message_of, queue_ids) if message is not None]
        return [message.queue_id for message in await self._repairs.outdated(messages)]

    async def end_stalled(self) -> None:
        """End claims without progress: the job is tried again, or fails."""
        quiet = self._settings.stalled_after_seconds
        while stalled := await self._repairs.stalled(quiet_seconds=quiet):
            decisions = {found: self._decide(found) for found in stalled}
            ended = await self._repairs.end_stalled(decisions, quiet_seconds=quiet)
            for found, decision in decisions.items():
                if found.job_id in ended:
                    self._tell_stalled(found, decision)
            self._state.to_project.update(ended)
            self._state.dispatch_wanted.set()
            if len(ended) < LIMIT:
                # The rest is locked by pages, or made progress.
                return

    def _decide(self, stalled: StalledClaim) -> Fail | Retry:
        return decide_stalled(
            stalled,
            fail_after_seconds=self._settings.stalled_fail_after_seconds,
            spread=random.random(),  # noqa: S311
        )

    def _tell_stalled(self, stalled: StalledClaim, decision: Fail | Retry) -> None:
        tell_repairs(RepairKind.STALLED, [stalled.job_id], reason=decision.message or "")
        failed = isinstance(decision, Fail)
        if failed:
            metrics.JOBS_STALLED_FAILED.inc()
        log.warning("job.stalled", jobId=stalled.job_id, workerId=stalled.worker_id, failed=failed)
