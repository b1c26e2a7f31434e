"""What listeners lack, whatever they know: pure."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from import_core.domain import live
from import_core.domain.live import VersionedState, state_id

Entries = dict[str, int]
STATES = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)), min_size=1, max_size=12)


def applied(before: Entries, state: VersionedState, version: int | None) -> Entries:
    """What a listener has who applies the change."""
    change = state.change_since(version)
    if change is None:
        return before
    kept = {} if change.whole else {key: value for key, value in before.items() if key not in change.gone}
    return {**kept, **change.entries}


@given(STATES, st.sets(st.integers(0, 11)))
def test_listener_that_looks_now_and_then_has_the_newest_state(
    states: list[Entries], looks: set[int]
) -> None:
    state = VersionedState()
    known: Entries = {}
    version: int | None = None
    for number, entries in enumerate(states):
        state.replace(entries)
        if number in looks:
            known, version = applied(known, state, version), state.version
            assert known == entries
    assert applied(known, state, version) == states[-1]


def test_what_has_not_changed_is_not_told() -> None:
    state = VersionedState()
    assert state.replace({"a": 1, "b": 1})
    assert not state.replace({"a": 1, "b": 1})
    assert state.change_since(state.version) is None
    before = state.version
    state.replace({"a": 2, "b": 1})
    change = state.change_since(before)
    assert change is not None
    assert dict(change.entries) == {"a": 2}


def test_memory_of_what_went_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "GONE_REMEMBERED", 3)
    state = VersionedState()
    state.replace({str(number): 0 for number in range(10)})
    before = state.version
    for number in range(1, 11):
        state.replace({str(left): 0 for left in range(number, 10)})
    assert len(state._gone) == 3
    change = state.change_since(before)
    assert change is not None
    assert change.whole, "who is further behind gets everything anew"


def test_listener_of_another_process_gets_everything() -> None:
    state = VersionedState()
    state.replace({"a": 1})
    change = state.change_since(99)
    assert change is not None
    assert change.whole


def test_id_follows_from_the_content_alone() -> None:
    assert state_id({"a": 1, "b": None}) == state_id({"b": None, "a": 1})
    assert state_id({"a": 1}) != state_id({"a": 2})
    assert state_id({}) == "44136fa355b3678a1146ad16f7e8649e", "the same in every version of the gateway"
