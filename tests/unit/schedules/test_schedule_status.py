"""What an ImportSchedule's status says, and that it is written only where something changed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from import_core.domain.schedule_status import Known, project_schedule
from import_core.domain.schedules import Waiting

NOW = datetime(2026, 1, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def merged(body: dict[str, Any], patch: dict[str, Any] | None) -> dict[str, Any]:
    """The object after a merge patch of its status."""
    status = {**body.get("status", {}), **(patch or {})}
    return {**body, "status": {key: value for key, value in status.items() if value is not None}}


def held(body: dict[str, Any]) -> tuple[str, str, str]:
    found = next(each for each in body["status"]["conditions"] if each["type"] == "Held")
    return found["status"], found["reason"], found["message"]


def test_same_knowledge_is_written_once() -> None:
    known = Known(generation=3, active=1, last=NOW, next_start=NOW + HOUR)
    body = merged({}, project_schedule({}, known, NOW))
    assert body["status"]["lastScheduleTime"] == "2026-01-01T02:00:00Z"
    assert body["status"]["nextScheduleTime"] == "2026-01-01T03:00:00Z"
    assert project_schedule(body, known, NOW + HOUR) is None


def test_times_never_go_back_and_stay_when_their_jobs_are_gone() -> None:
    known = Known(generation=1, last=NOW, succeeded=NOW, missed=NOW)
    body = merged({}, project_schedule({}, known, NOW))
    for less in (Known(generation=1), replace(known, last=NOW - HOUR, succeeded=None)):
        after = merged(body, project_schedule(body, less, NOW))
        assert after["status"]["lastScheduleTime"] == body["status"]["lastScheduleTime"]
        assert after["status"]["lastSuccessfulTime"] == body["status"]["lastSuccessfulTime"]
        assert after["status"]["lastMissedTime"] == body["status"]["lastMissedTime"]


def test_wait_names_its_run_and_its_reason() -> None:
    known = Known(generation=1, waiting=Waiting.NO_ROOM, due=NOW, detail="The queue is full")
    body = merged({}, project_schedule({}, known, NOW))
    text = (
        "The run of 2026-01-01T02:00:00Z waits: there is no room for its job in the queue: The queue is full"
    )
    assert held(body) == ("True", "NoRoom", text)
    body = merged(body, project_schedule(body, Known(generation=1), NOW))
    assert held(body)[:2] == ("False", "NothingWaits")


def test_suspended_schedule_has_no_next_run_and_waits_for_nothing() -> None:
    body = merged({}, project_schedule({}, Known(generation=1, next_start=NOW), NOW))
    body = merged(body, project_schedule(body, Known(generation=2, suspended=True), NOW))
    assert "nextScheduleTime" not in body["status"]
    conditions = {each["type"]: each["reason"] for each in body["status"]["conditions"]}
    assert conditions == {"Ready": "Suspended"}


def test_wrong_spec_says_what_is_wrong() -> None:
    known = Known(generation=1, problem="spec.timeZone: is no time zone")
    body = merged({}, project_schedule({}, known, NOW))
    (ready,) = body["status"]["conditions"]
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False",
        "InvalidSpec",
        "spec.timeZone: is no time zone",
    )
