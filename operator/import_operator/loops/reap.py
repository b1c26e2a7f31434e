"""Ends the claims of workers that are gone: by their lease, and at once where their pod is seen to end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from import_core.adapters.postgres.claims import LEASE_SECONDS, ClaimStore, EndedClaim
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.workers import WorkerStore
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.leases import RENEW_EVERY_SECONDS
from import_core.domain.repairs import RepairKind
from import_core.domain.worker_ends import KnownWorker, ended_workers
from import_core.fail_points import fail_point
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.repairing import tell_repairs
from import_operator.state import OperatorState

log = get_logger(__name__)

REAP_SECONDS = 1.0
REAP_LIMIT = 500
LONGEST_GAP_SECONDS = 5.0
DOUBTFUL_LEASE_SECONDS = RENEW_EVERY_SECONDS + 4.0
"""Long enough for a process that lives to renew, short enough for its jobs to run again within 15 s."""
WATCHED_SECONDS = LEASE_SECONDS + 10.0
"""A lease that ran out counts as its worker's death only when the database was there all the time: after an
outage of its own nobody could renew."""


class ReapLoop:
    """Every second, whatever the API server does; and when a pod's end was seen."""

    def __init__(
        self, state: OperatorState, claims: ClaimStore, workers: WorkerStore, repairs: RepairStore
    ) -> None:
        self._state = state
        self._claims = claims
        self._workers = workers
        self._repairs = repairs
        self._last_round: float | None = None
        self._watching_since = 0.0

    def loop(self) -> Loop:
        """The loop."""
        return Loop("reap", self.round, interval=REAP_SECONDS, wake=self._state.workers_ended)

    async def round(self) -> None:
        """End claims of processes seen to end, those whose lease has run out, and those without a job."""
        await self._end_seen()
        now = time.monotonic()
        if self._last_round is None or now - self._last_round > LONGEST_GAP_SECONDS:
            self._watching_since = now
        expired = await self._claims.end_expired(
            limit=REAP_LIMIT, count_deaths=now - self._watching_since > WATCHED_SECONDS
        )
        self._last_round = now
        self._tell(expired, RepairKind.LEASE_EXPIRED, cause="LeaseExpired")
        if len(expired) == REAP_LIMIT:
            self._state.workers_ended.set()
        without_job = await self._repairs.end_claims_without_job()
        tell_repairs(RepairKind.CLAIM_WITHOUT_JOB, without_job, reason="The job is not in progress any more")
        self._state.to_project.update(without_job)

    async def _end_seen(self) -> None:
        ends, self._state.worker_ends = self._state.worker_ends, {}
        if not ends:
            return
        try:
            known = [KnownWorker(*row) for row in await self._workers.of_pods(list(ends))]
            gone: dict[tuple[bool, bool], list[str]] = defaultdict(list)
            for end in ends.values():
                gone[end.certain, end.out_of_memory] += ended_workers(end, known)
            await self._doubt([*gone[False, False], *gone[False, True]])
            kept: set[str] = set()
            for out_of_memory in (False, True):
                kept |= await self._end(gone[True, out_of_memory], out_of_memory=out_of_memory)
        except DatabaseUnavailableError:
            self._state.worker_ends = {**ends, **self._state.worker_ends}
            raise
        again = {pod: end for pod, end in ends.items() if kept.intersection(ended_workers(end, known))}
        self._state.worker_ends = {**again, **self._state.worker_ends}

    async def _doubt(self, worker_ids: list[str]) -> None:
        """Shorten the leases of processes that may have ended: one that lives renews them in time."""
        if not worker_ids:
            return
        shortened = await self._claims.shorten(worker_ids, lease_seconds=DOUBTFUL_LEASE_SECONDS)
        log.info("workers.doubtful", workers=len(worker_ids), claims=shortened)

    async def _end(self, worker_ids: list[str], *, out_of_memory: bool) -> set[str]:
        """End the claims of these processes; returns those that have some left, for the next round."""
        if not worker_ids:
            return set()
        ended = await self._claims.end_of_workers(worker_ids, out_of_memory=out_of_memory)
        kept = await self._claims.holders(worker_ids)
        await self._workers.remove([worker_id for worker_id in worker_ids if worker_id not in kept])
        self._state.ends_seen += 1
        log.info("workers.ended", workers=len(worker_ids), claims=len(ended), outOfMemory=out_of_memory)
        cause = "OutOfMemory" if out_of_memory else "WorkerEnded"
        self._tell(ended, RepairKind.WORKER_ENDED, cause=cause)
        # It may have written a job's end and died before it told of it.
        self._state.project_running()
        return kept

    def _tell(self, ended: Sequence[EndedClaim], kind: RepairKind, *, cause: str) -> None:
        if not ended:
            return
        fail_point("claims.ended")
        metrics.CLAIMS_ENDED.labels(cause).inc(len(ended))
        for claim in ended:
            log.warning(
                "claim.ended",
                jobId=claim.job_id,
                workerId=claim.worker_id,
                cause=cause,
                suspected=claim.suspected,
            )
            tell_repairs(kind, [claim.job_id], reason=cause)
            self._state.to_project.add(claim.job_id)
        self._state.dispatch_wanted.set()
