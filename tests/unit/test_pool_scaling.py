"""The decision by a pool's policy, with all facts: and that it can be replayed from what is kept of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.cpu_use import DEPTH_UNKNOWN_SECONDS, CpuUse
from import_core.domain.drain_time import LimitedBacklog, SizeClass, Work
from import_core.domain.pool_scaling import PoolFacts, PoolWishes, ScalingInputs, decide_pool
from import_core.domain.prescaling import KnownWave
from import_core.domain.resources.worker_pool import ScalingPolicy
from import_core.domain.scaling import Observation, ScalingHistory, ScalingReason, ScalingSpec

SPEC = ScalingSpec(
    minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
)
WISHES = PoolWishes(SPEC)
NO_HISTORY = ScalingHistory()
DRAIN = replace(WISHES, policy=ScalingPolicy.DRAIN_TIME)
UNKNOWN = Observation(4, None, None)
BUSY = CpuUse(used=6.0, measured=4, requested=1.0)


def inputs(
    facts: PoolFacts, wishes: PoolWishes = WISHES, history: ScalingHistory = NO_HISTORY
) -> ScalingInputs:
    return ScalingInputs(wishes, facts, history, 1000.0)


def test_drain_time_decides_by_the_work() -> None:
    work = Work((SizeClass(jobs=600, units=30_000.0),), rate=10.0)
    decision = decide_pool(inputs(PoolFacts(Observation(2, 600, 0), work), DRAIN))
    assert (decision.replicas, decision.reason) == (10, ScalingReason.WORK_ROSE)


@pytest.mark.parametrize("work", [None, Work((SizeClass(600, 30_000.0),), rate=None)])
def test_drain_time_without_work_or_rate_decides_by_the_depth(work: Work | None) -> None:
    decision = decide_pool(inputs(PoolFacts(Observation(2, 300, 0), work), DRAIN))
    assert (decision.replicas, decision.reason) == (30, ScalingReason.DEPTH_ROSE)


def test_provider_limited_is_said() -> None:
    waiting = (SizeClass(jobs=100, units=60_000.0),)
    work = Work(waiting, limited=(LimitedBacklog(waiting, 0.0),), rate=10.0)
    decision = decide_pool(inputs(PoolFacts(Observation(2, 100, 0), work), DRAIN))
    assert (decision.replicas, decision.reason) == (2, ScalingReason.PROVIDER_LIMITED)


def test_a_known_wave_grows_the_pool_ahead_and_says_so() -> None:
    waves = (KnownWave(1030.0, 1090.0, 20),)
    ahead = decide_pool(inputs(PoolFacts(Observation(2, 0, 0), waves=waves, lead_seconds=40.0)))
    assert (ahead.replicas, ahead.reason) == (20, ScalingReason.KNOWN_WAVE)
    early = decide_pool(inputs(PoolFacts(Observation(2, 0, 0), waves=waves, lead_seconds=20.0)))
    assert (early.replicas, early.reason) == (2, ScalingReason.STEADY)
    deep = decide_pool(inputs(PoolFacts(Observation(2, 400, 0), waves=waves, lead_seconds=40.0)))
    assert (deep.replicas, deep.reason) == (40, ScalingReason.DEPTH_ROSE)


def test_unknown_depth_is_held_before_the_cpu_counts() -> None:
    facts = PoolFacts(UNKNOWN, unknown_seconds=DEPTH_UNKNOWN_SECONDS - 1, cpu=BUSY)
    decision = decide_pool(inputs(facts))
    assert (decision.replicas, decision.reason) == (4, ScalingReason.DEPTH_UNKNOWN)


def test_then_the_cpu_adds_workers() -> None:
    decision = decide_pool(inputs(PoolFacts(UNKNOWN, unknown_seconds=DEPTH_UNKNOWN_SECONDS, cpu=BUSY)))
    # 6 cores at 0.7 of each worker.
    assert (decision.replicas, decision.reason) == (9, ScalingReason.CPU_HIGH)


def test_within_the_scale_out_cooldown_only_a_larger_need_adds_more() -> None:
    history = ScalingHistory().scaled_out(9, 990.0)
    facts = PoolFacts(replace(UNKNOWN, current=7), unknown_seconds=100.0, cpu=BUSY)
    decision = decide_pool(inputs(facts, history=history))
    assert (decision.replicas, decision.reason) == (7, ScalingReason.SCALE_OUT_COOLDOWN)


observations = st.builds(Observation, current=st.integers(0, 60), depth=st.none(), claimed=st.none())
uses = st.none() | st.builds(
    CpuUse, used=st.floats(0, 500), measured=st.integers(0, 60), requested=st.floats(0, 4)
)


@given(observations, uses, st.floats(0, 1000), st.integers(0, 60), st.booleans())
def test_without_a_depth_nothing_is_ever_taken_away_and_the_bounds_hold(
    seen: Observation, use: CpuUse | None, unknown: float, need: int, paused: bool
) -> None:
    wishes = replace(WISHES, scaling=replace(SPEC, paused=paused))
    history = ScalingHistory(((999.0, need),))
    decision = decide_pool(inputs(PoolFacts(seen, unknown_seconds=unknown, cpu=use), wishes, history))
    assert decision.replicas >= seen.current
    assert decision.replicas <= max(SPEC.maximum, seen.current)
    if paused:
        assert decision.replicas == seen.current


depths = st.none() | st.integers(0, 2000)
works = st.none() | st.builds(
    Work,
    waiting=st.tuples(st.builds(SizeClass, jobs=st.integers(1, 999), units=st.floats(1, 1e6))),
    kept_waiting=st.integers(0, 9),
    rate=st.none() | st.floats(0.001, 1e3),
)
histories = st.builds(
    ScalingHistory,
    needs=st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 50)), max_size=3).map(tuple),
    scaled_out_at=st.none() | st.floats(0, 1000),
    scaled_out_to_need=st.integers(0, 50),
)
waves = st.lists(st.builds(KnownWave, st.floats(0, 2e3), st.floats(0, 2e3), st.integers(0, 90)), max_size=2)


seen_depths = st.builds(
    lambda current, depth: Observation(current, depth, None if depth is None else min(depth, 3)),
    st.integers(0, 60),
    depths,
)
all_facts = st.builds(
    PoolFacts, seen_depths, work=works, waves=waves.map(tuple), unknown_seconds=st.just(70.0), cpu=uses
)


@given(all_facts, histories, st.sampled_from(list(ScalingPolicy)))
def test_a_kept_decision_is_replayed_exactly(
    facts: PoolFacts, history: ScalingHistory, policy: ScalingPolicy
) -> None:
    made = ScalingInputs(replace(WISHES, policy=policy), facts, history, 1000.125)
    kept = ScalingInputs.from_json(json.loads(json.dumps(made.to_json())))
    assert kept == made
    assert decide_pool(kept) == decide_pool(made)


def test_what_can_t_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="can't be read"):
        ScalingInputs.from_json({"wishes": {}})
