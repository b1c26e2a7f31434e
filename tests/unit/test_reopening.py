"""What annotations ask of a finished job, and what comes of it."""

from typing import Any

import pytest

from import_core.domain.jobs import JobState
from import_core.domain.reopening import (
    CONFIRM_ANNOTATION,
    MAX_TOKEN_LENGTH,
    RETRY_ANNOTATION,
    RETRY_ITEMS_ANNOTATION,
    Action,
    HonouredRequests,
    Requests,
    decide_reopening,
    requests_of,
)

FAILED = HonouredRequests(JobState.FAILED, generation=1)
ASKS = HonouredRequests(JobState.FAILED, generation=2, failure_reason="RemovalsNotConfirmed")


def body(**annotations: str) -> dict[str, Any]:
    names = {"retry": RETRY_ANNOTATION, "items": RETRY_ITEMS_ANNOTATION, "confirm": CONFIRM_ANNOTATION}
    return {"metadata": {"annotations": {names[key]: value for key, value in annotations.items()}}}


def test_object_without_annotations_asks_nothing() -> None:
    assert not requests_of({"metadata": {}})
    assert not requests_of({"metadata": {"annotations": {"other": "x"}}})


def test_annotations_are_read() -> None:
    assert requests_of(body(retry="a", items="b", confirm="3")) == Requests("a", "b", 3)


@pytest.mark.parametrize("value", ["", "x" * (MAX_TOKEN_LENGTH + 1), "a\0", "two\nlines"])
@pytest.mark.parametrize(("key", "name"), [("retry", RETRY_ANNOTATION), ("items", RETRY_ITEMS_ANNOTATION)])
def test_unusable_token_names_its_annotation(key: str, name: str, value: str) -> None:
    found = requests_of(body(**{key: value}))
    assert (found.retry, found.retry_items) == (None, None)
    assert [problem.split(":")[0] for problem in found.problems] == [name]


@pytest.mark.parametrize("value", ["", "yes", "-1", "0", "1.5", "²", "9" * 19, "1" * 200])
def test_confirmation_that_is_no_number(value: str) -> None:
    found = requests_of(body(confirm=value))
    assert found.confirm_removals is None
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{CONFIRM_ANNOTATION}: ")
    assert len(found.problems[0]) < 200


def test_new_value_is_honoured_and_an_old_one_not() -> None:
    assert decide_reopening(Requests(retry="2"), FAILED, generation=1).action is Action.RETRY
    done = HonouredRequests(JobState.COMPLETED, 1, retry="2", retry_items="3")
    decision = decide_reopening(Requests(retry="2", retry_items="3"), done, generation=1)
    assert (decision.action, decision.waits) == (None, False)


def test_one_thing_at_a_time() -> None:
    decision = decide_reopening(Requests("a", "b"), FAILED, generation=1)
    assert (decision.action, decision.waits) == (Action.RETRY, True)
    after = HonouredRequests(JobState.FAILED, 1, retry="a")
    assert decide_reopening(Requests("a", "b"), after, generation=1).action is Action.RETRY_ITEMS


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.IN_PROGRESS])
def test_request_waits_for_the_end_of_the_run(state: JobState) -> None:
    decision = decide_reopening(Requests(retry="a"), HonouredRequests(state), generation=1)
    assert (decision.action, decision.waits) == (None, True)


def test_cancelled_job_is_not_run_again() -> None:
    decision = decide_reopening(Requests(retry="a"), HonouredRequests(JobState.CANCELLED), generation=1)
    assert (decision.action, decision.waits) == (None, False)
    assert "cancelled" in decision.problems[0]


def test_job_without_row() -> None:
    decision = decide_reopening(Requests(retry_items="a"), None, generation=1)
    assert (decision.action, decision.waits) == (None, False)
    assert decision.problems[0].startswith(RETRY_ITEMS_ANNOTATION)


def test_removals_are_confirmed() -> None:
    decision = decide_reopening(Requests(confirm_removals=2), ASKS, generation=2)
    assert (decision.action, decision.problems) == (Action.CONFIRM_REMOVALS, ())


def test_nothing_to_confirm() -> None:
    decision = decide_reopening(Requests(confirm_removals=1), FAILED, generation=1)
    assert (decision.action, decision.waits, decision.problems) == (None, False, ())


@pytest.mark.parametrize(
    ("confirmed", "generation", "before", "says"),
    [
        (1, 2, None, "1 is not the job's generation, which is 2"),
        (3, 3, None, "the spec was changed"),
        (2, 2, -2, "has been honoured before"),
    ],
)
def test_confirmation_that_is_none(confirmed: int, generation: int, before: int | None, says: str) -> None:
    row = HonouredRequests(JobState.FAILED, 2, "RemovalsNotConfirmed", confirmed_removals=before)
    decision = decide_reopening(Requests(confirm_removals=confirmed), row, generation=generation)
    assert (decision.action, decision.waits) == (None, False)
    assert decision.problems[0].startswith(f"{CONFIRM_ANNOTATION}: ")
    assert says in decision.problems[0]
