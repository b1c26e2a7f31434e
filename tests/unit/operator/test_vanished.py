"""Rows whose objects are gone: cancelled, unless it would be too many at once."""

from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.vanished import vanished


def ids(start: int, end: int) -> set[str]:
    return {str(number) for number in range(start, end)}


def test_row_whose_object_is_gone_is_cancelled() -> None:
    assert vanished({"a", "b"}, {"b", "new"}).cancel == {"a"}


def test_a_few_may_always_go() -> None:
    assert vanished(ids(0, 10), set()).cancel == ids(0, 10)


def test_too_many_at_once_are_withheld() -> None:
    found = vanished(ids(0, 11), set())
    assert (found.cancel, found.withheld) == (frozenset(), ids(0, 11))


def test_a_fifth_of_many_may_go() -> None:
    assert len(vanished(ids(0, 100), ids(20, 100)).cancel) == 20
    assert len(vanished(ids(0, 100), ids(21, 100)).withheld) == 21


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_living_objects_are_never_cancelled(rows: set[int], objects: set[int]) -> None:
    found = vanished(set(map(str, rows)), set(map(str, objects)))
    assert not found.cancel & set(map(str, objects))
    assert not (found.cancel and found.withheld)
    assert found.cancel | found.withheld == set(map(str, rows - objects))
