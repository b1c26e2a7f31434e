"""What happens after a try: retries with growing delays, failures for good, hand-backs that cost no try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.errors import (
    BreakerOpenError,
    CredentialsError,
    DatabaseUnavailableError,
    HandBackError,
    InvalidInputError,
    InvalidResourceError,
    ItemError,
    KubernetesUnavailableError,
    MissingPackageError,
    ModelNotUsableError,
    ObjectForbiddenError,
    ProviderThrottledError,
    ProviderUnavailableError,
    QueueUnavailableError,
    RetryableError,
    SchemaMismatchError,
    StepNotUsableError,
    StorageRefusedError,
    StorageUnavailableError,
)
from import_core.domain.failures import (
    BREAKER_DELAY_SECONDS,
    JITTER,
    MESSAGE_LIMIT,
    RETRY_DELAYS_SECONDS,
    SETUP_DELAY_SECONDS,
    Fail,
    Retry,
    decide_after_error,
    describe,
    is_wrong_setup,
    retry_delay,
)


@pytest.mark.parametrize(("attempt", "delay"), [(0, 5.0), (1, 25.0), (2, 125.0)])
def test_passing_failure_is_tried_again_later(attempt: int, delay: float) -> None:
    decision = decide_after_error(ProviderUnavailableError("down"), attempt=attempt, spread=0.5)
    assert decision == Retry(pytest.approx(delay), 1, "Retry", "down")


def test_last_try_fails_with_the_reason() -> None:
    decision = decide_after_error(ProviderUnavailableError("down"), attempt=3, spread=0.5)
    assert decision == Fail("ProviderUnavailable", "down (after 4 tries)")


def test_the_last_try_is_not_used_up_while_the_breaker_counts_what_may_be_an_outage() -> None:
    error = ProviderUnavailableError("down", failures_before=1)
    assert decide_after_error(error, attempt=3, spread=0.5) == Retry(pytest.approx(125), 0, "Retry", "down")
    assert decide_after_error(error, attempt=2, spread=0.5) == Retry(pytest.approx(125), 1, "Retry", "down")


def test_permanent_failure_is_not_tried_again() -> None:
    decision = decide_after_error(CredentialsError(), attempt=0, spread=0.0)
    assert decision == Fail("InvalidCredentials", "The provider refused the credentials.")


def test_invalid_input_names_its_field() -> None:
    decision = decide_after_error(InvalidResourceError("spec.filter", "is odd"), attempt=0, spread=0.0)
    assert decision == Fail("InvalidInput", "spec.filter: is odd")


def test_bug_counts_as_passing() -> None:
    decision = decide_after_error(ZeroDivisionError("division by zero"), attempt=0, spread=0.0)
    assert isinstance(decision, Retry)
    assert decision.message == "ZeroDivisionError: division by zero"
    assert isinstance(decide_after_error(ZeroDivisionError(), attempt=3, spread=0.0), Fail)


def test_hand_back_uses_up_no_try() -> None:
    error = HandBackError(retry_after=7.0, waiting_reason="ProviderLimit")
    assert decide_after_error(error, attempt=3, spread=0.0) == Retry(7.0, 0, "ProviderLimit", None)


def test_who_an_open_breaker_stops_is_soon_left_to_dispatch_which_holds_it() -> None:
    error = BreakerOpenError(retry_after=600.0, waiting_reason="BreakerOpen")
    decision = decide_after_error(error, attempt=3, spread=0.0)
    assert decision == Retry(BREAKER_DELAY_SECONDS, 0, "BreakerOpen", None)


@pytest.mark.parametrize(
    "error",
    [
        DatabaseUnavailableError("away"),
        StorageUnavailableError("away"),
        QueueUnavailableError("away"),
        KubernetesUnavailableError("away"),
        ObjectForbiddenError("away"),
    ],
)
def test_an_outage_of_the_platform_uses_up_no_try_however_often(error: RetryableError) -> None:
    decision = decide_after_error(error, attempt=3, spread=0.5)
    # The guard sees an outage of the object store by this reason.
    reason = "StorageUnavailable" if isinstance(error, StorageUnavailableError) else "Retry"
    assert decision == Retry(20.0, 0, reason, "away")


@pytest.mark.parametrize(("asked", "delay"), [(None, 30.0), (5.0, 30.0), (90.0, 90.0)])
def test_a_providers_limit_uses_up_no_try(asked: float | None, delay: float) -> None:
    error = ProviderThrottledError("slow down", retry_after=asked)
    decision = decide_after_error(error, attempt=3, spread=0.5)
    assert decision == Retry(delay, 0, "ProviderLimit", "slow down")


def test_provider_that_names_a_time_is_obeyed() -> None:
    decision = decide_after_error(ProviderThrottledError(retry_after=300.0), attempt=0, spread=0.0)
    assert isinstance(decision, Retry)
    assert decision.delay_seconds == 300.0


def test_database_that_is_away_passes() -> None:
    assert isinstance(decide_after_error(DatabaseUnavailableError(), attempt=0, spread=0.0), Retry)


@given(st.integers(0, 10), st.floats(0, 1, exclude_max=True))
def test_delays_stay_near_the_table(attempt: int, spread: float) -> None:
    base = RETRY_DELAYS_SECONDS[min(attempt, 2)]
    assert base * (1 - JITTER) <= retry_delay(attempt, spread) <= base * (1 + JITTER)


def test_a_step_has_delays_of_its_own() -> None:
    delays = (2.0, 4.0)
    waits = [
        decide_after_error(RuntimeError(), attempt=tries, spread=0.5, delays=delays) for tries in (0, 1, 2)
    ]
    assert [wait.delay_seconds for wait in waits[:2] if isinstance(wait, Retry)] == [2.0, 4.0]
    assert isinstance(waits[2], Fail)


@given(st.text())
def test_message_is_one_bounded_line(text: str) -> None:
    described = describe(RuntimeError(text))
    assert len(described) <= MESSAGE_LIMIT
    assert "\n" not in described


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CredentialsError(), True),
        (ModelNotUsableError(), True),
        (StorageRefusedError(), True),
        (InvalidInputError("EMBEDDING_MODEL_PATH", "is not set"), True),
        (MissingPackageError(), True),
        (SchemaMismatchError(), True),
        (RetryableError(), False),
        (StorageUnavailableError(), False),
        (HandBackError(), False),
        (ItemError("Download", "TooLarge", "too large"), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_fails_for_good_for_a_whole_batch_is_the_setup_and_not_its_products(
    error: Exception, expected: bool
) -> None:
    assert is_wrong_setup(error) is expected


def test_a_wrong_setup_costs_a_step_no_try_and_is_told() -> None:
    decision = decide_after_error(StepNotUsableError("check GEMINI_API_KEY"), attempt=3, spread=0.5)
    assert decision == Retry(pytest.approx(SETUP_DELAY_SECONDS), 0, "Retry", "check GEMINI_API_KEY")
