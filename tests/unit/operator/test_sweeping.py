"""Which finished objects are deleted, and which must stay."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.jobs import JobState
from import_core.domain.reopening import RETRY_ANNOTATION, HonouredRequests
from import_core.domain.sweeping import LONGEST_HELD_SECONDS, Finished, Hold, choose, finished_of, may_go

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def body(phase: str = "Succeeded", *, retry: str | None = None, **status: Any) -> dict[str, Any]:
    annotations = {RETRY_ANNOTATION: retry} if retry is not None else {}
    metadata = {"generation": 1, "creationTimestamp": "2026-01-01T09:00:00Z", "annotations": annotations}
    return {
        "metadata": metadata,
        "spec": {"ttlSecondsAfterFinished": 60},
        "status": {"phase": phase, "completedAt": "2026-01-01T11:00:00Z", **status},
    }


def ends(**seconds: float) -> dict[str, Finished]:
    """Finished an hour ago; their time is over so many seconds from now."""
    return {
        uid: Finished(NOW - timedelta(hours=1), NOW + timedelta(seconds=left))
        for uid, left in seconds.items()
    }


@pytest.mark.parametrize("phase", ["Pending", "Queued", "Running"])
def test_job_under_way_has_no_end(phase: str) -> None:
    assert finished_of(body(phase)) is None
    assert finished_of({"metadata": {}}) is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Cancelled"])
def test_time_counts_from_the_end(phase: str) -> None:
    end = datetime(2026, 1, 1, 11, tzinfo=UTC)
    assert finished_of(body(phase)) == Finished(end, end + timedelta(seconds=60))


def test_end_without_a_time_is_the_last_change() -> None:
    conditions = [
        {"lastTransitionTime": "2026-01-01T10:00:00Z"},
        {"lastTransitionTime": "2026-01-01T10:30:00Z"},
    ]
    found = finished_of(body("Cancelled", completedAt=None, conditions=conditions))
    assert found is not None
    assert found.finished_at.hour == 10
    assert found.finished_at.minute == 30
    created = finished_of(body("Cancelled", completedAt=None))
    assert created is not None
    assert created.finished_at.hour == 9


def test_expired_ones_go_and_the_longest_expired_first() -> None:
    assert choose(ends(a=-1, b=1, c=-5, d=0), now=NOW, kept=100, at_most=10) == ["c", "a", "d"]


def test_rate_is_bounded() -> None:
    assert choose(ends(a=-1, b=-2, c=-3), now=NOW, kept=0, at_most=2) == ["c", "b"]


def test_above_the_number_the_oldest_go() -> None:
    finished = {
        str(age): Finished(NOW - timedelta(seconds=age), NOW + timedelta(days=1)) for age in (1, 2, 3, 4)
    }
    assert choose(finished, now=NOW, kept=4, at_most=10) == []
    assert choose(finished, now=NOW, kept=2, at_most=10) == ["4", "3"]


def test_expired_ones_count_for_the_number() -> None:
    assert choose(ends(a=-1, b=5, c=5), now=NOW, kept=2, at_most=10) == ["a"]


def test_held_ones_do_not_keep_the_others() -> None:
    assert choose(ends(a=-9, b=-1), now=NOW, kept=9, at_most=1, held={"a"}) == ["b"]


@given(
    st.dictionaries(st.text(max_size=3), st.tuples(st.integers(0, 99), st.integers(-9, 9)), max_size=30),
    st.integers(1, 20),
    st.integers(0, 20),
)
def test_nothing_goes_without_a_reason(jobs: dict[str, tuple[int, int]], kept: int, at_most: int) -> None:
    finished = {
        uid: Finished(NOW - timedelta(seconds=age), NOW + timedelta(seconds=left))
        for uid, (age, left) in jobs.items()
    }
    chosen = choose(finished, now=NOW, kept=kept, at_most=at_most)
    assert len(chosen) == len(set(chosen)) <= at_most
    early = [uid for uid in chosen if finished[uid].expires_at > NOW]
    assert len(finished) - len(chosen) >= kept or not early
    expired = {uid for uid, end in finished.items() if end.expires_at <= NOW}
    assert len(expired & set(chosen)) == min(len(expired), at_most)


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED])
def test_finished_job_may_go(state: JobState) -> None:
    assert may_go(body(), HonouredRequests(state, 1))


def test_job_whose_row_is_history_may_go() -> None:
    assert may_go(body(retry="1"), None)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.IN_PROGRESS])
def test_job_that_runs_again_stays(state: JobState) -> None:
    assert not may_go(body(), HonouredRequests(state, 1, retry="1"))


def test_job_that_is_asked_to_run_again_stays() -> None:
    assert not may_go(body(retry="2"), HonouredRequests(JobState.FAILED, 1, retry="1"))
    assert may_go(body(retry="2"), HonouredRequests(JobState.FAILED, 1, retry="2"))


def test_request_that_is_refused_for_long_protects_no_more() -> None:
    row = HonouredRequests(JobState.FAILED, 1, retry="1")
    assert may_go(body(retry="2"), row, refused=True)
    assert not may_go(body(retry="2"), HonouredRequests(JobState.PENDING, 1, retry="1"), refused=True)


def test_hold_grows_up_to_its_longest() -> None:
    hold, lengths = None, []
    for _ in range(6):
        hold = Hold.after(hold, now=100.0)
        lengths.append(hold.until - 100.0)
    assert lengths == [30, 60, 120, 240, 480, LONGEST_HELD_SECONDS]
    assert hold is not None
    assert hold.is_longest
    assert Hold.after(hold, now=0.0).seconds == LONGEST_HELD_SECONDS


def test_object_that_is_being_deleted_is_none_of_them() -> None:
    going = body()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert finished_of(going) is None


def test_job_that_is_not_finished_stays() -> None:
    assert not may_go(body("Running"), HonouredRequests(JobState.FAILED, 1))
