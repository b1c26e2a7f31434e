"""Listens for PostgreSQL's hints and passes them to the loops that read again."""

from __future__ import annotations

from import_core.adapters.postgres.notifications import (
    BREAKER_CHANNEL,
    CONNECTION_CHANNEL,
    DRAINED_CHANNEL,
    GUARD_CHANNEL,
    PROGRESS_CHANNEL,
    QUEUE_CHANNEL,
    Notification,
    listen,
)
from import_core.adapters.postgres.pool import Database
from import_core.adapters.postgres.queue_state import COMPANY, PROVIDER
from import_operator.loops.runner import Loop
from import_operator.state import OperatorState, name_of


class ListenLoop:
    """One round lasts as long as its connection."""

    def __init__(self, state: OperatorState, database: Database) -> None:
        self._state = state
        self._database = database

    def loop(self) -> Loop:
        """The loop."""
        return Loop("listen", self.round, interval=0.0)

    async def round(self) -> None:
        """Listen until the connection breaks. Raises DatabaseUnavailableError."""
        async for notification in listen(
            self._database,
            [
                PROGRESS_CHANNEL,
                CONNECTION_CHANNEL,
                BREAKER_CHANNEL,
                GUARD_CHANNEL,
                QUEUE_CHANNEL,
                DRAINED_CHANNEL,
            ],
        ):
            self.take(notification)

    def take(self, notification: Notification) -> None:
        """Pass one hint on; after a new connection everything live is read again."""
        state = self._state
        if notification.channel == DRAINED_CHANNEL:
            state.scaling.drains_changed.set()
            return
        if notification.channel is None:
            state.scaling.drains_changed.set()
            state.project_waiting()
            state.to_check.update(name_of(body) for body in state.providers)
            state.breakers_changed.set()
        elif notification.channel == PROGRESS_CHANNEL:
            state.to_project.update(
                job_id for job_id in notification.payload.split(",") if state.jobs.get(job_id) is not None
            )
        elif notification.channel == GUARD_CHANNEL:
            if notification.payload == state.namespace:
                state.reconcile_wanted.set()
        elif notification.channel == QUEUE_CHANNEL:
            if notification.payload in (COMPANY, PROVIDER):
                # Which jobs wait for that is in their rows.
                state.project_waiting()
            state.guard_wanted.set()
        else:
            if notification.channel == BREAKER_CHANNEL:
                state.breakers_changed.set()
            for reference in notification.payload.split(","):
                namespace, _, name = reference.partition("/")
                if namespace == state.namespace and state.providers.named(name) is not None:
                    state.to_check.add(name)
        state.dispatch_wanted.set()
