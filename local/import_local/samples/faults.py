"""The faults that tests can order: latency, random errors, an outage, or the next answers one by one."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.requests import Request


class ControlModel(BaseModel):
    """A body of the control API: camelCase, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class FaultAction(ControlModel):
    """What happens to one coming request, `times` times.

    `status`: answered with that HTTP status (and Retry-After, if given). `slow`: answered as usual after
    `seconds`. `drop`: the connection is closed without an answer. `throttled`: the provider's own answer to
    a client that asks too often. Of a model's API only: `truncated` and `blocked` are answers that were cut off or
    refused for what they are about, `malformed` has words in place of the JSON that was asked for, and the body of
    `garbled` ends within its own.
    """

    kind: Literal["status", "slow", "drop", "throttled", "truncated", "blocked", "malformed", "garbled"] = (
        "status"
    )
    status: int = Field(default=500, ge=200, le=599)
    retry_after: float | None = Field(default=None, ge=0)
    seconds: float = Field(default=1.0, ge=0, le=3_600)
    times: int = Field(default=1, ge=1, le=100_000)


class FaultSettings(ControlModel):
    """The standing faults of a shop's or account's API, or of its images. Latency is seconds."""

    latency_seconds: float = Field(default=0.0, ge=0, le=3_600)
    error_rate: float = Field(default=0.0, ge=0, le=1)
    error_status: int = Field(default=500, ge=400, le=599)
    seed: int = 0
    outage: bool = False
    next: list[FaultAction] = Field(default_factory=list, max_length=1_000)


@dataclass(slots=True)
class FaultPlan:
    """Decides, request by request, which fault happens; the same seed gives the same errors."""

    settings: FaultSettings = field(default_factory=FaultSettings)
    _coming: deque[tuple[FaultAction, int]] = field(default_factory=deque)
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def set(self, settings: FaultSettings) -> None:
        """Replace all faults."""
        self.settings = settings
        self._coming = deque((action, action.times) for action in settings.next)
        self._random = random.Random(settings.seed)

    def pending(self) -> int:
        """Return how many ordered answers are still to come."""
        return sum(times for _, times in self._coming)

    def decide(self) -> FaultAction | None:
        """Return the fault of the next request, or None if it is answered as usual."""
        if self._coming:
            action, times = self._coming.popleft()
            if times > 1:
                self._coming.appendleft((action, times - 1))
            return action
        if self.settings.outage:
            return FaultAction(status=503)
        if self.settings.error_rate and self._random.random() < self.settings.error_rate:
            return FaultAction(status=self.settings.error_status)
        return None


async def drop_connection(request: Request) -> None:
    """Close the client's connection without an answer; returns when it is gone."""
    transport: Any = request.scope["state"]["transport"]
    transport.abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def delay(seconds: float) -> None:
    """Wait as a slow provider would."""
    if seconds > 0:
        await asyncio.sleep(seconds)
