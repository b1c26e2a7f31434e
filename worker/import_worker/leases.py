"""Keeps this worker's leases: renews all in one statement, and stops a job whose lease is not sure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import structlog

from import_core.adapters.postgres.claims import ClaimStore
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.jobs import Claim, Progress
from import_core.domain.leases import (
    RENEW_EVERY_SECONDS,
    UNCONFIRMED_LIMIT_SECONDS,
    sort_renewal,
)
from import_core.observability.metrics import WorkerMetrics

log = structlog.get_logger(__name__)

RENEWAL_TIMEOUT_SECONDS = 8.0
"""Below the interval: a renewal that hangs is given up for the next one."""


class HeldLease:
    """One lease of this worker; `confirmed_at` is on the event loop's clock."""

    def __init__(
        self, claim: Claim, live: Callable[[], Progress], on_lost: Callable[[str], None], confirmed_at: float
    ) -> None:
        self.claim = claim
        self.live = live
        self.settled = False
        """The job is being finished: whether the claim stands is decided by that write alone."""
        self._on_lost = on_lost
        self._confirmed_at = confirmed_at
        self._sent: Progress | None = None
        self._timer: asyncio.TimerHandle | None = None

    def confirm(self, at: float, limit: float) -> None:
        """The claim stood at `at`; without another word the job stops itself `limit` seconds later."""
        self._confirmed_at = max(at, self._confirmed_at)
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._confirmed_at + limit, self.lose, "the lease could not be confirmed")

    def lose(self, why: str) -> None:
        """Stop the job, unless it is being finished already."""
        if not self.settled:
            self._on_lost(why)

    def close(self) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def take_news(self) -> bool:
        """Whether the counters have changed since the last call."""
        live = self.live()
        changed, self._sent = live != self._sent, live
        return changed


class LeaseKeeper:
    """All leases of this worker. `run` is a side task: without it no lease is renewed."""

    def __init__(
        self,
        claims: ClaimStore,
        metrics: WorkerMetrics,
        *,
        on_news: Callable[[str], None],
        every_seconds: float = RENEW_EVERY_SECONDS,
        limit_seconds: float = UNCONFIRMED_LIMIT_SECONDS,
    ) -> None:
        self._claims = claims
        self._metrics = metrics
        self._on_news = on_news
        self._every = every_seconds
        self._limit = limit_seconds
        self._held: dict[str, HeldLease] = {}
        self._doubted = asyncio.Event()

    @contextmanager
    def hold(
        self,
        claim: Claim,
        *,
        claimed_at: float,
        live: Callable[[], Progress],
        on_lost: Callable[[str], None],
    ) -> Iterator[HeldLease]:
        """Renew `claim` inside the block; `claimed_at` is the loop's time just before it was claimed."""
        lease = HeldLease(claim, live, on_lost, claimed_at)
        lease.confirm(claimed_at, self._limit)
        self._held[claim.claim_id] = lease
        self._metrics.active_jobs.set(len(self._held))
        try:
            yield lease
        finally:
            lease.close()
            del self._held[claim.claim_id]
            self._metrics.active_jobs.set(len(self._held))

    def doubt(self, job_ids: Collection[str]) -> None:
        """Some jobs were taken from workers: find out at once if one of ours is among them."""
        if any(lease.claim.job.id in job_ids for lease in self._held.values()):
            self._doubted.set()

    def doubt_all(self) -> None:
        """Any job may have been taken meanwhile."""
        if self._held:
            self._doubted.set()

    async def run(self) -> None:
        """Renew for ever: by the clock and not from the end of the last renewal, and when there is doubt."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._every
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._doubted.wait()
            except TimeoutError:
                due = max(due + self._every, loop.time())
            self._doubted.clear()
            await self.renew()

    async def renew(self) -> None:
        """Renew all leases in one statement; stops the jobs whose claims are gone."""
        leases = dict(self._held)
        if not leases:
            return
        sent_at = asyncio.get_running_loop().time()
        news = [lease.claim.job.id for lease in leases.values() if lease.take_news()]
        request = [(lease.claim.job.id, claim_id, lease.live()) for claim_id, lease in leases.items()]
        try:
            async with asyncio.timeout(RENEWAL_TIMEOUT_SECONDS):
                renewal = await self._claims.renew(request)
        except (DatabaseUnavailableError, TimeoutError) as error:
            self._metrics.lease_renewals.labels("failed").inc(len(leases))
            log.warning("lease.renewal_failed", leases=len(leases), detail=str(error) or "timeout")
            return
        outcome = sort_renewal(leases, renewal.confirmed, renewal.busy)
        for claim_id in outcome.confirmed:
            if claim_id in self._held:
                leases[claim_id].confirm(sent_at, self._limit)
        for claim_id in outcome.lost:
            leases[claim_id].lose("the claim has ended")
        self._metrics.lease_renewals.labels("confirmed").inc(len(outcome.confirmed))
        self._metrics.lease_renewals.labels("lost").inc(len(outcome.lost))
        for job_id in news:
            self._on_news(job_id)
