"""One replica leads, by an advisory lock of PostgreSQL in the place of the Lease."""

from __future__ import annotations

import asyncio
import time

from import_core.adapters.postgres.leading import LeaderLock
from import_core.domain.errors import ImportOperatorError, LeaseUncertainError
from import_core.domain.leadership import RENEW_SECONDS, SURE_SECONDS
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.lead import ROUND_TIMEOUT_SECONDS, SupersededError

log = get_logger(__name__)


class LockLeadership:
    """This replica's hold on the lock; like the Lease's, losing sight of it is no reason to end, another holder is."""

    def __init__(self, lock: LeaderLock) -> None:
        self._lock = lock
        self.leading = False
        self._confirmed_at = float("-inf")

    def check(self) -> None:
        """Raises LeaseUncertainError unless no other replica can lead at this moment."""
        if not self.leading or time.monotonic() - self._confirmed_at >= SURE_SECONDS:
            raise LeaseUncertainError

    async def acquire(self) -> None:
        """Wait until this replica leads."""
        while not self.leading:
            self.leading = await self._look() or False
            if not self.leading:
                await asyncio.sleep(RENEW_SECONDS)
        metrics.LEADING.set(1)
        log.info("lock.acquired")

    async def keep(self) -> None:
        """Look for ever whether the lock is still ours. Raises SupersededError when another replica holds it."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if await self._look() is False:
                raise SupersededError("another replica leads, this one must end")

    async def release(self) -> None:
        """Give the lock back."""
        metrics.LEADING.set(0)
        self.leading = False
        await self._lock.release()

    async def _look(self) -> bool | None:
        """Whether we hold the lock; None: nobody can say."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(ROUND_TIMEOUT_SECONDS):
                held = await self._lock.take_or_keep()
        except (ImportOperatorError, TimeoutError) as error:
            log.warning("lock.unreachable", leading=self.leading, message=str(error))
            return None
        if held:
            self._confirmed_at = asked_at
        return held
