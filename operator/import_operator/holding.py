"""Holds ImportJobs that there is no room for, and lets them in again when there is; none is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.domain.admission import Admission, Refusal
from import_core.domain.backpressure import IntakeState, decide_intake, room
from import_core.domain.holding import BACKPRESSURE, Held, choose_admitted, held_message
from import_core.domain.jobs import DEFAULT_QUEUE, Tier
from import_operator import metrics
from import_operator.state import OperatorState

BATCH = 500
KEPT = 1000
"""Batches of recorded jobs remembered; they come at most a few a second between two measurements."""


class Holding:
    """The webhook refuses first; this is for when it was dead, or the queue filled up behind it.

    It asks about the queue. Limits on a company's jobs and a namespace's objects are the webhook's alone: to hold
    an object that exists makes it no fewer.
    """

    def __init__(self, state: OperatorState, queues: QueueStateStore, origins: OriginStore) -> None:
        self._state = state
        self._queues = queues
        self._origins = origins
        self._recorded: deque[tuple[datetime, int]] = deque(maxlen=KEPT)

    async def sort(self, accepted: Mapping[str, Admission]) -> dict[str, Refusal]:
        """Which of the accepted objects are held, and what they are told; the others may be recorded.

        Jobs that have a row already are never held. Raises DatabaseUnavailableError.
        """
        queue = await self._queues.health(DEFAULT_QUEUE)
        added = self._added(queue.intake)
        if not self._state.held and room(Tier.BASIC, queue.intake) - added >= len(accepted):
            return {}
        known = await self._origins.existing(list(accepted))
        await self._hold({uid: each for uid, each in accepted.items() if uid not in known})
        now = datetime.now(UTC)
        held = self._state.held
        admitted = set(choose_admitted(held.values(), queue.intake, added=added, limit=BATCH, now=now))
        refused = {uid: _refusal(held[uid], queue) for uid in accepted if uid in held and uid not in admitted}
        for uid in admitted & accepted.keys():
            del held[uid]
        for uid in known:
            held.pop(uid, None)
        metrics.JOBS_HELD.set(len(held))
        return refused

    def recorded(self, jobs: int) -> None:
        """Note that jobs were recorded, which the next measurement will see."""
        self._recorded.append((datetime.now(UTC), jobs))

    def release(self, intake: IntakeState) -> None:
        """Have held jobs looked at again that there is room for now."""
        metrics.JOBS_HELD.set(len(self._state.held))
        if self._state.held:
            self._state.to_record.update(
                choose_admitted(
                    self._state.held.values(),
                    intake,
                    added=self._added(intake),
                    limit=BATCH,
                    now=datetime.now(UTC),
                )
            )

    def _added(self, intake: IntakeState) -> int:
        """Jobs that this measurement did not see. None is forgotten: an older measurement may still be in use."""
        measured_at = intake.health.measured_at
        return sum(jobs for at, jobs in self._recorded if measured_at is None or at >= measured_at)

    async def _hold(self, new: Mapping[str, Admission]) -> None:
        requests = {uid: each.request for uid, each in new.items() if each.request is not None}
        tiers = await self._queues.tiers(sorted({request.company_id for request in requests.values()}))
        for uid, request in requests.items():
            body = self._state.jobs.get(uid)
            if body is not None:
                company = request.company_id
                self._state.held[uid] = Held(uid, company, tiers[company], _created_at(body))


def _refusal(held: Held, queue: QueueState) -> Refusal:
    why = decide_intake(held.tier, queue.intake, starts_per_minute=queue.starts_per_minute)
    return Refusal(BACKPRESSURE, held_message(why.message if why else None))


def _created_at(body: Mapping[str, Any]) -> datetime:
    text = body["metadata"].get("creationTimestamp")
    return datetime.fromisoformat(text) if text else datetime.now(UTC)
