"""What the client of an API remembers of one request: the grant it is sent with, and how it failed."""

from __future__ import annotations

from dataclasses import dataclass

from import_core.domain.errors import ProviderRejectedError
from import_core.domain.limits import Grant, latest_arrival
from import_worker.providers.outcomes import CallOutcome


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that the provider did not answer properly; `final`: it is not tried again at once.

    `in_a_row`: the connection's failures since its last success, this one among them.
    """

    problem: str
    outcome: CallOutcome
    cause: BaseException | None = None
    final: bool = False
    in_a_row: int = 0


class OversizedAnswerError(ProviderRejectedError):
    """The provider answered, with more than is read of it."""


@dataclass(slots=True)
class Turn:
    """The limiter's grant that a request is sent with: another one where the first got too old.

    `written_at`, `answered_at`: when the request was out of our hands, and when its answer began (the event loop's
    time).
    """

    grant: Grant
    sent: bool = False
    renewals: int = 0
    written_at: float | None = None
    answered_at: float | None = None

    def arrived_by(self, now: float) -> float:
        """When the request had reached the provider at the latest."""
        return latest_arrival(
            written_at=self.written_at, ended_at=now if self.answered_at is None else self.answered_at
        )
