"""Deletes finished objects after their time, at a bounded rate."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.admission import admit
from import_core.domain.errors import (
    KubernetesUnavailableError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from import_core.domain.reopening import HonouredRequests
from import_core.domain.sweeping import GIVEN_UP_AFTER, Hold, choose, may_go
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.state import Body, OperatorState, name_of, provider_name_of, uid_of

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
DELETED_PER_ROUND = 50
CONCURRENT_DELETES = 10


class SweepLoop:
    """Every second. What the time of an object is counts from its status, so nothing is missed by an outage."""

    def __init__(
        self,
        state: OperatorState,
        kube: KubeClient,
        reopening: ReopeningStore,
        *,
        finished_objects_limit: int,
    ) -> None:
        self._state = state
        self._kube = kube
        self._reopening = reopening
        self._finished_objects_limit = finished_objects_limit
        self._holds: dict[str, Hold] = {}

    def loop(self) -> Loop:
        """The loop."""
        return Loop("sweep", self.round, interval=INTERVAL_SECONDS)

    async def round(self) -> None:
        """Delete one batch."""
        now, finished = time.monotonic(), self._state.finished
        self._holds = {uid: hold for uid, hold in self._holds.items() if uid in finished}
        chosen = choose(
            finished,
            now=datetime.now(UTC),
            kept=self._finished_objects_limit,
            at_most=DELETED_PER_ROUND,
            held={uid for uid, hold in self._holds.items() if hold.until > now},
            surplus=self._state.surplus,
        )
        if not chosen:
            return
        # The row decides, not the object's status, which may not tell yet that its job runs again.
        rows = await self._reopening.honoured(chosen)
        going: list[Body] = []
        for uid in chosen:
            body = self._state.jobs.get(uid)
            if body is not None and self._may_go(body, rows.get(uid)):
                going.append(body)
            else:
                self._hold(uid, "held")
        for start in range(0, len(going), CONCURRENT_DELETES):
            batch = going[start : start + CONCURRENT_DELETES]
            results = await asyncio.gather(*map(self._delete, batch), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    def _may_go(self, body: Body, row: HonouredRequests | None) -> bool:
        if may_go(body, row):
            return True
        uid = uid_of(body)
        hold, end = self._holds.get(uid), self._state.finished.get(uid)
        # The providers may not all be known just after the start; a hold that has grown is older than that.
        if hold is None or not hold.is_longest or end is None:
            return False
        if datetime.now(UTC) < end.expires_at + GIVEN_UP_AFTER:
            return False
        provider = self._state.providers.named(provider_name_of(body))
        admission = admit(body, provider, unavailable=self._state.unavailable_steps)
        return may_go(body, row, refused=admission.verdict.refusal is not None)

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
        except (ObjectForbiddenError, ObjectRefusedError) as error:
            self._hold(uid, "refused")
            log.warning("object.not_deleted", jobId=uid, message=error.message)
        except KubernetesUnavailableError:
            metrics.OBJECTS_SWEPT.labels("unavailable").inc()
            raise
        else:
            # Its event is still to come; until then it counts as gone already.
            self._state.finished.pop(uid, None)
            metrics.OBJECTS_SWEPT.labels("deleted").inc()
            log.info("object.deleted", jobId=uid, namespace=self._state.namespace, name=name_of(body))

    def _hold(self, uid: str, result: str) -> None:
        metrics.OBJECTS_SWEPT.labels(result).inc()
        self._holds[uid] = Hold.after(self._holds.get(uid), now=time.monotonic())
