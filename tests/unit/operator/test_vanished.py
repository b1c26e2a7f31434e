"""Rows whose objects are gone: cancelled, unless it would be too many at once or it is another cluster."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.vanished import Guard, Ruling, needs_settling, rule

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SAME = Guard("here")


def test_job_whose_object_is_gone_is_cancelled() -> None:
    assert rule(gone=1, unfinished=2, cluster_uid="here", guard=SAME) == Ruling(1)


def test_a_few_may_always_go() -> None:
    assert rule(gone=10, unfinished=10, cluster_uid="here", guard=SAME) == Ruling(10)


def test_too_many_at_once_are_withheld() -> None:
    assert rule(gone=11, unfinished=11, cluster_uid="here", guard=SAME) == Ruling(0, 11, "TooManyAtOnce")


def test_a_fifth_of_many_may_go() -> None:
    assert rule(gone=20, unfinished=100, cluster_uid="here", guard=SAME).cancel == 20
    assert rule(gone=21, unfinished=100, cluster_uid="here", guard=SAME).withheld == 21


def test_in_another_cluster_nothing_goes() -> None:
    assert rule(gone=1, unfinished=9, cluster_uid="there", guard=SAME) == Ruling(0, 1, "ClusterChanged")
    assert rule(gone=0, unfinished=9, cluster_uid="there", guard=SAME) == Ruling(0)


def test_first_look_at_a_cluster_knows_no_other() -> None:
    assert rule(gone=1, unfinished=9, cluster_uid="here", guard=None) == Ruling(1)


def test_confirmed_ones_go_and_no_more() -> None:
    withheld = Guard("here", 30, "TooManyAtOnce", NOW)
    assert rule(gone=30, unfinished=40, cluster_uid="here", guard=withheld).withheld == 30
    confirmed = replace(withheld, confirmed_at=NOW, confirmed_by="me")
    assert rule(gone=30, unfinished=40, cluster_uid="there", guard=confirmed) == Ruling(30)
    assert rule(gone=35, unfinished=40, cluster_uid="here", guard=confirmed) == Ruling(30)
    assert rule(gone=5, unfinished=40, cluster_uid="here", guard=confirmed) == Ruling(5)


def test_confirmation_without_anything_withheld_is_none() -> None:
    confirmed = Guard("here", 0, confirmed_at=NOW)
    assert rule(gone=11, unfinished=11, cluster_uid="here", guard=confirmed).cancel == 0


def test_memory_is_written_only_where_it_differs() -> None:
    assert not needs_settling(SAME, "here")
    assert needs_settling(None, "here")
    assert needs_settling(SAME, "there")
    assert needs_settling(Guard("here", 1), "here")


@given(st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_each_is_cancelled_or_withheld(gone: int, rest: int, same: bool) -> None:
    ruling = rule(gone=gone, unfinished=gone + rest, cluster_uid="here" if same else "there", guard=SAME)
    assert ruling.cancel + ruling.withheld == gone
    assert not (ruling.cancel and ruling.withheld)
    assert bool(ruling.withheld) == (ruling.reason is not None)
