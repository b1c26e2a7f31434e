"""Steps after the import: which are due, what comes next, and what becomes of a batch."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.failures import JITTER
from import_core.domain.jobs import WaitingReason
from import_core.domain.steps import (
    RETRY_DELAYS_SECONDS,
    STEPS_IN_ORDER,
    KnownStep,
    StepCounts,
    StepDone,
    StepFailed,
    StepKind,
    StepPostponed,
    StepState,
    asked_steps,
    count_states,
    end_batch,
    following_steps,
    in_batches,
    plan_steps,
    settle_steps,
)

EMBED, CHECK, INDEX = STEPS_IN_ORDER


def row(kind: StepKind = EMBED, state: StepState = StepState.DUE, **values: Any) -> KnownStep:
    return KnownStep(**{"product_id": "p", "kind": kind, "content_hash": "a", "state": state, **values})


def plan(kinds: tuple[StepKind, ...], content_hash: str, *known: KnownStep) -> list[KnownStep]:
    return plan_steps(kinds, content_hash, known, product_id="p", job_id="job")


def states(rows: list[KnownStep]) -> dict[StepKind, StepState]:
    return {item.kind: item.state for item in rows}


def test_a_spec_asks_for_steps_in_their_order() -> None:
    assert asked_steps({}) == ()
    assert asked_steps({"enrich": {"index": True, "embedding": True}}) == (EMBED, INDEX)
    assert asked_steps({"enrich": {"qualityControl": "yes"}}) == ()


def test_the_first_step_of_a_new_product_is_due_and_the_others_wait() -> None:
    assert states(plan(STEPS_IN_ORDER, "a")) == {
        EMBED: StepState.DUE,
        CHECK: StepState.WAITING,
        INDEX: StepState.WAITING,
    }


def test_what_is_done_for_this_content_is_skipped() -> None:
    done = [row(kind, StepState.DONE) for kind in STEPS_IN_ORDER]
    assert plan(STEPS_IN_ORDER, "a", *done) == []
    assert states(plan(STEPS_IN_ORDER, "a", *done[:2])) == {INDEX: StepState.DUE}
    assert states(plan(STEPS_IN_ORDER, "b", *done))[EMBED] is StepState.DUE


def test_a_product_that_was_not_let_through_takes_no_further_step() -> None:
    known = [row(EMBED, StepState.DONE), row(CHECK, StepState.DONE, halts=True)]
    assert states(plan(STEPS_IN_ORDER, "a", *known)) == {INDEX: StepState.HALTED}
    assert states(plan(STEPS_IN_ORDER, "b", *known))[INDEX] is StepState.WAITING


def test_an_invalid_one_stays_dead_until_it_changes_and_one_out_of_tries_is_tried_anew() -> None:
    invalid = row(EMBED, StepState.DEAD, retryable=False, attempts=1)
    assert plan((EMBED,), "a", invalid) == []
    assert states(plan((EMBED,), "b", invalid)) == {EMBED: StepState.DUE}
    out_of_tries = replace(invalid, retryable=True, attempts=4)
    (again,) = plan((EMBED,), "a", out_of_tries)
    assert (again.state, again.attempts) == (StepState.DUE, 0)
    assert plan((EMBED,), "a", row(EMBED, StepState.DISCARDED)) == []


def test_a_step_under_way_keeps_its_batch_and_its_failed_tries() -> None:
    known = row(batch_id="batch", attempts=2, job_id="earlier")
    (same,) = plan((EMBED,), "a", known)
    assert (same.batch_id, same.attempts, same.job_id) == ("batch", 2, "job")
    (changed,) = plan((EMBED,), "b", known)
    assert (changed.batch_id, changed.attempts, changed.content_hash) == ("batch", 0, "b")


def test_a_change_puts_a_step_that_is_under_way_behind_the_first_one_again() -> None:
    known = [row(EMBED, StepState.DONE), row(CHECK, batch_id="batch"), row(INDEX, StepState.WAITING)]
    after = {item.kind: item for item in plan(STEPS_IN_ORDER, "b", *known)}
    assert after[EMBED].state is StepState.DUE
    assert (after[CHECK].state, after[CHECK].batch_id) == (StepState.WAITING, "batch")


def test_a_step_that_only_an_earlier_import_asked_for_is_taken_for_the_changed_product() -> None:
    earlier = row(EMBED, batch_id="batch", attempts=2, job_id="earlier")
    after = {item.kind: item for item in plan((CHECK, INDEX), "b", earlier)}
    kept = after[EMBED]
    assert (kept.content_hash, kept.state, kept.batch_id) == ("b", StepState.DUE, "batch")
    assert (kept.attempts, kept.job_id) == (0, "earlier")
    assert states(following_steps(replace(kept, state=StepState.DONE), list(after.values()))) == {
        CHECK: StepState.DUE
    }
    assert plan((CHECK,), "a", replace(earlier, content_hash="a"))[0].kind is CHECK


Import = tuple[tuple[StepKind, ...], str]
imports = st.tuples(
    st.sets(st.sampled_from(STEPS_IN_ORDER), min_size=1).map(lambda kinds: tuple(sorted(kinds))),
    st.sampled_from("ab"),
)


@given(st.lists(st.one_of(imports, st.sampled_from(StepState)), max_size=8))
def test_whatever_imports_ask_for_and_when_nothing_waits_for_ever(ways: list[Import | StepState]) -> None:
    rows: dict[StepKind, KnownStep] = {}

    def end(state: StepState) -> bool:
        ended = next((item for item in rows.values() if item.state is StepState.DUE), None)
        if ended is None:
            return False
        rows[ended.kind] = ended = replace(ended, state=state)
        rows.update({item.kind: item for item in following_steps(ended, list(rows.values()))})
        return True

    for way in ways:
        if isinstance(way, tuple):
            rows.update({item.kind: item for item in plan(*way, *rows.values())})
        elif way in {StepState.DONE, StepState.DEAD}:
            end(way)
    while end(StepState.DONE):
        pass
    assert not [item for item in rows.values() if item.state is StepState.WAITING]


def test_the_next_step_is_due_when_one_is_done_and_halted_when_it_is_dead() -> None:
    rows = [row(EMBED), row(CHECK, StepState.WAITING), row(INDEX, StepState.WAITING)]
    assert states(following_steps(row(EMBED, StepState.DONE), rows)) == {CHECK: StepState.DUE}
    assert states(following_steps(row(EMBED, StepState.DEAD), rows)) == {
        CHECK: StepState.HALTED,
        INDEX: StepState.HALTED,
    }
    halted = [row(EMBED), row(CHECK, StepState.HALTED), row(INDEX, StepState.HALTED)]
    assert states(following_steps(row(EMBED), halted)) == {CHECK: StepState.WAITING, INDEX: StepState.WAITING}
    other = [row(EMBED), row(CHECK, StepState.WAITING, content_hash="older")]
    assert following_steps(row(EMBED, StepState.DONE), other) == []


def test_a_product_that_was_indexed_and_is_not_let_through_any_more_is_taken_out() -> None:
    rows = [row(CHECK), row(INDEX, StepState.WAITING, was_done=True)]
    rejected = row(CHECK, StepState.DONE, halts=True)
    assert states(following_steps(rejected, rows)) == {INDEX: StepState.DUE}
    assert states(following_steps(row(CHECK, StepState.DEAD), rows)) == {INDEX: StepState.HALTED}


@given(
    kinds=st.sets(st.sampled_from(STEPS_IN_ORDER)),
    known=st.dictionaries(
        st.sampled_from(STEPS_IN_ORDER),
        st.tuples(st.sampled_from(StepState), st.sampled_from("ab"), st.booleans(), st.booleans()),
    ),
)
def test_planning_is_idempotent_and_leaves_at_most_one_step_due(
    kinds: set[StepKind], known: dict[StepKind, tuple[StepState, str, bool, bool]]
) -> None:
    rows = [
        row(kind, state, content_hash=content, retryable=retryable, halts=halts)
        for kind, (state, content, retryable, halts) in known.items()
    ]
    order = tuple(kind for kind in STEPS_IN_ORDER if kind in kinds)
    changed = plan(order, "b", *rows)
    after = {item.kind: item for item in (*rows, *changed)}
    asked = [after[kind] for kind in order]
    assert sum(item.state is StepState.DUE for item in asked) <= 1
    assert plan(order, "b", *after.values()) == []
    for item in asked:
        assert item.content_hash == "b"


@given(
    st.lists(st.sampled_from(StepState), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_settling_is_idempotent_and_never_wakes_what_has_ended(
    given: list[StepState], halts: list[bool]
) -> None:
    rows = [
        row(kind, state, halts=stop) for kind, state, stop in zip(STEPS_IN_ORDER, given, halts, strict=True)
    ]
    settled = settle_steps(rows)
    assert settle_steps(settled) == settled
    for before, after in zip(rows, settled, strict=True):
        moves = before.state.is_open or before.state is StepState.HALTED
        assert moves or after.state is before.state


def test_a_failed_product_is_tried_again_after_2_4_and_8_seconds_and_is_dead_then() -> None:
    waits = []
    known = row()
    while True:
        (end,) = end_batch([known], [StepFailed("p", "Away", "no answer")], spread=0.5).ends
        known = end.row
        if end.retry_after is None:
            break
        waits.append(end.retry_after)
    assert waits == list(RETRY_DELAYS_SECONDS) == [2, 4, 8]
    assert (known.state, known.attempts, known.retryable) == (StepState.DEAD, 4, True)


def test_an_invalid_product_is_dead_at_once() -> None:
    end = end_batch([row()], [StepFailed("p", "NoImage", "no image", retryable=False)], spread=0.5)
    assert (end.ends[0].row.state, end.ends[0].row.retryable) == (StepState.DEAD, False)
    assert end.failure is not None
    assert not end.job_again


def test_a_batch_of_which_nothing_got_through_is_due_again_as_it_is() -> None:
    rows = [row(product_id=name) for name in "xyz"]
    failed = [StepFailed(name, "Away", "no answer") for name in "xyz"]
    end = end_batch(rows, failed, spread=0.0)
    assert end.job_again
    assert end.delay_seconds == pytest.approx(2.0 * (1 - JITTER))


def test_what_is_postponed_waits_apart_and_uses_no_try_up() -> None:
    rows = [row(product_id=name, attempts=1) for name in "xyz"]
    later = StepPostponed("z", 3600.0, WaitingReason.PROVIDER_LIMIT, "the day's calls are used up")
    end = end_batch(rows, [StepDone("x"), StepFailed("y", "Away", "no answer"), later], spread=0.5)
    assert [item.retry_after for item in end.ends] == [None, pytest.approx(4.0), 3600.0]
    assert [item.row.attempts for item in end.ends] == [1, 2, 1]
    assert end.ends[2].row == rows[2]
    assert (end.done, end.failure) == (1, None)
    # Not due again as it is: what failed would wait with the rest.
    end = end_batch(rows[1:], [StepFailed("y", "Away", "no answer"), later], spread=0.5)
    assert (end.job_again, end.failure) == (False, None)


def test_failed_products_leave_the_others_behind() -> None:
    rows = [row(product_id=name) for name in "xyz"]
    end = end_batch(rows, [StepDone("x"), StepFailed("y", "Away", "no answer")], spread=0.5)
    assert not end.job_again
    assert end.failure is None
    assert [item.retry_after for item in end.ends] == [None, 2.0, 2.0]
    assert end.ends[2].outcome == StepFailed("z", "NoOutcome", "the step told nothing of this product")


def test_the_last_try_is_for_each_product_alone() -> None:
    rows = [row(product_id=name, attempts=2) for name in "xyz"]
    end = end_batch(rows, [], spread=0.5)
    assert not end.job_again
    after = [item.row for item in end.ends]
    assert [len(batch) for batch in in_batches(after, 32)] == [1, 1, 1]


@given(st.lists(st.integers(0, 3), max_size=80), st.integers(1, 32))
def test_batches_hold_every_row_once_and_are_no_larger_than_allowed(attempts: list[int], size: int) -> None:
    rows = [row(product_id=str(number), attempts=tries) for number, tries in enumerate(attempts)]
    batches = in_batches(rows, size)
    assert sorted(item.product_id for batch in batches for item in batch) == sorted(
        item.product_id for item in rows
    )
    assert all(1 <= len(batch) <= size for batch in batches)


def test_states_are_summed_up_for_people() -> None:
    counts = count_states({StepState.DUE: 1, StepState.WAITING: 2, StepState.DONE: 3, StepState.DISCARDED: 4})
    assert counts == StepCounts(due=3, done=3, dead=4)
    assert counts.total == 10
