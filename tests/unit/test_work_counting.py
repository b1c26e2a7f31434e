"""Work counted in products and images, how fast it is done, and what providers hold up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.drain_time import DrainTimeSpec, SizeClass, WorkRate, needed_for
from import_core.domain.jobs import Progress
from import_core.domain.scaling import ScalingSpec
from import_core.domain.work_counting import (
    CALL_UNITS,
    JOB_UNITS,
    SOURCES_KEPT,
    CallLimit,
    FinishedJob,
    RunningJob,
    Source,
    WaitingJobs,
    WorkBook,
    WorkSeen,
    count_work,
    units_left,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
ACME = Source("acme", "imports", "acme-shopify")
BETA = Source("beta", "imports", "beta-roastify")
NONE: frozenset[Source] = frozenset()


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def progress(products: int, *, total: int | None = None, images: int = 0) -> Progress:
    return Progress(
        products_total=total, products_imported=products, images_total=images, images_imported=images
    )


def running(job: str, products: int, *, source: Source = ACME, first_run: bool = True) -> RunningJob:
    return RunningJob(job, source, START, first_run, progress(products))


def finished(
    job: str, products: int, seconds: float, *, source: Source = ACME, pages: int = 1
) -> FinishedJob:
    return FinishedJob(job, source, START, at(seconds), True, True, progress(products), pages)


def test_the_rate_is_what_jobs_did_between_looks() -> None:
    book = WorkBook()
    book.take_in(WorkSeen(at(20), running=(running("a", 100),)), {}, NONE)
    assert book.rate.per_second is None, "too little to tell"
    book.take_in(WorkSeen(at(40), running=(running("a", 300),)), {}, NONE)
    assert book.rate.per_second == pytest.approx(300 / 40)


def test_a_job_that_ended_between_looks_counts_from_where_it_was_seen() -> None:
    book = WorkBook()
    book.take_in(WorkSeen(at(10), running=(running("a", 50),)), {}, NONE)
    book.take_in(WorkSeen(at(60), finished=(finished("a", 200, 40),)), {}, NONE)
    assert book.rate.per_second == pytest.approx(200 / 40)


def test_jobs_too_short_to_be_seen_running_count_as_well() -> None:
    book = WorkBook()
    book.take_in(WorkSeen(at(60), finished=tuple(finished(f"j{n}", 20, 2) for n in range(20))), {}, NONE)
    assert book.rate.per_second == pytest.approx(10.0)


def test_a_job_that_goes_on_from_a_checkpoint_counts_from_its_first_look_on() -> None:
    book = WorkBook()
    book.take_in(WorkSeen(at(40), running=(running("a", 5_000, first_run=False),)), {}, NONE)
    book.take_in(WorkSeen(at(80), running=(running("a", 5_400, first_run=False),)), {}, NONE)
    assert book.rate.per_second == pytest.approx(10.0)


def test_jobs_that_wait_for_their_provider_say_nothing_of_workers() -> None:
    book = WorkBook()
    seen = WorkSeen(at(100), running=(running("slow", 1), running("fast", 1000, source=BETA)))
    book.take_in(seen, {}, frozenset({ACME}))
    assert book.rate.per_second == pytest.approx(10.0)


def test_no_progress_at_all_is_no_rate_of_zero() -> None:
    book = WorkBook()
    book.take_in(WorkSeen(at(600), running=(running("a", 0),)), {}, NONE)
    assert book.rate.per_second is None


def test_sizes_come_from_the_sources_last_job_then_from_all_then_from_an_estimate() -> None:
    book = WorkBook()
    assert book.size_of(ACME) == JOB_UNITS
    book.take_in(WorkSeen(at(60), finished=(finished("a", 400, 2),)), {}, NONE)
    assert (book.size_of(ACME), book.size_of(BETA)) == (400.0, 400.0)
    book.keep_sizes({BETA: 7.0}, [BETA])
    assert book.size_of(BETA) == 7.0
    seen = WorkSeen(at(61), waiting=(WaitingJobs(ACME, 1), WaitingJobs(Source("new", "", "p"), 1)))
    assert book.unknown(seen) == [Source("new", "", "p")]


def test_a_bounded_number_of_sources_is_remembered() -> None:
    book = WorkBook()
    book.keep_sizes({}, [Source(str(number), "", "p") for number in range(SOURCES_KEPT + 5)])
    assert len(book.sizes) == SOURCES_KEPT


def test_what_is_left_of_a_running_job() -> None:
    assert units_left(progress(10, total=100, images=20), JOB_UNITS) == 90 * 3.0
    assert units_left(progress(0, total=100), JOB_UNITS) == 400.0
    assert units_left(progress(0), JOB_UNITS) == JOB_UNITS
    assert units_left(progress(1000), JOB_UNITS) == 1.0, "never none while it runs"


def book_with(rate: float) -> WorkBook:
    return WorkBook(rate=WorkRate(rate))


def test_waiting_and_running_work_by_size() -> None:
    book = book_with(10.0)
    seen = WorkSeen(
        at(0), waiting=(WaitingJobs(ACME, 10, known=4, units=400.0),), running=(running("a", 0, source=BETA),)
    )
    work = count_work(seen, book, {}, due=10, drain_seconds=60.0).work
    assert sorted((size.jobs, size.units) for size in work.waiting) == [(10, 400.0 + 6 * JOB_UNITS)]
    assert work.running == (SizeClass(1, JOB_UNITS),)
    assert (work.kept_waiting, work.limited, work.rate) == (0, (), 10.0)


def test_rows_that_were_not_counted_are_like_those_that_were() -> None:
    seen = WorkSeen(at(0), waiting=(WaitingJobs(ACME, 5_000),))
    work = count_work(seen, book_with(10.0), {}, due=20_000, drain_seconds=60.0).work
    assert work.waiting == (SizeClass(20_000, 20_000 * JOB_UNITS),)


def test_an_open_breaker_lets_nothing_through_and_keeps_places_of_running_jobs() -> None:
    seen = WorkSeen(at(0), waiting=(WaitingJobs(ACME, 100),), running=(running("a", 0),))
    counted = count_work(
        seen, book_with(10.0), {ACME: CallLimit(0.0, "shopify")}, due=100, drain_seconds=60.0
    )
    assert counted.slow == {ACME}
    assert (counted.work.kept_waiting, counted.work.running) == (1, ())
    spec = DrainTimeSpec(ScalingSpec(2, 50, 10, 60, 300), drain_seconds=60.0, concurrency=5)
    need = needed_for(counted.work, spec)
    assert need is not None
    assert (need.workers, need.provider_limited) == (1, True)


def test_a_limit_lets_through_what_its_calls_bring() -> None:
    limits = {ACME: CallLimit(0.1, "shopify"), BETA: CallLimit(100.0, "roastify")}
    seen = WorkSeen(at(0), waiting=(WaitingJobs(ACME, 100), WaitingJobs(BETA, 100)))
    work = count_work(seen, book_with(10.0), limits, due=200, drain_seconds=60.0).work
    (limited,) = work.limited
    assert limited.waiting == (SizeClass(100, 100 * JOB_UNITS),), "only the one that holds work up"
    assert limited.units_per_second == pytest.approx(0.1 * CALL_UNITS)


def test_what_a_call_brings_is_measured_by_pages_of_the_providers_type() -> None:
    book = WorkBook()
    limit = CallLimit(2.0, "shopify")
    book.take_in(WorkSeen(at(60), finished=(finished("a", 1000, 10, pages=5),)), {ACME: limit}, NONE)
    assert book.units_per_second(limit) == pytest.approx(400.0)
    assert book.units_per_second(CallLimit(2.0, "roastify")) == pytest.approx(2 * CALL_UNITS)


groups = st.lists(
    st.builds(
        WaitingJobs,
        source=st.builds(Source, st.sampled_from("abc"), st.just("imports"), st.sampled_from("xyz")),
        jobs=st.integers(1, 500),
    ),
    max_size=20,
)


@given(groups, st.floats(0.01, 100.0), st.floats(0.0, 10.0))
def test_limits_never_ask_for_more_workers_than_none(
    waiting: list[WaitingJobs], rate: float, calls: float
) -> None:
    seen = WorkSeen(at(0), waiting=tuple(waiting))
    due = sum(group.jobs for group in waiting)
    limits = {group.source: CallLimit(calls, "shopify") for group in waiting}
    spec = DrainTimeSpec(ScalingSpec(0, 10**9, 10, 60, 300), drain_seconds=60.0, concurrency=5)
    free = needed_for(count_work(seen, book_with(rate), {}, due=due, drain_seconds=60.0).work, spec)
    held = needed_for(count_work(seen, book_with(rate), limits, due=due, drain_seconds=60.0).work, spec)
    assert free is not None
    assert held is not None
    assert held.workers <= free.workers
    assert held.provider_limited == (held.workers < free.workers)
