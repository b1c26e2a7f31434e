"""Ends the claims of workers that are gone: by their lease, and at once where their pod is seen to end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from import_core.adapters.postgres.claims import LEASE_SECONDS, ClaimStore, EndedClaim
from import_core.adapters.postgres.workers import WorkerStore
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.worker_ends import KnownWorker, ended_workers
from import_core.fail_points import fail_point
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.state import OperatorState

log = get_logger(__name__)

REAP_SECONDS = 1.0
REAP_LIMIT = 500
LONGEST_GAP_SECONDS = 5.0
WATCHED_SECONDS = LEASE_SECONDS + 10.0
"""A lease that ran out counts as its worker's death only when the database was there all the time: after an
outage of its own nobody could renew."""


class ReapLoop:
    """Every second, whatever the API server does; and when a pod's end was seen."""

    def __init__(self, state: OperatorState, claims: ClaimStore, workers: WorkerStore) -> None:
        self._state = state
        self._claims = claims
        self._workers = workers
        self._last_round: float | None = None
        self._watching_since = 0.0

    def loop(self) -> Loop:
        """The loop."""
        return Loop("reap", self.round, interval=REAP_SECONDS, wake=self._state.workers_ended)

    async def round(self) -> None:
        """End claims of processes seen to end, then those whose lease has run out."""
        await self._end_seen()
        now = time.monotonic()
        if self._last_round is None or now - self._last_round > LONGEST_GAP_SECONDS:
            self._watching_since = now
        expired = await self._claims.end_expired(
            limit=REAP_LIMIT, count_deaths=now - self._watching_since > WATCHED_SECONDS
        )
        self._last_round = now
        self._tell(expired, cause="LeaseExpired")
        if len(expired) == REAP_LIMIT:
            self._state.workers_ended.set()

    async def _end_seen(self) -> None:
        ends, self._state.worker_ends = self._state.worker_ends, {}
        if not ends:
            return
        try:
            known = [KnownWorker(*row) for row in await self._workers.of_pods(list(ends))]
            for out_of_memory in (False, True):
                gone = [
                    worker_id
                    for end in ends.values()
                    if end.out_of_memory is out_of_memory
                    for worker_id in ended_workers(end, known)
                ]
                await self._end(gone, out_of_memory=out_of_memory)
        except DatabaseUnavailableError:
            self._state.worker_ends = {**ends, **self._state.worker_ends}
            raise

    async def _end(self, worker_ids: list[str], *, out_of_memory: bool) -> None:
        if not worker_ids:
            return
        ended = await self._claims.end_of_workers(worker_ids, out_of_memory=out_of_memory)
        await self._workers.remove(worker_ids)
        log.info("workers.ended", workers=len(worker_ids), claims=len(ended), outOfMemory=out_of_memory)
        self._tell(ended, cause="OutOfMemory" if out_of_memory else "WorkerEnded")

    def _tell(self, ended: Sequence[EndedClaim], *, cause: str) -> None:
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
            self._state.to_project.add(claim.job_id)
        self._state.dispatch_wanted.set()
