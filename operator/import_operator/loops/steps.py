"""Keeps step jobs in line with their ImportJobs, and takes finished ones out of the platform's table."""

from __future__ import annotations

import time

from import_core.adapters.postgres.step_control import START, SWEPT_AT_ONCE, StepControl
from import_core.domain.errors import DatabaseUnavailableError
from import_core.observability.logs import get_logger
from import_operator.loops.runner import Loop
from import_operator.state import OperatorState, is_suspended

log = get_logger(__name__)

INTERVAL_SECONDS = 5.0
PAUSE_SECONDS = 0.2
SWEEP_SECONDS = 60.0
"""Between two sweeps, when the last one left nothing to do; rows of products that are gone are looked for with it."""
CANCELLED_MESSAGE = "The import was cancelled"


class StepLoop:
    """Suspends and resumes what recording an import has not, cancels what is left of cancelled ones, and sweeps."""

    def __init__(self, state: OperatorState, control: StepControl) -> None:
        self._state = state
        self._control = control
        self._sweep_due = 0.0
        self._looked_at = START

    def loop(self) -> Loop:
        """Woken by changes of objects; the rest by the clock."""
        return Loop(
            "steps",
            self.round,
            interval=INTERVAL_SECONDS,
            wake=self._state.steps_wanted,
            pause=PAUSE_SECONDS,
        )

    async def round(self) -> None:
        """What is to be held to the last batch, and one bounded batch of each of the others."""
        await self._hold()
        if await self._control.cancel_leftovers(message=CANCELLED_MESSAGE):
            self._state.steps_wanted.set()
        if time.monotonic() < self._sweep_due:
            return
        swept = await self._control.sweep()
        if swept:
            log.info("steps.swept", jobs=swept)
        self._looked_at = await self._control.forget_gone(self._looked_at)
        if swept < SWEPT_AT_ONCE and self._looked_at == START:
            self._sweep_due = time.monotonic() + SWEEP_SECONDS

    async def _hold(self) -> None:
        asked, self._state.steps_to_hold = self._state.steps_to_hold, set()
        # As the object says now: it may have been resumed since it was asked for.
        bodies = {uid: self._state.jobs.get(uid) for uid in asked}
        wanted = {uid: is_suspended(body) for uid, body in bodies.items() if body is not None}
        if not wanted:
            return
        try:
            await self._control.hold(wanted)
        except DatabaseUnavailableError:
            self._state.steps_to_hold |= asked
            raise
        self._state.to_project.update(wanted)
        self._state.dispatch_wanted.set()
        log.info("steps.held", suspended=sum(wanted.values()), resumed=len(wanted) - sum(wanted.values()))
