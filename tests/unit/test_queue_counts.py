"""Each job of a queue is counted in one state."""

from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.queue_counts import COUNTED_UP_TO, QueueCounts

PARTS = ("waiting", "dispatched", "held", "suspended", "delayed", "active")
few = st.integers(0, 1000)


@given(st.fixed_dictionaries(dict.fromkeys(PARTS, few)), st.booleans())
def test_what_is_due_is_waiting_handed_over_or_paused(parts: dict[str, int], paused: bool) -> None:
    waiting = parts.pop("waiting")
    due = waiting + parts["dispatched"] + parts["held"]
    states = QueueCounts(due=due, dispatch_paused=paused, **parts).by_state()
    assert states["waiting"] == (0 if paused else waiting)
    assert states["paused"] == parts["suspended"] + parts["held"] + (waiting if paused else 0)
    assert all(states[name] == parts[name] for name in ("dispatched", "delayed", "active"))
    assert sum(states.values()) == waiting + sum(parts.values())


def test_counts_that_were_cut_are_never_negative_nor_above_their_bound() -> None:
    cut = QueueCounts(due=COUNTED_UP_TO, dispatched=2_000, held=COUNTED_UP_TO, suspended=COUNTED_UP_TO)
    assert cut.by_state()["waiting"] == 0
    assert cut.by_state()["paused"] == COUNTED_UP_TO


def test_nothing_waits_in_a_paused_queue() -> None:
    assert QueueCounts(oldest_seconds=70.0).oldest_waiting_seconds() == 70.0
    assert QueueCounts(oldest_seconds=70.0, dispatch_paused=True).oldest_waiting_seconds() == 0.0
    assert QueueCounts().oldest_waiting_seconds() == 0.0
    assert QueueCounts(oldest_seconds=-0.2).oldest_waiting_seconds() == 0.0, "clocks differ a little"
