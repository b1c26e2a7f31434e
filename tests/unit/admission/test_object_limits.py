"""Bounds on unfinished jobs and on objects."""

import pytest

from import_core.domain.object_limits import Arrivals, ObjectLimits, decide_room_for_object

LIMITS = ObjectLimits(company_jobs=5, namespace_objects=10)


@pytest.mark.parametrize(
    ("jobs", "objects", "said"),
    [
        (4, 9, None),
        (None, None, None),
        (5, 9, "This company has 5 unfinished imports"),
        (0, 10, "There are 10 ImportJobs in this namespace"),
        (None, 10, "There are 10 ImportJobs"),
        (5, None, "This company has"),
    ],
)
def test_bounds(jobs: int | None, objects: int | None, said: str | None) -> None:
    refusal = decide_room_for_object(LIMITS, company_jobs=jobs, namespace_objects=objects)
    if said is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.message.startswith(said)


def let_in(arrivals: Arrivals, jobs: int) -> Arrivals:
    for _ in range(jobs):
        arrivals = arrivals.one_more()
    return arrivals


def test_arrivals_count_until_they_are_counted() -> None:
    arrivals = let_in(Arrivals().after_count(4, let_in=0), 3)
    assert arrivals.estimate(4) == 7
    arrivals = let_in(arrivals, 1).after_count(7, let_in=3)
    assert arrivals.estimate(7) == 8, "the one that came while they were counted is not forgotten"


def test_reviews_without_objects_are_believed_for_one_count_only() -> None:
    arrivals = let_in(Arrivals().after_count(4, let_in=0), 1000)
    assert arrivals.estimate(4) == 1004
    for _ in range(3):
        arrivals = let_in(arrivals.after_count(4, let_in=1000), 1000)
        assert arrivals.estimate(4) == 4
    arrivals = let_in(arrivals.after_count(4, let_in=1000).after_count(4, let_in=0), 2)
    assert arrivals.estimate(4) == 6, "when they end, what is let in counts again"


def test_believed_is_the_share_that_came() -> None:
    arrivals = let_in(Arrivals().after_count(0, let_in=0), 100).after_count(25, let_in=100)
    assert let_in(arrivals, 100).estimate(25) == 50


def test_a_failed_count_forgets_what_was_let_in_before() -> None:
    arrivals = let_in(let_in(Arrivals().after_count(4, let_in=0), 5), 1).after_count(None, let_in=5)
    assert arrivals.estimate(4) == 5
