"""How an API call ended, for whoever counts calls; providers and their client know no metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class CallOutcome(StrEnum):
    """How an API call ended (label `outcome` of imports_provider_requests_total)."""

    OK = "ok"
    REFUSED = "refused"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNREADABLE = "unreadable"
    CANCELLED = "cancelled"


def outcome_of(status: int, *, throttled: bool) -> CallOutcome:
    """The outcome of an answer below 500."""
    if throttled:
        return CallOutcome.THROTTLED
    return CallOutcome.OK if status < 300 else CallOutcome.REFUSED


@dataclass(slots=True)
class MeteredCall:
    """A call under way; `outcome` None: it was never sent, and is not counted."""

    outcome: CallOutcome | None = None


class CallMeter(Protocol):
    """Counts one connection's calls."""

    def call(self) -> AbstractContextManager[MeteredCall]:
        """Measure a call, however it ends."""


class NoMeter:
    """Counts nothing."""

    @contextmanager
    def call(self) -> Iterator[MeteredCall]:
        """Measure nothing."""
        yield MeteredCall()
