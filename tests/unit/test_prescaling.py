"""Growing ahead of known waves: in time, for as long as they last, within the bounds."""

import pytest

from import_core.domain.prescaling import (
    DEFAULT_START_SECONDS,
    LONGEST_START_SECONDS,
    STARTS_KEPT,
    KnownWave,
    StartTimes,
    WaveBook,
    with_known_waves,
)
from import_core.domain.scaling import ScalingSpec

SPEC = ScalingSpec(
    minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
)
WAVE = KnownWave(start=1000.0, end=1600.0, workers=20)


@pytest.mark.parametrize(("now", "minimum"), [(900.0, 2), (940.0, 20), (1599.0, 20), (1600.0, 2)])
def test_raises_the_minimum_by_the_lead_before_and_during_a_wave(now: float, minimum: int) -> None:
    assert with_known_waves(SPEC, [WAVE], now, lead_seconds=60.0).minimum == minimum


def test_the_largest_of_several_waves_counts() -> None:
    waves = [WAVE, KnownWave(1000.0, 1200.0, 30)]
    assert with_known_waves(SPEC, waves, 1100.0, lead_seconds=0.0).minimum == 30


def test_never_above_the_maximum_and_never_below_the_minimum() -> None:
    waves = [KnownWave(0.0, 10.0, 500)]
    assert with_known_waves(SPEC, waves, 5.0, lead_seconds=0.0).minimum == 50
    assert with_known_waves(SPEC, [KnownWave(0.0, 10.0, 1)], 5.0, lead_seconds=0.0) == SPEC


def test_the_lead_is_what_nine_in_ten_starts_took() -> None:
    times = StartTimes()
    assert times.lead_seconds == DEFAULT_START_SECONDS
    for seconds in (10.0, 12.0, 11.0, 90.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0):
        times = times.after_start(seconds)
    assert times.lead_seconds == 12.0
    for _ in range(3 * STARTS_KEPT):
        times = times.after_start(40.0)
    assert times.seconds == (40.0,) * STARTS_KEPT


@pytest.mark.parametrize("seconds", [-1.0, LONGEST_START_SECONDS + 1])
def test_starts_that_can_t_be_are_left_out(seconds: float) -> None:
    assert StartTimes().after_start(seconds) == StartTimes()


def test_coming_starts_are_waves_by_the_minute() -> None:
    book = WaveBook({}).after_look([125.0, 130.0, 179.0, 190.0, 5_000.0], 65.0, within=300.0)
    assert book.waves(jobs_per_worker=2, offset=-60.0) == (
        KnownWave(60.0, 120.0, 2),
        KnownWave(120.0, 180.0, 1),
    )


def test_a_wave_lasts_its_minute_although_its_runs_have_started() -> None:
    book = WaveBook({}).after_look([120.0] * 30, 100.0, within=300.0)
    book = book.after_look([], 121.0, within=300.0)
    assert book.jobs == {2: 30}
    assert book.after_look([], 180.0, within=300.0).jobs == {}


def test_a_schedule_that_was_suspended_before_is_no_wave() -> None:
    book = WaveBook({}).after_look([120.0] * 30, 50.0, within=300.0)
    assert book.after_look([120.0] * 3, 55.0, within=300.0).jobs == {2: 3}
