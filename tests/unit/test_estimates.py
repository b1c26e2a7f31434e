"""Estimates for people who wait."""

from datetime import UTC, datetime, timedelta

import pytest

from import_core.domain.estimates import seconds_until_done, seconds_until_start
from import_core.domain.jobs import Progress

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_job_starts_after_those_ahead_of_it_at_the_fleets_pace() -> None:
    assert seconds_until_start(place=20, running=10, average_seconds=30.0) == 60.0
    assert seconds_until_start(place=0, running=10, average_seconds=30.0) == 0.0


@pytest.mark.parametrize(("running", "average"), [(0, 30.0), (10, None)])
def test_without_a_measurement_there_is_no_estimate(running: int, average: float | None) -> None:
    assert seconds_until_start(place=20, running=running, average_seconds=average) is None


def test_a_running_job_is_done_at_its_own_pace() -> None:
    progress = Progress(products_total=100, products_imported=20, products_unchanged=4, products_failed=1)
    started = NOW - timedelta(seconds=50)
    assert seconds_until_done(progress, started_at=started, now=NOW) == 150.0


@pytest.mark.parametrize(
    ("progress", "started"),
    [(Progress(products_total=10), NOW), (Progress(products_imported=3), NOW), (Progress(10, 3), None)],
)
def test_before_its_first_products_a_job_has_no_estimate(
    progress: Progress, started: datetime | None
) -> None:
    assert seconds_until_done(progress, started_at=started, now=NOW) is None
