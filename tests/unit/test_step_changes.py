"""A product's steps after a person's word, and after an ImportJob is cancelled."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.step_changes import archived_steps, judged_steps, without_job
from import_core.domain.steps import STEPS_IN_ORDER, KnownStep, StepKind, StepState, following_steps

EMBED, CHECK, INDEX = STEPS_IN_ORDER


def row(kind: StepKind = EMBED, state: StepState = StepState.DUE, **values: Any) -> KnownStep:
    return KnownStep(**{"product_id": "p", "kind": kind, "content_hash": "a", "state": state, **values})


def states(rows: list[KnownStep]) -> dict[StepKind, StepState]:
    return {item.kind: item.state for item in rows}


def test_a_person_lets_a_product_go_on_and_takes_the_word_back() -> None:
    flagged = [
        row(EMBED, StepState.DONE),
        row(CHECK, StepState.DONE, halts=True),
        row(INDEX, StepState.HALTED),
    ]
    approved = judged_steps(CHECK, flagged, halts=False)
    assert states(approved) == {CHECK: StepState.DONE, INDEX: StepState.DUE}
    assert judged_steps(CHECK, flagged, halts=True) == []
    live = [row(CHECK, StepState.DONE), row(INDEX, StepState.DONE, was_done=True)]
    assert states(judged_steps(CHECK, live, halts=True)) == {CHECK: StepState.DONE, INDEX: StepState.DUE}
    assert judged_steps(EMBED, live, halts=True) == []


def test_cancelling_takes_what_the_import_asked_for_last_and_nothing_of_another_s() -> None:
    rows = [
        row(EMBED, job_id="other", batch_id="batch"),
        row(CHECK, StepState.WAITING, job_id="gone"),
        row(INDEX, StepState.WAITING, job_id="other"),
    ]
    assert states(without_job(rows, "gone")) == {CHECK: StepState.CANCELLED}
    assert without_job(rows, "a third") == []
    assert states(without_job(rows, "other")) == {
        EMBED: StepState.CANCELLED,
        CHECK: StepState.DUE,
        INDEX: StepState.CANCELLED,
    }


def test_what_waits_for_a_cancelled_step_goes_on_where_another_import_asks_for_it() -> None:
    rows = [
        row(EMBED, StepState.DONE, job_id="gone"),
        row(CHECK, job_id="gone"),
        row(INDEX, StepState.WAITING, job_id="other"),
    ]
    assert states(without_job(rows, "gone")) == {CHECK: StepState.CANCELLED, INDEX: StepState.DUE}
    cancelled = [rows[0], row(CHECK, StepState.CANCELLED, job_id="gone"), rows[2]]
    assert states(without_job(cancelled, None)) == {INDEX: StepState.DUE}
    assert states(following_steps(row(EMBED, StepState.DONE), cancelled)) == {INDEX: StepState.DUE}


@given(
    st.lists(st.sampled_from(StepState), min_size=3, max_size=3),
    st.lists(st.sampled_from(["gone", "other"]), min_size=3, max_size=3),
)
def test_after_a_cancellation_something_is_due_wherever_something_waits(
    given: list[StepState], jobs: list[str]
) -> None:
    rows = [
        row(kind, state, job_id=job) for kind, state, job in zip(STEPS_IN_ORDER, given, jobs, strict=True)
    ]
    after = {item.kind: item for item in (*rows, *without_job(rows, "gone"))}
    left = [item for item in after.values() if item.state.is_open]
    assert all(item.job_id == "other" for item in left)
    assert not left or any(item.state is StepState.DUE for item in left)
    for before, item in zip(rows, after.values(), strict=True):
        assert before.job_id == "gone" or before.state is item.state or item.state is not StepState.CANCELLED


def test_an_archived_product_is_taken_out_of_what_it_was_put_in_and_takes_no_other_step() -> None:
    rows = [
        row(EMBED, batch_id="batch"),
        row(CHECK, StepState.WAITING),
        row(INDEX, StepState.WAITING, was_done=True, attempts=2, batch_id="other"),
    ]
    after = {item.kind: item for item in archived_steps((INDEX,), "b", rows, job_id="job")}
    assert states(list(after.values())) == {
        EMBED: StepState.CANCELLED,
        CHECK: StepState.CANCELLED,
        INDEX: StepState.DUE,
    }
    index = after[INDEX]
    assert (index.content_hash, index.attempts, index.batch_id, index.job_id) == ("b", 0, "other", "job")
    both = archived_steps((EMBED, INDEX), "b", rows, job_id="job")
    assert states(both) == {EMBED: StepState.DUE, CHECK: StepState.CANCELLED, INDEX: StepState.WAITING}
    halted = [row(EMBED, StepState.DEAD), row(INDEX, StepState.HALTED, was_done=True)]
    assert states(archived_steps((INDEX,), "b", halted, job_id="job")) == {INDEX: StepState.DUE}
    never = [row(EMBED, StepState.DONE), row(INDEX, StepState.HALTED)]
    assert archived_steps((INDEX,), "b", never, job_id="job") == []
