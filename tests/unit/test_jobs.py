"""Jobs, messages and progress."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.jobs import JobState, Message, Progress

counts = st.integers(min_value=0, max_value=20_000)


@given(job_id=st.uuids().map(str), dispatch=st.integers(min_value=1, max_value=2**31 - 1))
def test_a_message_survives_the_way_through_redis(job_id: str, dispatch: int) -> None:
    message = Message(job_id, dispatch)
    assert Message.from_data(message.to_data()) == message
    assert ":" not in message.queue_id


def test_hand_overs_of_one_job_have_different_queue_ids() -> None:
    assert Message("a", 1).queue_id != Message("a", 2).queue_id


def test_a_message_of_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="newer"):
        Message.from_data({"version": 2, "jobId": "a", "dispatch": 1})


@given(total=st.none() | counts, imported=counts, unchanged=counts, failed=counts)
def test_percent_is_bounded_and_full_only_when_all_is_done(
    total: int | None, imported: int, unchanged: int, failed: int
) -> None:
    progress = Progress(total, imported, unchanged, failed)
    assert 0 <= progress.percent <= 100
    if progress.percent == 100:
        assert total is not None
        assert progress.products_done >= total


def test_only_final_states_are_final() -> None:
    assert {state for state in JobState if state.is_final} == {
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.CANCELLED,
    }
