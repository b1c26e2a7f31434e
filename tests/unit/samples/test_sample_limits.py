"""The sample providers' limits, faults and counters."""

from import_local.samples.counters import most_in_window
from import_local.samples.faults import FaultAction, FaultPlan, FaultSettings
from import_local.samples.state import CallBucket, CallWindow


def test_most_in_window_counts_half_open_windows() -> None:
    assert most_in_window([], 60) == 0
    assert most_in_window([0, 1, 59.9, 60], 60) == 3
    assert most_in_window([0, 30, 60, 61, 89], 60) == 4
    assert most_in_window([0, 60, 120], 60) == 1


def test_a_window_never_lets_more_through_than_its_limit() -> None:
    window = CallWindow()
    admitted = [now for now in (step / 10 for step in range(1_000)) if window.take(now, 7, 10.0)]
    assert most_in_window(admitted, 10.0) == 7
    assert len(admitted) == 70


def test_the_rest_bucket_holds_forty_and_leaks_two_a_second() -> None:
    bucket = CallBucket(size=40, leak=2.0, used=0.0, at=0.0)
    assert [bucket.take(0.0) for _ in range(41)] == [True] * 40 + [False]
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]


def test_ordered_answers_come_first_then_outage_then_chance() -> None:
    plan = FaultPlan()
    actions = [FaultAction(status=429, times=2), FaultAction(kind="drop")]
    plan.set(FaultSettings(next=actions, outage=True))
    kinds = []
    for _ in range(4):
        action = plan.decide()
        assert action is not None
        kinds.append((action.kind, action.status))
    assert kinds == [("status", 429), ("status", 429), ("drop", 500), ("status", 503)]
    assert plan.pending() == 0
    plan.set(FaultSettings())
    assert plan.decide() is None


def test_the_same_seed_gives_the_same_errors() -> None:
    def errors(seed: int) -> list[bool]:
        plan = FaultPlan()
        plan.set(FaultSettings(error_rate=0.3, seed=seed))
        return [plan.decide() is not None for _ in range(200)]

    assert errors(1) == errors(1)
    assert errors(1) != errors(2)
    assert 30 < sum(errors(1)) < 90
