"""Conditions keep their transition time while their status stays, and never outgrow their schema."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.resources.common import Condition, parse
from import_core.domain.resources.conditions import (
    bound_message,
    get_condition,
    is_true,
    remove_condition,
    set_condition,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 31, 13, 0, 0, 999, tzinfo=UTC)


def ready(
    conditions: list[dict[str, Any]], status: Any, now: datetime, **changes: Any
) -> list[dict[str, Any]]:
    values: dict[str, Any] = {"reason": "Because", "message": "It is so.", "observed_generation": 1} | changes
    return set_condition(conditions, "Ready", status, now=now, **values)


def test_a_new_condition_is_a_whole_metav1_condition() -> None:
    assert ready([], "True", NOON) == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Because",
            "message": "It is so.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-31T12:00:00Z",
        }
    ]


def test_transition_time_stays_while_the_status_stays() -> None:
    (condition,) = ready(ready([], "True", NOON), "True", LATER, reason="Other", observed_generation=2)
    assert condition["lastTransitionTime"] == "2026-01-31T12:00:00Z"
    assert (condition["reason"], condition["observedGeneration"]) == ("Other", 2)


def test_transition_time_moves_with_the_status() -> None:
    (condition,) = ready(ready([], "True", NOON), "False", LATER)
    assert condition["lastTransitionTime"] == "2026-01-31T13:00:00Z"


def test_others_and_their_order_stay_and_the_input_is_not_changed() -> None:
    before = [{"type": "A", "status": "True"}, *ready([], "True", NOON), {"type": "Z", "status": "False"}]
    copy = [dict(condition) for condition in before]
    after = ready(before, "False", LATER)
    assert before == copy
    assert [condition["type"] for condition in after] == ["A", "Ready", "Z"]
    assert (after[0], after[2]) == (before[0], before[2])


def test_setting_the_same_twice_changes_nothing() -> None:
    once = ready([], "Unknown", NOON)
    assert ready(once, "Unknown", LATER) == once


def test_reading_and_removing() -> None:
    conditions = ready([], "True", NOON)
    assert is_true(conditions, "Ready")
    assert not is_true(ready(conditions, "Unknown", NOON), "Ready")
    assert not is_true(conditions, "Other")
    assert get_condition(conditions, "Other") is None
    assert remove_condition(conditions, "Ready") == []


def test_a_time_without_zone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="time zone"):
        ready([], "True", datetime(2026, 1, 31))  # noqa: DTZ001


@given(st.text(max_size=3000))
def test_messages_are_bounded_and_stay_valid(message: str) -> None:
    bounded = bound_message(message)
    assert len(bounded) <= 1024
    assert bounded == message or (len(message) > 1024 and bounded.endswith("…"))


def test_conditions_fit_the_schema() -> None:
    (condition,) = ready([], "True", NOON, message="x" * 5000)
    assert parse(Condition, condition).to_json() == condition
