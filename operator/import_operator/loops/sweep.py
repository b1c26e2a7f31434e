"""Deletes what is done with: finished objects after their time, and old rows; both at a bounded rate."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.history import BATCH, HistoryStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.errors import (
    KubernetesUnavailableError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
)
from import_core.domain.sweeping import choose, may_go
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.state import Body, OperatorState, name_of, uid_of

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
DELETED_PER_ROUND = 50
CONCURRENT_DELETES = 10
HELD_SECONDS = 30.0
"""An object that must stay for now is looked at again after this time."""
HISTORY_SECONDS = 300.0
"""Between two looks for old rows, when the last one found fewer than a batch."""


class SweepLoop:
    """Every second. What the time of an object is counts from its status, so nothing is missed by an outage."""

    def __init__(
        self,
        state: OperatorState,
        kube: KubeClient,
        reopening: ReopeningStore,
        history: HistoryStore,
        *,
        finished_objects_limit: int,
        history_days: float,
    ) -> None:
        self._state = state
        self._kube = kube
        self._reopening = reopening
        self._history = history
        self._finished_objects_limit = finished_objects_limit
        self._history_days = history_days
        self._held: dict[str, float] = {}
        self._history_due = 0.0

    def loop(self) -> Loop:
        """The loop."""
        return Loop("sweep", self.round, interval=INTERVAL_SECONDS)

    async def round(self) -> None:
        """Delete one batch of each."""
        await self._delete_objects()
        await self._delete_history()

    async def _delete_objects(self) -> None:
        now = time.monotonic()
        self._held = {uid: until for uid, until in self._held.items() if until > now}
        chosen = choose(
            self._state.finished,
            now=datetime.now(UTC),
            kept=self._finished_objects_limit,
            at_most=DELETED_PER_ROUND,
            held=self._held,
        )
        if not chosen:
            return
        # The row decides, not the object's status, which may not tell yet that its job runs again.
        rows = await self._reopening.honoured(chosen)
        going: list[Body] = []
        for uid in chosen:
            body = self._state.jobs.get(uid)
            if body is not None and may_go(body, rows.get(uid)):
                going.append(body)
            else:
                self._held[uid] = now + HELD_SECONDS
                metrics.OBJECTS_SWEPT.labels("held").inc()
        for start in range(0, len(going), CONCURRENT_DELETES):
            batch = going[start : start + CONCURRENT_DELETES]
            results = await asyncio.gather(*map(self._delete, batch), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _delete(self, body: Body) -> None:
        """Delete the object as it was looked at: an annotation that came meanwhile keeps it."""
        uid = uid_of(body)
        version = str(body["metadata"]["resourceVersion"])
        try:
            await self._kube.delete(
                IMPORT_JOB, self._state.namespace, name_of(body), uid=uid, resource_version=version
            )
        except ObjectConflictError:
            self._hold(uid, "changed")
        except ObjectNotFoundError:
            self._state.forget_job(uid)
            metrics.OBJECTS_SWEPT.labels("gone").inc()
        except ObjectForbiddenError as error:
            self._hold(uid, "refused")
            log.warning("object.not_deleted", jobId=uid, message=error.message)
        except KubernetesUnavailableError:
            metrics.OBJECTS_SWEPT.labels("unavailable").inc()
            raise
        else:
            # Its event is still to come; until then it is not deleted once more.
            self._hold(uid, "deleted")
            log.info("object.deleted", jobId=uid, namespace=self._state.namespace, name=name_of(body))

    def _hold(self, uid: str, result: str) -> None:
        metrics.OBJECTS_SWEPT.labels(result).inc()
        self._held[uid] = time.monotonic() + HELD_SECONDS

    async def _delete_history(self) -> None:
        if not self._history_days or time.monotonic() < self._history_due:
            return
        deleted = await self._history.delete_finished(self._state.namespace, days=self._history_days)
        if deleted < BATCH:
            self._history_due = time.monotonic() + HISTORY_SECONDS
        if deleted:
            metrics.HISTORY_SWEPT.inc(deleted)
            log.info("history.deleted", jobs=deleted)
