"""Whether a part got slower: what a busy machine does to both sides is no alarm, what a commit does is."""

from __future__ import annotations

import random

import pytest
from bench.comparing import Comparison, Judgement, choose_base, judge, suspects
from hypothesis import given
from hypothesis import strategies as st

seconds = st.floats(min_value=1e-6, max_value=10.0)


def noisy(ratio: float, *, seed: int, pairs: int = 7) -> Comparison:
    """Runs of which some are slowed, each side by itself: up to twice as slow in one of three."""
    source = random.Random(seed)

    def runs(least: float) -> list[float]:
        return [
            least * (1 + source.random() * 0.03) * (source.uniform(1, 2) if source.random() < 0.3 else 1)
            for _ in range(pairs)
        ]

    return Comparison("part", runs(0.01), runs(0.01 * ratio))


@pytest.mark.parametrize("seed", range(50))
def test_a_busy_machine_is_no_alarm(seed: int) -> None:
    assert judge(noisy(1.0, seed=seed)) is Judgement.SAME


@pytest.mark.parametrize("seed", range(50))
def test_a_third_more_is_found_on_a_busy_machine(seed: int) -> None:
    found = judge(noisy(1.35, seed=seed, pairs=14))
    assert found is Judgement.SLOWER


def test_one_lucky_run_does_not_make_the_other_side_slow() -> None:
    lucky = Comparison("part", [0.5, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0])
    assert judge(lucky) is Judgement.SAME


def test_a_machine_that_was_slow_for_most_runs_of_one_side_is_no_alarm() -> None:
    slowed = Comparison("part", [1.0, 1.0, 1.0, 1.0, 1.0], [1.6, 1.6, 1.6, 1.6, 1.0])
    assert judge(slowed) is Judgement.SAME


@given(st.lists(seconds, min_size=1, max_size=9))
def test_the_same_times_are_the_same(runs: list[float]) -> None:
    assert judge(Comparison("part", runs, runs)) is Judgement.SAME


@given(st.lists(seconds, min_size=1, max_size=9), st.floats(min_value=1.2, max_value=5.0))
def test_what_one_side_loses_the_other_wins(runs: list[float], ratio: float) -> None:
    more = [run * ratio for run in runs]
    assert judge(Comparison("part", runs, more)) is Judgement.SLOWER
    assert judge(Comparison("part", more, runs)) is Judgement.FASTER


def test_the_threshold_is_the_callers() -> None:
    comparison = Comparison("part", [1.0] * 3, [1.2] * 3)
    assert judge(comparison) is Judgement.SLOWER
    assert judge(comparison, threshold=0.25) is Judgement.SAME
    assert suspects([comparison]) == ["part"]
    assert suspects([comparison], threshold=0.25) == []


@pytest.mark.parametrize(("base", "ours"), [([], [1.0]), ([1.0], []), ([], [])])
def test_what_one_side_lacks_is_not_compared(base: list[float], ours: list[float]) -> None:
    assert judge(Comparison("part", base, ours)) is Judgement.UNKNOWN


@pytest.mark.parametrize(
    ("asked", "main", "changed", "chosen"),
    [
        ("v1", "older", True, "v1"),
        ("", "older", False, "older"),
        ("", "older", True, "older"),
        ("", "head", True, "HEAD"),
        ("", "head", False, "HEAD~1"),
        ("", None, True, "HEAD"),
        ("", None, False, "HEAD~1"),
    ],
)
def test_the_base_is_where_the_work_began(asked: str, main: str | None, changed: bool, chosen: str) -> None:
    assert choose_base(asked, head="head", main=main, changed=changed) == chosen
