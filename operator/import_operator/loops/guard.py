"""Watches over each queue: its health, whether new jobs are taken, and the emergency pause of dispatch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from import_core.adapters.kube.resources import WORKER_POOL
from import_core.adapters.postgres.evidence import EvidenceStore
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.domain.backpressure import IntakeState, next_health, next_intake, unmeasured
from import_core.domain.emergency import Emergency, EmergencyPhase, Evidence, Outage, next_emergency
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.guard_words import Word, words_of
from import_operator.holding import Holding
from import_operator.loops.runner import Loop
from import_operator.loops.tell import Teller
from import_operator.policies import QueuePolicy
from import_operator.state import OperatorState, SeenDepth

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
PAUSE_SECONDS = 0.1
FRESH_SECONDS = 5.0
"""A depth measured longer ago is unknown."""
PRUNE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a queue; None is unknown."""

    depth: SeenDepth | None
    starts_per_minute: float
    evidence: Evidence | None


def decide(before: QueueState, seen: Seen, policy: QueuePolicy, now: datetime) -> QueueState:
    """The queue's state after a look; what could not be seen changes nothing."""
    thresholds, depth = policy.thresholds, seen.depth
    if depth is None:
        health, intake = before.intake.health, unmeasured(before.intake.intake)
    else:
        health = next_health(before.intake.health, depth.total, thresholds, now)
        intake = next_intake(before.intake.intake, health, thresholds, now)
        health = replace(health, measured_at=depth.at)
    emergency = before.emergency
    if seen.evidence is not None:
        emergency = next_emergency(emergency, seen.evidence, policy.emergency, now)
    return replace(
        before,
        intake=IntakeState(health, intake, thresholds),
        starts_per_minute=seen.starts_per_minute,
        emergency=emergency,
    )


class GuardLoop:
    """Decides under a lock on the queue's row: two operators, or an operator and a person, take turns."""

    def __init__(
        self,
        state: OperatorState,
        queues: QueueStateStore,
        evidence: EvidenceStore,
        events: Teller,
        *,
        holding: Holding,
        policies: Callable[[], Mapping[str, QueuePolicy]],
    ) -> None:
        self._state = state
        self._queues = queues
        self._evidence = evidence
        self._events = events
        self._holding = holding
        self._policies = policies
        self._outages: dict[str, Outage] = {}
        self._pruned_at: dict[str, float] = {}

    def loop(self) -> Loop:
        """Woken when a person has changed something."""
        return Loop(
            "guard",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.guard_wanted,
            pause=PAUSE_SECONDS,
        )

    async def round(self) -> None:
        """Look at every queue."""
        for name, policy in self._policies().items():
            queue = await self._look(name, policy)
            self._state.queues[name] = queue
            if name == DEFAULT_QUEUE:
                self._holding.release(queue.intake)
            await self._prune(name)

    async def _look(self, name: str, policy: QueuePolicy) -> QueueState:
        known = await self._queues.health(name)
        seen = await self._see(name, known.emergency)
        async with self._queues.locked(name) as locked:
            before = locked.state
            # Evidence from before a person's word that came meanwhile counts no more.
            judged = before.emergency == known.emergency
            after = decide(
                before, seen if judged else replace(seen, evidence=None), policy, datetime.now(UTC)
            )
            words = words_of(before, after)
            await locked.save(after, tell=bool(words))
        self._show(name, after)
        if words:
            self._say(name, words)
        return after

    async def _see(self, name: str, emergency: Emergency) -> Seen:
        now = datetime.now(UTC)
        depth = self._state.depths.get(name)
        if depth is not None and (now - depth.at).total_seconds() > FRESH_SECONDS:
            depth = None
        waiting, succeeded_lately = await self._evidence.storage_outage(name)
        outage = self._outages.get(name, Outage()).after_look(
            waiting=waiting, succeeded_lately=succeeded_lately, now=now
        )
        self._outages[name] = outage
        succeeded, failed = await self._evidence.finished(name, since=emergency.counted_from)
        trying = emergency.phase is EmergencyPhase.TRYING
        evidence = Evidence(
            succeeded,
            failed,
            down=outage.down(now),
            # Only a trial asks for it.
            waiting=not trying or await self._evidence.dispatchable(name),
            # Unknown is not zero.
            running=depth is None or depth.claimed > 0,
        )
        return Seen(depth, await self._evidence.starts_per_minute(name), evidence)

    def _show(self, name: str, queue: QueueState) -> None:
        metrics.QUEUE_HEALTH.labels(metrics.queue_label(name)).set(queue.level.number)
        metrics.INTAKE_STOPPED.labels(metrics.queue_label(name)).set(queue.intake.intake.stopped)
        metrics.DISPATCH_PAUSED.labels(metrics.queue_label(name)).set(queue.dispatch_paused)
        metrics.EMERGENCY_PAUSED.labels(metrics.queue_label(name)).set(
            queue.emergency.phase is not EmergencyPhase.NONE
        )
        metrics.STARTS_PER_MINUTE.labels(metrics.queue_label(name)).set(queue.starts_per_minute or 0.0)

    def _say(self, name: str, words: list[Word]) -> None:
        """Tell people: in the log, and by Events at the pools that serve the queue."""
        for word in words:
            (log.warning if word.warning else log.info)(
                word.event, queue=name, reason=word.reason, message=word.note
            )
            for body in self._state.pools:
                if (body["spec"].get("queue") or DEFAULT_QUEUE) == name:
                    self._events.tell(
                        WORKER_POOL,
                        body,
                        reason=word.reason,
                        action="Guard",
                        note=word.note,
                        warning=word.warning,
                    )
        # The objects of waiting jobs say why they wait.
        self._state.project_waiting()
        self._state.dispatch_wanted.set()

    async def _prune(self, name: str) -> None:
        now = time.monotonic()
        if now - self._pruned_at.get(name, float("-inf")) >= PRUNE_SECONDS:
            self._pruned_at[name] = now
            await self._evidence.prune(name)
