"""Watches over each queue: its health, whether new jobs are taken, and the emergency pause of dispatch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from import_core.adapters.kube.resources import WORKER_POOL
from import_core.adapters.postgres.evidence import EvidenceStore
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.domain.backpressure import IntakeState, next_health, next_intake
from import_core.domain.emergency import EmergencyPhase, Evidence, next_emergency
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.guard_words import Word, words_of
from import_operator.holding import Holding
from import_operator.loops.runner import Loop
from import_operator.loops.tell import TellLoop
from import_operator.policies import QueuePolicy
from import_operator.state import OperatorState

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
PAUSE_SECONDS = 0.1
FRESH_SECONDS = 5.0
"""A depth measured longer ago is unknown."""
PRUNE_SECONDS = 60.0


class GuardLoop:
    """Decides under a lock on the queue's row: two operators, or an operator and a person, take turns."""

    def __init__(
        self,
        state: OperatorState,
        queues: QueueStateStore,
        evidence: EvidenceStore,
        events: TellLoop,
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
        seen = self._state.depths.get(name)
        fresh = seen is not None and (datetime.now(UTC) - seen.at).total_seconds() <= FRESH_SECONDS
        pace = await self._evidence.starts_per_minute(name)
        before = (await self._queues.read([name]))[name]
        succeeded, failed = await self._evidence.finished(name, since=before.emergency.counted_from)
        async with self._queues.locked(name) as locked:
            before = locked.state
            now = datetime.now(UTC)
            health = next_health(
                before.intake.health, seen.total if seen and fresh else None, policy.thresholds, now
            )
            if seen and fresh:
                health = replace(health, measured_at=seen.at)
            intake = next_intake(before.intake.intake, health, policy.thresholds, now)
            evidence = Evidence(
                succeeded,
                failed,
                waiting=seen.due > 0 if seen and fresh else True,
                running=seen.claimed > 0 if seen and fresh else True,
            )
            after = replace(
                before,
                intake=IntakeState(health, intake, policy.thresholds),
                starts_per_minute=pace,
                emergency=next_emergency(before.emergency, evidence, policy.emergency, now),
            )
            words = words_of(before, after)
            await locked.save(after, tell=bool(words) or after.emergency.phase is not before.emergency.phase)
        self._show(name, after)
        if words:
            self._say(name, words)
        return after

    def _show(self, name: str, queue: QueueState) -> None:
        metrics.QUEUE_HEALTH.labels(name).set(queue.level.number)
        metrics.INTAKE_STOPPED.labels(name).set(queue.intake.intake.stopped)
        metrics.DISPATCH_PAUSED.labels(name).set(queue.dispatch_paused)
        metrics.EMERGENCY_PAUSED.labels(name).set(queue.emergency.phase is not EmergencyPhase.NONE)
        metrics.STARTS_PER_MINUTE.labels(name).set(queue.starts_per_minute or 0.0)

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
