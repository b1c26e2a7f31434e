"""What happens to a job after a try that did not succeed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from import_core.domain.errors import (
    BreakerOpenError,
    DependencyUnavailableError,
    HandBackError,
    ImportOperatorError,
    InvalidInputError,
    MissingPackageError,
    PermanentError,
    ProviderThrottledError,
    ProviderUnavailableError,
    RetryableError,
    SchemaMismatchError,
    StepNotUsableError,
    StorageUnavailableError,
)
from import_core.domain.jobs import WaitingReason

RETRY_DELAYS_SECONDS = (5.0, 25.0, 125.0)
"""One try, plus a retry after each of these (docs/reference/lifecycle.md)."""
JITTER = 0.2
"""Delays are spread by up to this share either way, so that jobs which failed together don't return together."""
DEPENDENCY_DELAY_SECONDS = 20.0
"""A job waits this long while the database, Redis, the object store or the API server is away."""
SETUP_DELAY_SECONDS = 60.0
"""A batch of a step waits this long for a person to put right what is set up wrongly."""
BREAKER_DELAY_SECONDS = 1.0
"""A job that an open breaker stops is off the queue for so long; after that dispatch holds it until it may go."""
THROTTLED_DELAY_SECONDS = 30.0
"""A job waits at least this long for a provider that keeps asking to slow down."""
DEATHS_UNTIL_SUSPECTED = 3
"""A job on board of this many workers that died is suspected and runs alone (docs/reference/lifecycle.md)."""
MESSAGE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Fail:
    """The job is FAILED."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The job is due again after `delay_seconds`; `tries` is 0 where the try does not count."""

    delay_seconds: float
    tries: int
    waiting_reason: str
    message: str | None


def decide_after_error(
    error: BaseException, *, attempt: int, spread: float, delays: Sequence[float] | None = None
) -> Fail | Retry:
    """Decide on a try that ended with `error`, when `attempt` tries had failed before it.

    Tries count the job's own failures: an outage of the platform's own parts and a provider's limit give
    the job back without using one up. `spread` in [0, 1) is the caller's random number. An unknown
    exception counts as passing: a bug in one version must not fail jobs for good while tries are left.
    `delays`: seconds before each retry, where they are not an import's.
    """
    delays = RETRY_DELAYS_SECONDS if delays is None else delays
    message = describe(error)
    handed_back = _hand_back(error, message, spread)
    if handed_back is not None:
        return handed_back
    if isinstance(error, PermanentError):
        return Fail(error.reason, message)
    if isinstance(error, InvalidInputError):
        return Fail("InvalidInput", message)
    reason = error.reason if isinstance(error, RetryableError) else "UnexpectedError"
    if attempt >= len(delays):
        if isinstance(error, ProviderUnavailableError) and error.failures_before > 0:
            # Nothing was answered since an earlier failure: maybe an outage, which the breaker is about to call
            # one. It ends somewhere: each such try is a failure more, and the first one after a success counts.
            return Retry(retry_delay(attempt, spread, delays), 0, WaitingReason.RETRY, message)
        return Fail(reason, f"{message} (after {attempt + 1} tries)")
    return Retry(retry_delay(attempt, spread, delays), 1, WaitingReason.RETRY, message)


def hand_back(error: BaseException, *, spread: float) -> Retry | None:
    """When to try again what an error kept from being done though it failed at nothing; None: it is a failure."""
    return _hand_back(error, describe(error), spread)


def _hand_back(error: BaseException, message: str, spread: float) -> Retry | None:
    """What costs the job no try: none of it is the job's own failure."""
    if isinstance(error, BreakerOpenError):
        return Retry(min(error.retry_after, BREAKER_DELAY_SECONDS), 0, WaitingReason.BREAKER_OPEN, None)
    if isinstance(error, HandBackError):
        return Retry(error.retry_after, 0, error.waiting_reason or WaitingReason.RETRY, None)
    if isinstance(error, StepNotUsableError):
        return Retry(spread_delay(SETUP_DELAY_SECONDS, spread), 0, WaitingReason.RETRY, message)
    if isinstance(error, DependencyUnavailableError):
        # Told apart, so that the guard sees an outage that it has no other sight of.
        storage = isinstance(error, StorageUnavailableError)
        reason = WaitingReason.STORAGE if storage else WaitingReason.RETRY
        return Retry(spread_delay(DEPENDENCY_DELAY_SECONDS, spread), 0, reason, message)
    if isinstance(error, ProviderThrottledError):
        delay = max(error.retry_after or 0.0, spread_delay(THROTTLED_DELAY_SECONDS, spread))
        return Retry(delay, 0, WaitingReason.PROVIDER_LIMIT, message)
    return None


def is_wrong_setup(error: BaseException) -> bool:
    """Whether a whole batch of a step failed by how the installation is set up: keys, models, buckets, packages.

    What is wrong with a product a step tells of that product alone; so what fails a batch for good is no product's.
    """
    return isinstance(error, PermanentError | InvalidInputError | MissingPackageError | SchemaMismatchError)


def retry_delay(attempt: int, spread: float, delays: Sequence[float] = RETRY_DELAYS_SECONDS) -> float:
    """Seconds until the retry after `attempt` failed tries, within JITTER of the table's value."""
    return spread_delay(delays[min(attempt, len(delays) - 1)], spread)


def spread_delay(seconds: float, spread: float) -> float:
    """Seconds within JITTER of the given ones; `spread` in [0, 1) is the caller's random number."""
    return seconds * (1 - JITTER + 2 * JITTER * spread)


def describe(error: BaseException) -> str:
    """One bounded line for a person: ours as written, a foreign exception with its type."""
    text = str(error) if isinstance(error, ImportOperatorError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:MESSAGE_LIMIT]
