"""Queue health has hysteresis, intake follows it and people's words, and refusals say when to come back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.backpressure import (
    LONGEST_RETRY_SECONDS,
    HealthLevel,
    Intake,
    IntakeState,
    QueueHealth,
    Thresholds,
    decide_intake,
    next_health,
    next_intake,
    room,
)
from import_core.domain.jobs import Tier

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
LIMITS = Thresholds()
depths = st.integers(min_value=0, max_value=20_001)
looks = st.lists(st.none() | depths, max_size=40)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def followed(seen: list[int | None], health: QueueHealth | None = None) -> QueueHealth:
    health = health or QueueHealth()
    for number, depth in enumerate(seen):
        health = next_health(health, depth, LIMITS, after(number))
    return health


@pytest.mark.parametrize(
    ("depth", "level"),
    [
        (0, HealthLevel.HEALTHY),
        (1000, HealthLevel.HEALTHY),
        (1001, HealthLevel.DEGRADED),
        (5000, HealthLevel.DEGRADED),
        (5001, HealthLevel.CRITICAL),
        (10_000, HealthLevel.CRITICAL),
        (10_001, HealthLevel.OVERLOAD),
    ],
)
def test_level_of_a_depth(depth: int, level: HealthLevel) -> None:
    assert followed([depth]).level is level


def test_level_is_left_only_well_below_its_threshold() -> None:
    assert followed([10_500, 9_900, 9_001]).level is HealthLevel.OVERLOAD
    assert followed([10_500, 9_000]).level is HealthLevel.CRITICAL
    assert followed([10_500, 4_700]).level is HealthLevel.CRITICAL
    assert followed([10_500, 950]).level is HealthLevel.DEGRADED
    assert followed([10_500, 900]).level is HealthLevel.HEALTHY


@given(looks)
def test_an_unknown_depth_changes_nothing(seen: list[int | None]) -> None:
    known = followed(seen)
    assert followed([None, None], known) == known


@given(looks, depths)
def test_health_is_never_better_than_the_depth_nor_worse_than_a_band_allows(
    seen: list[int | None], depth: int
) -> None:
    level = next_health(followed(seen), depth, LIMITS, after(99)).level
    assert level.is_at_least(followed([depth]).level)
    assert level is HealthLevel.HEALTHY or depth > LIMITS.left_at(level)


@given(looks, depths, depths)
def test_a_deeper_queue_is_never_healthier(seen: list[int | None], one: int, other: int) -> None:
    before = followed(seen)
    shallow, deep = (next_health(before, depth, LIMITS, after(99)).level for depth in sorted((one, other)))
    assert deep.is_at_least(shallow)


def test_since_is_the_time_of_the_change() -> None:
    assert followed([1, 2, 6000, 6001]).since == after(2)


OVERLOAD = QueueHealth(HealthLevel.OVERLOAD, NOON, 12_000, NOON)
CRITICAL = QueueHealth(HealthLevel.CRITICAL, NOON, 8_000, NOON)
DEGRADED = QueueHealth(HealthLevel.DEGRADED, NOON, 2_000, NOON)


def test_overload_stops_intake_and_lasting_improvement_resumes_it() -> None:
    intake = next_intake(Intake(), OVERLOAD, LIMITS, NOON)
    assert intake.stopped
    assert intake.by is None
    assert next_intake(intake, OVERLOAD, LIMITS, after(900)).stopped
    better = next_intake(intake, CRITICAL, LIMITS, after(10))
    assert next_intake(better, CRITICAL, LIMITS, after(309)).stopped
    assert next_intake(better, CRITICAL, LIMITS, after(310)) == Intake(since=after(310))


def test_a_relapse_starts_the_wait_anew() -> None:
    intake = next_intake(Intake(stopped=True), CRITICAL, LIMITS, NOON)
    relapsed = next_intake(intake, OVERLOAD, LIMITS, after(200))
    again = next_intake(relapsed, CRITICAL, LIMITS, after(201))
    assert next_intake(again, CRITICAL, LIMITS, after(400)).stopped


def test_what_a_person_stopped_stays_stopped() -> None:
    by_hand = Intake(stopped=True, by="ada", since=NOON)
    assert next_intake(by_hand, QueueHealth(), LIMITS, after(10_000)) == by_hand


def test_what_a_person_opened_stays_open_until_the_queue_is_below_critical() -> None:
    opened = Intake(by="ada", since=NOON)
    for health in (OVERLOAD, CRITICAL):
        assert next_intake(opened, health, LIMITS, after(1)) == opened
        assert all(
            decide_intake(tier, IntakeState(health, opened), starts_per_minute=9) is None for tier in Tier
        )
    assert next_intake(opened, DEGRADED, LIMITS, after(2)) == Intake(since=after(2))


@pytest.mark.parametrize(
    ("health", "refused"),
    [
        (QueueHealth(), set()),
        (DEGRADED, set()),
        (CRITICAL, {Tier.BASIC, Tier.PRO}),
        (OVERLOAD, set(Tier)),
    ],
)
def test_who_is_refused(health: QueueHealth, refused: set[Tier]) -> None:
    state = IntakeState(health, next_intake(Intake(), health, LIMITS, NOON))
    assert {tier for tier in Tier if decide_intake(tier, state, starts_per_minute=100)} == refused


def test_refusal_says_when_there_will_be_room() -> None:
    refusal = decide_intake(Tier.BASIC, IntakeState(CRITICAL), starts_per_minute=350)
    assert refusal is not None
    # From 8,000 to 4,500 jobs.
    assert refusal.retry_after_seconds == 600
    assert "8,000" in refusal.message
    assert "in about 10 minutes" in refusal.message


def test_refusal_without_a_measured_pace_promises_nothing() -> None:
    refusal = decide_intake(Tier.PRO, IntakeState(CRITICAL), starts_per_minute=None)
    assert refusal is not None
    assert "minutes." in refusal.message
    assert "about" not in refusal.message


def test_refusal_after_a_persons_stop_gives_the_reason() -> None:
    state = IntakeState(QueueHealth(), Intake(stopped=True, by="ada", reason="moving house"))
    refusal = decide_intake(Tier.ENTERPRISE, state, starts_per_minute=100)
    assert refusal is not None
    assert "moving house" in refusal.message
    assert "ada" not in refusal.message, "who did it is no submitter's business"


@given(depths, st.sampled_from(Tier), st.none() | st.floats(0, 10_000), st.booleans())
def test_refusals_are_bounded_and_fit_the_room(
    depth: int, tier: Tier, pace: float | None, stopped: bool
) -> None:
    state = IntakeState(followed([depth]), Intake(stopped=stopped))
    refusal = decide_intake(tier, state, starts_per_minute=pace)
    if refusal is not None:
        assert 1 <= refusal.retry_after_seconds <= LONGEST_RETRY_SECONDS
        assert len(refusal.message) < 300
        assert room(tier, state) == 0
    else:
        assert room(tier, state) == max(0, (10_000 if tier is Tier.ENTERPRISE else 5_000) - depth)
