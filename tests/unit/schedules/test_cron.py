"""Cron expressions come round as in a CronJob, and each local time once where the clock is changed."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.cron import EXPRESSION_PATTERN, Cron, time_zone

BERLIN = "Europe/Berlin"
EXPRESSIONS = st.sampled_from(
    [
        "0 2 * * *",
        "30 2 * * *",
        "0,30 2,3 * * *",
        "*/15 * * * *",
        "* 2 * * *",
        "17 */6 * * *",
        "0 0 1 * *",
        "0 0 29 2 *",
        "0 12 1,15 * mon",
        "@hourly",
    ]
)
ZONES = st.sampled_from(
    ["Etc/UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"]
)
MOMENTS = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2035, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def times(expression: str, zone: str, after: str, count: int) -> list[str]:
    """Local times after a local time."""
    start = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))
    found = Cron.parse(expression, time_zone(zone)).times(start)
    return [next(found).astimezone(ZoneInfo(zone)).isoformat() for _ in range(count)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 2 * * *", ["2026-01-01T02:00:00+00:00", "2026-01-02T02:00:00+00:00"]),
        ("@daily", ["2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"]),
        ("0 0 ? * *", ["2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"]),
        ("50/5 0 * * *", ["2026-01-01T00:50:00+00:00", "2026-01-01T00:55:00+00:00"]),
        ("0 0 * * SUN", ["2026-01-04T00:00:00+00:00", "2026-01-11T00:00:00+00:00"]),
        # Both days restricted: either is enough. One a star, with a step or not: both must fit.
        ("0 0 13 * 5", ["2026-01-02T00:00:00+00:00", "2026-01-09T00:00:00+00:00"]),
        ("0 0 */2 * 5", ["2026-01-09T00:00:00+00:00", "2026-01-23T00:00:00+00:00"]),
    ],
)
def test_fields_mean_what_they_mean_in_a_cron_job(expression: str, expected: list[str]) -> None:
    assert times(expression, "UTC", "2026-01-01T00:00:00", 2) == expected


def test_time_that_the_clock_leaps_over_comes_at_the_end_of_the_leap() -> None:
    """A CronJob leaves it out; a night without an import is worse than one that comes an hour later."""
    assert times("30 2 * * *", BERLIN, "2026-03-28T12:00:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]
    assert times("0,30 2,3 * * *", BERLIN, "2026-03-28T12:00:00", 3) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]


def test_time_that_the_clock_shows_twice_comes_once() -> None:
    """A CronJob runs twice then, which is reported as a bug."""
    assert times("30 2 * * *", BERLIN, "2026-10-24T12:00:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_repeated_hour_brings_nothing_back() -> None:
    """02:10 of the second pass: 02:30 was in the first one."""
    second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    following = Cron.parse("30 2 * * *", time_zone(BERLIN)).next(second_pass)
    assert following == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_star_follows_real_time_as_in_a_cron_job() -> None:
    assert times("*/30 * * * *", BERLIN, "2026-10-25T01:30:00", 5) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]
    assert times("*/30 * * * *", BERLIN, "2026-03-29T01:00:00", 2) == [
        "2026-03-29T01:30:00+01:00",
        "2026-03-29T03:00:00+02:00",
    ]


@given(EXPRESSIONS, ZONES, MOMENTS)
def test_times_ascend_and_the_latest_is_the_last_before(expression: str, zone: str, moment: datetime) -> None:
    cron = Cron.parse(expression, time_zone(zone))
    following = cron.times(moment)
    first, second = next(following), next(following)
    assert moment < first < second
    assert cron.latest(after=moment, until=second) == second
    assert cron.latest(after=moment, until=second - timedelta(seconds=1)) == first
    assert cron.latest(after=first, until=second - timedelta(seconds=1)) is None
    assert cron.count(after=moment, before=second, at_most=5) == 1
    # However long ago it begins, the answer is the same.
    assert cron.latest(after=moment - timedelta(days=3650), until=first) == first


@given(ZONES, MOMENTS)
def test_each_day_has_its_run_whatever_the_clock_does(zone: str, moment: datetime) -> None:
    local = ZoneInfo(zone)
    found = Cron.parse("30 2 * * *", time_zone(zone)).times(moment)
    days = [next(found).astimezone(local).date() for _ in range(400)]
    assert [(after - before).days for before, after in pairwise(days)] == [1] * 399


@pytest.mark.parametrize(
    "expression",
    ["", "0 2 * *", "0 2 * * * *", "@every 1h", "0 0 30 2 *", "9-3 * * * *", "0 0 L * *", "TZ=UTC 0 2 * * *"],
)
def test_what_no_cron_job_would_take_is_refused(expression: str) -> None:
    fits = re.fullmatch(EXPRESSION_PATTERN, expression)
    if fits is None:
        return
    with pytest.raises(ValueError, match=r"must have|is no|never"):
        Cron.parse(expression)


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "../etc/passwd", "Local"])
def test_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        time_zone(name)
