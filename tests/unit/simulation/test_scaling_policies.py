"""Each policy on a small trace made by hand: as its documentation says."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from import_core.domain.drain_time import LimitedBacklog, SizeClass
from import_core.domain.scaling import Observation, ScalingHistory, ScalingReason, ScalingSpec, decide
from import_core.domain.simulation.competitors import Bounds, HorizontalPodAutoscaler, TargetTracking
from import_core.domain.simulation.policies import LOOK_SECONDS, Policy, QueueDepth

BOUNDS = Bounds(minimum=2, maximum=50, target=10)


@dataclass
class Seen:
    """What a policy sees, set by hand."""

    replicas: int = 2
    claimed: int = 0
    due: int = 0
    queued: int = 0
    held: int = 0
    waiting: tuple[SizeClass, ...] = field(default=())

    def sizes(self) -> tuple[SizeClass, ...]:
        return self.waiting

    def running(self) -> tuple[tuple[SizeClass, ...], int]:
        return (), 0

    def limited(self) -> tuple[LimitedBacklog, ...]:
        return ()

    def work_done(self) -> tuple[float, float]:
        return 0.0, 0.0


def course(policy: Policy, seen: Seen, looks: int, *, start: float = 0.0) -> list[int]:
    """The numbers of workers after so many looks, carried out at once."""
    numbers = []
    for look in range(1, looks + 1):
        seen.replicas = policy.look(seen, start + look * policy.interval)
        numbers.append(seen.replicas)
    return numbers


def test_hpa_doubles_at_each_sync_and_at_first_adds_four() -> None:
    # 48 are within the tolerance of 50.
    assert course(HorizontalPodAutoscaler("hpa", BOUNDS), Seen(due=500), 5) == [6, 12, 24, 48, 48]
    assert course(HorizontalPodAutoscaler("hpa", BOUNDS), Seen(due=900), 5) == [6, 12, 24, 48, 50]


def test_hpa_without_limited_steps_goes_to_the_full_need_at_its_first_sync() -> None:
    assert course(HorizontalPodAutoscaler("hpa", BOUNDS, limited_steps=False), Seen(due=500), 1) == [50]


@pytest.mark.parametrize(("jobs", "workers"), [(109, 10), (111, 12), (91, 10)])
def test_hpa_leaves_a_tenth_of_tolerance(jobs: int, workers: int) -> None:
    assert course(HorizontalPodAutoscaler("hpa", BOUNDS), Seen(replicas=10, due=jobs), 1) == [workers]


def test_hpa_goes_down_by_the_highest_recommendation_of_300_seconds() -> None:
    policy, seen = HorizontalPodAutoscaler("hpa", BOUNDS), Seen(replicas=10, due=100)
    assert course(policy, seen, 1) == [10]
    seen.due = 0
    numbers = course(policy, seen, 21, start=15.0)
    # The recommendation of 10 was made at 15 s, so it counts until 315 s.
    assert numbers == [10] * 19 + [2, 2]


def test_keda_sees_the_waiting_list_only() -> None:
    keda = HorizontalPodAutoscaler("keda", Bounds(2, 50, 5), waiting_only=True)
    running = Seen(replicas=10, claimed=50)
    assert course(keda, running, 25)[-1] == 2
    hpa = HorizontalPodAutoscaler("hpa", Bounds(2, 50, 5))
    assert course(hpa, Seen(replicas=10, claimed=50), 25)[-1] == 10


def test_target_tracking_goes_out_after_three_points_in_proportion() -> None:
    assert course(TargetTracking("ecs", BOUNDS), Seen(due=300), 4) == [2, 2, 30, 30]


def test_target_tracking_starts_again_where_a_point_was_not_above_the_target() -> None:
    policy, seen = TargetTracking("ecs", BOUNDS), Seen(due=300)
    assert course(policy, seen, 2) == [2, 2]
    seen.due = 10
    assert course(policy, seen, 1, start=120.0) == [2]
    seen.due = 300
    assert course(policy, seen, 3, start=180.0) == [2, 2, 30]


def test_target_tracking_goes_in_after_fifteen_points_below_nine_tenths() -> None:
    assert course(TargetTracking("ecs", BOUNDS), Seen(replicas=20, due=50), 15) == [20] * 14 + [5]
    # Between nine tenths and the target nothing happens.
    assert course(TargetTracking("ecs", BOUNDS), Seen(replicas=20, due=185), 30) == [20] * 30


def test_target_tracking_keeps_its_cooldown_after_a_scale_in() -> None:
    policy, seen = TargetTracking("ecs", BOUNDS), Seen(replicas=20, due=50)
    course(policy, seen, 15)
    seen.due = 20
    # 300 s after the first scale-in, although the alarm rings each minute.
    assert course(policy, seen, 20, start=900.0).index(2) + 1 >= 5


def test_queue_depth_decides_exactly_as_the_operators_loop() -> None:
    spec = ScalingSpec(
        minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
    )
    policy, seen = QueueDepth("ours", spec), Seen()
    history, replicas = ScalingHistory(), 2
    depths = [0, 100, 101, 500, 20, 20, 0] * 3 + [0] * 1300
    for look, depth in enumerate(depths, start=1):
        now = look * LOOK_SECONDS
        seen.due, seen.claimed = depth, 3 if depth else 0
        decision = decide(Observation(replicas, depth + seen.claimed, seen.claimed), spec, history, now)
        history = decision.history
        if decision.replicas > replicas and decision.need is not None:
            history = history.scaled_out(decision.need, now)
        replicas = decision.replicas
        seen.replicas = policy.look(seen, now)
        assert seen.replicas == replicas
    assert replicas == 2


def test_queue_depth_reaches_the_full_need_in_one_look() -> None:
    spec = ScalingSpec(
        minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
    )
    policy = QueueDepth("ours", spec, decisions=[])
    assert course(policy, Seen(due=500), 1) == [50]
    assert policy.decisions is not None
    assert [(at, decision.reason) for at, decision in policy.decisions] == [(0.25, ScalingReason.DEPTH_ROSE)]
