"""The emergency pause: what starts it, and what ends it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.emergency import (
    TRIAL_JOBS,
    Emergency,
    EmergencyPhase,
    EmergencyPolicy,
    Evidence,
    Outage,
    next_emergency,
)

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
POLICY = EmergencyPolicy()


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def look(emergency: Emergency, seconds: float, **seen: object) -> Emergency:
    return next_emergency(emergency, Evidence(**seen), POLICY, after(seconds))  # type: ignore[arg-type]


PAUSED = Emergency(EmergencyPhase.PAUSED, "r", NOON, NOON)
TRYING = Emergency(EmergencyPhase.TRYING, "r", NOON, NOON)


def test_pauses_when_fewer_than_half_of_fifty_succeeded() -> None:
    assert look(Emergency(), 0, succeeded=25, failed=25).phase is EmergencyPhase.NONE
    assert look(Emergency(), 0, succeeded=0, failed=49).phase is EmergencyPhase.NONE, "too few to judge"
    paused = look(Emergency(), 7, succeeded=24, failed=26)
    assert paused == Emergency(
        EmergencyPhase.PAUSED, "only 24 of the last 50 jobs succeeded", after(7), after(7)
    )


def test_pauses_while_a_part_is_down() -> None:
    assert look(Emergency(), 0, down="the object store").reason == "the object store does not answer"
    assert look(PAUSED, 500, down="The object store") == PAUSED


def test_tries_a_few_jobs_after_a_while() -> None:
    assert look(PAUSED, 299) == PAUSED
    assert look(PAUSED, 300) == Emergency(EmergencyPhase.TRYING, "r", after(300), after(300))


def test_resumes_when_they_succeed() -> None:
    assert look(TRYING, 10, succeeded=4) == TRYING
    assert look(TRYING, 10, succeeded=TRIAL_JOBS) == Emergency(since=after(10), counted_from=after(10))


def test_pauses_again_when_they_fail() -> None:
    assert look(TRYING, 10, failed=TRIAL_JOBS).phase is EmergencyPhase.PAUSED
    assert look(TRYING, 10, succeeded=3, failed=2) == TRYING, "a majority that is still too small"


def test_tries_more_jobs_when_the_first_have_shown_nothing() -> None:
    more = Emergency(EmergencyPhase.TRYING, "r", after(300), NOON)
    assert look(TRYING, 300, waiting=True, running=True) == TRYING, "a long job may still succeed"
    assert look(TRYING, 300, running=False) == more, "given back, all of them"
    assert look(TRYING, 300, succeeded=4, running=False) == more, "what they have shown counts on"
    assert look(more, 310, succeeded=TRIAL_JOBS).phase is EmergencyPhase.NONE
    assert look(TRYING, 299, running=False) == TRYING, "not sooner than after a while"


def test_pauses_again_when_the_few_that_finished_failed() -> None:
    paused = look(TRYING, 300, succeeded=1, failed=2, running=False)
    assert paused.phase is EmergencyPhase.PAUSED
    assert paused.reason == "only 1 of the 3 jobs that were tried succeeded"
    assert look(TRYING, 299, succeeded=1, failed=2, running=False) == TRYING, "too few to judge so soon"


def test_resumes_when_nothing_is_left_to_try() -> None:
    assert look(TRYING, 300, succeeded=2, waiting=False, running=False).phase is EmergencyPhase.NONE


def test_may_be_switched_off() -> None:
    off = EmergencyPolicy(min_success_percent=0)
    assert next_emergency(Emergency(), Evidence(0, 50, "the object store"), off, NOON) == Emergency()
    assert next_emergency(PAUSED, Evidence(), off, NOON).phase is EmergencyPhase.NONE


def test_an_outage_counts_when_it_lasts_and_nothing_succeeds() -> None:
    outage = Outage().after_look(waiting=5, succeeded_lately=False, now=NOON)
    assert outage.down(after(59)) is None
    assert outage.after_look(waiting=9, succeeded_lately=False, now=after(60)).down(after(60))
    assert not outage.after_look(waiting=9, succeeded_lately=True, now=after(60)).down(after(999))
    assert not Outage().after_look(waiting=4, succeeded_lately=False, now=NOON).down(after(999))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans(), st.booleans()), max_size=60))
def test_every_pause_is_followed_by_a_trial_and_never_by_more(
    looks: list[tuple[int, int, bool, bool]],
) -> None:
    emergency = Emergency()
    for number, (succeeded, failed, waiting, running) in enumerate(looks):
        seen = Evidence(succeeded, failed, None, waiting, running)
        new = next_emergency(emergency, seen, POLICY, after(100 * number))
        if emergency.phase is EmergencyPhase.PAUSED:
            assert new.phase is not EmergencyPhase.NONE
        if new.phase is not emergency.phase:
            assert new.since == new.counted_from == after(100 * number)
        else:
            assert new.counted_from == emergency.counted_from, "what was shown is not forgotten meanwhile"
        emergency = new


@given(
    st.sampled_from([PAUSED, TRYING]),
    st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.booleans()), min_size=1, max_size=60),
)
def test_a_trial_never_fails_without_a_failure_and_never_stands_still(
    emergency: Emergency, looks: list[tuple[int, bool, bool]]
) -> None:
    for number, (succeeded, waiting, running) in enumerate(looks, start=1):
        seen = Evidence(succeeded, 0, None, waiting, running)
        now = after(POLICY.pause_seconds * number)
        new = next_emergency(emergency, seen, POLICY, now)
        if emergency.phase is EmergencyPhase.TRYING:
            assert new.phase is not EmergencyPhase.PAUSED
            assert new.since == now or running, "it ends, or more jobs are tried"
        emergency = new
        if emergency.phase is EmergencyPhase.NONE:
            break


@given(st.integers(0, 50), st.integers(0, 50), st.booleans(), st.booleans(), st.floats(0, 1000))
def test_a_trial_ends_in_a_pause_only_where_too_few_of_those_that_count_succeeded(
    succeeded: int, failed: int, waiting: bool, running: bool, seconds: float
) -> None:
    new = look(TRYING, seconds, succeeded=succeeded, failed=failed, waiting=waiting, running=running)
    if new.phase is EmergencyPhase.PAUSED:
        assert failed > succeeded
        assert new.reason == f"only {succeeded} of the {succeeded + failed} jobs that were tried succeeded"
