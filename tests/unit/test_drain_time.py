"""Workers for a given drain time: work counts, not jobs; no place for what a provider withholds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.drain_time import (
    RATE_MEMORY_SECONDS,
    DrainTimeSpec,
    LimitedBacklog,
    SizeClass,
    Work,
    WorkNeed,
    WorkRate,
    decide_drain_time,
    needed_for,
)
from import_core.domain.scaling import Observation, ScalingHistory, ScalingReason, ScalingSpec

SCALING = ScalingSpec(
    minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
)
SPEC = DrainTimeSpec(SCALING, drain_seconds=60.0, concurrency=5)
sizes = st.builds(SizeClass, jobs=st.integers(1, 1000), units=st.floats(1, 1e6))


def test_as_many_workers_as_empty_the_backlog_in_the_drain_time() -> None:
    # 10 units a second for 60 s are 600 units for one place, 3,000 for a worker.
    work = Work((SizeClass(jobs=600, units=30_000.0),), rate=10.0)
    assert needed_for(work, SPEC) == WorkNeed(10, provider_limited=False)


def test_many_small_jobs_ask_for_less_than_few_large_ones() -> None:
    small = Work((SizeClass(jobs=500, units=5_000.0),), rate=10.0)
    large = Work((SizeClass(jobs=50, units=500_000.0),), rate=10.0)
    assert needed_for(small, SPEC) == WorkNeed(2, provider_limited=False)
    assert needed_for(large, SPEC) == WorkNeed(10, provider_limited=False)


def test_a_job_never_takes_more_than_one_place() -> None:
    work = Work((SizeClass(jobs=1, units=1e6),), rate=10.0)
    assert needed_for(work, SPEC) == WorkNeed(1, provider_limited=False)


def test_running_jobs_count_by_what_is_left_of_them() -> None:
    waiting = (SizeClass(jobs=5, units=3_000.0),)
    assert needed_for(Work(waiting, running=(SizeClass(10, 3_000.0),), rate=10.0), SPEC) == WorkNeed(2, False)


def test_running_jobs_that_wait_for_their_provider_keep_their_places() -> None:
    assert needed_for(Work((), kept_waiting=11, rate=10.0), SPEC) == WorkNeed(3, provider_limited=False)


def test_what_a_provider_withholds_starts_no_workers_and_is_said() -> None:
    waiting = (SizeClass(jobs=100, units=60_000.0),)
    work = Work(waiting, limited=(LimitedBacklog(waiting, units_per_second=100.0),), rate=10.0)
    # It lets 6,000 units through in 60 s: ten places, two workers. Without its limit, 100 places.
    assert needed_for(work, SPEC) == WorkNeed(2, provider_limited=True)
    decision = decide_drain_time(Observation(2, 100, 0), work, SPEC, ScalingHistory(), 0.0)
    assert (decision.replicas, decision.reason) == (2, ScalingReason.PROVIDER_LIMITED)


def test_work_behind_an_open_breaker_starts_no_workers() -> None:
    held = (SizeClass(jobs=1000, units=60_000.0),)
    work = Work(held, limited=(LimitedBacklog(held, units_per_second=0.0),), rate=10.0)
    decision = decide_drain_time(Observation(2, 1000, 0), work, SPEC, ScalingHistory(), 0.0)
    assert (decision.replicas, decision.reason) == (2, ScalingReason.PROVIDER_LIMITED)


def test_scales_out_at_once_and_says_why() -> None:
    work = Work((SizeClass(jobs=600, units=30_000.0),), rate=10.0)
    decision = decide_drain_time(Observation(2, 600, 0), work, SPEC, ScalingHistory(), 0.0)
    assert (decision.replicas, decision.reason) == (10, ScalingReason.WORK_ROSE)


def test_the_depth_decides_until_a_rate_is_known() -> None:
    work = Work((SizeClass(jobs=100, units=1e6),))
    decision = decide_drain_time(Observation(2, 100, 0), work, SPEC, ScalingHistory(), 0.0)
    assert (decision.replicas, decision.reason) == (10, ScalingReason.DEPTH_ROSE)


@pytest.mark.parametrize(("depth", "claimed"), [(None, None), (None, 3), (100, None)])
def test_an_unknown_depth_holds(depth: int | None, claimed: int | None) -> None:
    work = Work((SizeClass(jobs=600, units=30_000.0),), rate=10.0)
    decision = decide_drain_time(Observation(7, depth, claimed), work, SPEC, ScalingHistory(), 0.0)
    assert (decision.replicas, decision.reason) == (7, ScalingReason.DEPTH_UNKNOWN)


def test_scale_in_is_wanted_while_jobs_run_as_workers_drain() -> None:
    spec = DrainTimeSpec(SCALING, 60.0, 5)
    history = ScalingHistory().seen(20, 0.0, 300.0)
    decision = decide_drain_time(
        Observation(20, 1, 1), Work((), running=(SizeClass(1, 5.0),), rate=10.0), spec, history, 301.0
    )
    assert decision.replicas == 2


@given(st.lists(sizes, max_size=5), st.lists(sizes, max_size=5), st.floats(0, 1e4))
def test_a_limit_never_asks_for_more_and_nothing_for_more_than_a_place_each(
    waiting: list[SizeClass], running: list[SizeClass], let_through: float
) -> None:
    free = needed_for(Work(tuple(waiting), tuple(running), rate=10.0), SPEC)
    limit = (LimitedBacklog(tuple(waiting), let_through),)
    limited = needed_for(Work(tuple(waiting), tuple(running), limited=limit, rate=10.0), SPEC)
    assert free is not None
    assert limited is not None
    assert 0 <= limited.workers <= free.workers
    assert limited.provider_limited == (limited.workers < free.workers)
    assert free.workers <= -(-sum(size.jobs for size in (*waiting, *running)) // SPEC.concurrency)


def test_the_rate_follows_what_workers_do() -> None:
    rate = WorkRate().after_work(units=100.0, job_seconds=10.0)
    assert rate.per_second == 10.0
    assert rate.after_work(units=0.0, job_seconds=0.0) == rate
    assert (
        rate.after_work(units=20.0 * RATE_MEMORY_SECONDS, job_seconds=RATE_MEMORY_SECONDS).per_second == 20.0
    )
    slower = rate.after_work(units=0.0, job_seconds=RATE_MEMORY_SECONDS / 2).per_second
    assert slower == pytest.approx(5.0)
