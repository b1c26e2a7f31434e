"""How many workers a pool should have: bounds, cooldowns, and that unknown is never zero."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.scaling import (
    Observation,
    ScalingHistory,
    ScalingReason,
    ScalingSpec,
    decide,
    held_for_drains,
    needed,
)

SPEC = ScalingSpec(
    minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
)


class Fleet:
    """Applies decisions one after another, as the scaling loop does."""

    def __init__(self, spec: ScalingSpec = SPEC, replicas: int = 2) -> None:
        self.spec = spec
        self.replicas = replicas
        self.history = ScalingHistory()

    def look(self, now: float, depth: int | None, claimed: int | None = 0) -> ScalingReason:
        decision = decide(Observation(self.replicas, depth, claimed), self.spec, self.history, now)
        self.history = decision.history
        if decision.replicas > self.replicas and decision.need is not None:
            self.history = self.history.scaled_out(decision.need, now)
        self.replicas = decision.replicas
        return decision.reason


@pytest.mark.parametrize(("depth", "workers"), [(0, 2), (20, 2), (21, 3), (100, 10), (500, 50), (20_001, 50)])
def test_workers_for_a_depth(depth: int, workers: int) -> None:
    assert needed(depth, SPEC) == workers


def test_scales_out_at_once() -> None:
    fleet = Fleet()
    assert fleet.look(0, 100) is ScalingReason.DEPTH_ROSE
    assert fleet.replicas == 10


def test_jobs_that_nobody_would_get_start_no_workers() -> None:
    decision = decide(Observation(2, 500, 0, held=480), SPEC, ScalingHistory(), 0.0)
    assert (decision.need, decision.replicas, decision.reason) == (2, 2, ScalingReason.PROVIDER_LIMITED)
    some = decide(Observation(2, 500, 0, held=400), SPEC, ScalingHistory(), 0.0)
    assert (some.need, some.replicas, some.reason) == (10, 10, ScalingReason.PROVIDER_LIMITED)
    enough = decide(Observation(2, 700, 0, held=100), SPEC, ScalingHistory(), 0.0)
    assert (enough.need, enough.reason) == (50, ScalingReason.DEPTH_ROSE), "the bound is what limits"


def test_workers_stay_for_the_scale_in_cooldown_when_their_jobs_are_held() -> None:
    history = decide(Observation(20, 200, 100), SPEC, ScalingHistory(), 0.0).history
    soon = decide(Observation(20, 200, 0, held=200), SPEC, history, 299.0)
    assert (soon.replicas, soon.need) == (20, 2)
    assert decide(Observation(20, 200, 0, held=200), SPEC, soon.history, 300.0).replicas == 2


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 60))
def test_held_jobs_never_ask_for_more_workers_than_none_would(depth: int, held: int, current: int) -> None:
    with_held = decide(Observation(current, depth, 0, held), SPEC, ScalingHistory(), 0.0)
    without = decide(Observation(current, depth, 0), SPEC, ScalingHistory(), 0.0)
    assert with_held.desired <= without.desired
    assert (with_held.need or 0) >= SPEC.minimum


def test_larger_need_passes_the_scale_out_cooldown() -> None:
    fleet = Fleet()
    fleet.look(0, 100)
    fleet.look(1, 101)
    assert fleet.replicas == 11


def test_same_need_waits_for_the_scale_out_cooldown() -> None:
    fleet = Fleet()
    fleet.look(0, 100)
    fleet.replicas = 5  # somebody lowered it by hand
    assert fleet.look(59, 100) is ScalingReason.SCALE_OUT_COOLDOWN
    assert fleet.replicas == 5
    fleet.look(60, 100)
    assert fleet.replicas == 10


def test_scale_in_follows_the_highest_need_of_its_cooldown() -> None:
    fleet = Fleet()
    fleet.look(0, 200)
    fleet.look(100, 100)
    assert fleet.look(299, 0) is ScalingReason.SCALE_IN_COOLDOWN
    assert fleet.replicas == 20
    fleet.look(300, 0)
    assert fleet.replicas == 10
    fleet.look(400, 0)
    assert fleet.replicas == 2


def test_new_leader_does_not_scale_in_before_it_has_seen_a_cooldown() -> None:
    fleet = Fleet(replicas=30)
    fleet.look(1000, 0)
    assert fleet.replicas == 30
    fleet.look(1300, 0)
    assert fleet.replicas == 2


def test_scale_in_is_wanted_while_jobs_run_and_carried_out_as_workers_drain() -> None:
    history = decide(Observation(10, 0, 0), SPEC, ScalingHistory(), 0.0).history
    wanted = decide(Observation(10, 5, 5), SPEC, history, 301.0)
    assert (wanted.desired, wanted.replicas, wanted.reason) == (2, 2, ScalingReason.DEPTH_FELL)
    held = held_for_drains(wanted, 10, replicas=10, leaving=0)
    assert (held.desired, held.replicas, held.reason) == (2, 10, ScalingReason.JOBS_RUNNING)
    assert held_for_drains(wanted, 10, replicas=10, leaving=3).reason is ScalingReason.DRAINING
    first = held_for_drains(wanted, 10, replicas=7, leaving=5)
    assert (first.replicas, first.reason) == (7, ScalingReason.DEPTH_FELL)


def test_a_scale_out_is_not_held_for_drains() -> None:
    wanted = decide(Observation(2, 100, 0), SPEC, ScalingHistory(), 0.0)
    assert held_for_drains(wanted, 2, replicas=2, leaving=1) is wanted


def test_unknown_depth_holds() -> None:
    fleet = Fleet()
    fleet.look(0, 300)
    assert fleet.look(1000, None, None) is ScalingReason.DEPTH_UNKNOWN
    assert fleet.replicas == 30
    assert fleet.look(1001, 0) is ScalingReason.SCALE_IN_COOLDOWN, "the first look after it decides nothing"
    assert fleet.replicas == 30


def test_paused_pool_is_left_as_it_is() -> None:
    fleet = Fleet(replace(SPEC, paused=True), replicas=7)
    assert fleet.look(0, 1000) is ScalingReason.PAUSED
    assert fleet.replicas == 7


@pytest.mark.parametrize("number", [0, 1, 80])
def test_number_held_by_hand_wins(number: int) -> None:
    fleet = Fleet(replace(SPEC, manual=number), replicas=7)
    assert fleet.look(0, 1000, 5) is ScalingReason.MANUAL
    assert fleet.replicas == number


def test_bounds_that_were_changed_are_followed() -> None:
    fleet = Fleet(replicas=1)
    assert fleet.look(0, 0) is ScalingReason.BOUNDS
    assert fleet.replicas == 2
    fleet.spec, fleet.replicas = replace(SPEC, maximum=5), 40
    assert fleet.look(1, 1000) is ScalingReason.BOUNDS
    assert fleet.replicas == 5


def specs() -> st.SearchStrategy[ScalingSpec]:
    return st.builds(
        lambda minimum, extra, target, out, inward: ScalingSpec(
            minimum, minimum + extra, target, out, inward
        ),
        st.integers(0, 20),
        st.integers(0, 60),
        st.integers(1, 50),
        st.floats(0, 120),
        st.floats(0, 600),
    )


looks = st.lists(
    st.tuples(
        st.floats(0.1, 100),
        st.one_of(st.none(), st.integers(0, 2000)),
        st.one_of(st.none(), st.integers(0, 3)),
    ),
    min_size=1,
    max_size=40,
)


@given(specs(), st.integers(0, 100), looks)
def test_desired_is_always_within_the_bounds(
    spec: ScalingSpec, start: int, steps: list[tuple[float, int | None, int | None]]
) -> None:
    current, history, now = start, ScalingHistory(), 0.0
    for pause, depth, claimed in steps:
        now += pause
        decision = decide(Observation(current, depth, claimed), spec, history, now)
        assert spec.minimum <= decision.desired <= spec.maximum
        assert min(current, decision.desired) <= decision.replicas <= max(current, decision.desired)
        if decision.replicas < current:
            assert depth is not None, "never fewer workers for a depth that is unknown"
        current, history = decision.replicas, decision.history


@given(specs(), st.integers(0, 100), looks, st.integers(0, 3000), st.integers(0, 3000))
def test_more_depth_never_means_fewer_workers(
    spec: ScalingSpec,
    start: int,
    steps: list[tuple[float, int | None, int | None]],
    one: int,
    other: int,
) -> None:
    current, history, now = start, ScalingHistory(), 0.0
    for pause, depth, claimed in steps:
        now += pause
        decision = decide(Observation(current, depth, claimed), spec, history, now)
        current, history = decision.replicas, decision.history
    low, high = sorted((one, other))
    fewer = decide(Observation(current, low, 0), spec, history, now + 1)
    more = decide(Observation(current, high, 0), spec, history, now + 1)
    assert fewer.desired <= more.desired
    assert fewer.replicas <= more.replicas


@given(specs(), st.lists(st.tuples(st.floats(0.1, 30), st.integers(0, 2000)), min_size=2, max_size=60))
def test_no_oscillation_within_the_cooldown(spec: ScalingSpec, steps: list[tuple[float, int]]) -> None:
    fleet = Fleet(spec, spec.minimum)
    now, raised_at = 0.0, float("-inf")
    for pause, depth in steps:
        now += pause
        before = fleet.replicas
        fleet.look(now, depth)
        if fleet.replicas > before:
            raised_at = now
        elif fleet.replicas < before:
            assert now - raised_at >= spec.scale_in_cooldown


@given(specs(), st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 20_000)), max_size=200))
def test_history_is_bounded_by_the_distinct_needs(spec: ScalingSpec, steps: list[tuple[float, int]]) -> None:
    fleet = Fleet(spec, spec.minimum)
    now = 0.0
    for pause, depth in steps:
        now += pause
        fleet.look(now, depth)
        assert len(fleet.history.needs) <= spec.maximum - spec.minimum + 1
