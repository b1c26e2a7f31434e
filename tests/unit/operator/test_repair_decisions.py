"""Decisions on stalled jobs, and whose messages are ours."""

import pytest

from import_core.domain.failures import Fail, Retry
from import_core.domain.jobs import Message
from import_core.domain.repairs import StalledClaim, decide_stalled, message_of


def stalled(**values: float) -> StalledClaim:
    defaults = {"attempt": 0, "quiet_seconds": 1800.0, "started_seconds": 2000.0}
    return StalledClaim("job", "claim", "worker", **{**defaults, **values})  # type: ignore[arg-type]


def test_a_stalled_job_is_tried_again_and_uses_a_try() -> None:
    decision = decide_stalled(stalled(), fail_after_seconds=7200, spread=0.5)
    assert decision == Retry(5.0, 1, "Retry", "No checkpoint for 30 min; the try was ended")
    later = decide_stalled(stalled(attempt=2), fail_after_seconds=7200, spread=0.5)
    assert isinstance(later, Retry)
    assert later.delay_seconds == 125.0


def test_a_stalled_step_waits_as_steps_do() -> None:
    waits = []
    for attempt in range(3):
        decision = decide_stalled(stalled(attempt=attempt, is_step=True), fail_after_seconds=7200, spread=0.5)
        assert isinstance(decision, Retry)
        waits.append(decision.delay_seconds)
    assert waits == [2.0, 4.0, 8.0]
    decision = decide_stalled(stalled(attempt=3, is_step=True), fail_after_seconds=7200, spread=0.5)
    assert decision == Fail("Stalled", "No checkpoint for 30 min (after 4 tries)")


def test_a_stalled_step_that_started_long_ago_has_its_tries() -> None:
    found = stalled(started_seconds=90_000, is_step=True)
    decision = decide_stalled(found, fail_after_seconds=7200, spread=0.5)
    assert decision == Retry(2.0, 1, "Retry", "No checkpoint for 30 min; the try was ended")


def test_used_up_tries_fail_it() -> None:
    decision = decide_stalled(stalled(attempt=3), fail_after_seconds=7200, spread=0.5)
    assert decision == Fail("Stalled", "No checkpoint for 30 min (after 4 tries)")


def test_a_job_that_started_long_ago_fails_with_tries_left() -> None:
    decision = decide_stalled(stalled(started_seconds=7200), fail_after_seconds=7200, spread=0.5)
    assert decision == Fail("Stalled", "No checkpoint for 30 min, and the job started 120 min ago")


@pytest.mark.parametrize("job_id", ["a", "0f-4e-2", "with space", "ends-"])
def test_our_messages_are_read_back(job_id: str) -> None:
    assert message_of(Message(job_id, 12).queue_id) == Message(job_id, 12)


@pytest.mark.parametrize(
    "queue_id", ["", "7", "-7", "job", "job-", "job-x", "job-07", "job-²", "0:0", f"job-{10**9}"]
)
def test_other_messages_are_not(queue_id: str) -> None:
    assert message_of(queue_id) is None
