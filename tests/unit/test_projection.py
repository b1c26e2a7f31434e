"""What an ImportJob's status says, and whose turn it is to be patched."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.admission import Refusal, Verdict
from import_core.domain.jobs import JobRow, JobState, Progress
from import_core.domain.projection import PatchSchedule, project
from import_core.domain.resources.import_job import parse_import_job
from import_core.domain.steps import StepCounts, StepKind

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
ROW = JobRow(
    id="uid-1",
    company_id="acme",
    provider="acme-shopify",
    state=JobState.PENDING,
    namespace="imports",
    queued_at=NOW,
    generation=1,
)
ACCEPTED = Verdict(1, None)
REFUSED = Verdict(1, Refusal("ProviderNotFound", "there is no ImportProvider acme-shopify"))


def job(status: dict[str, Any] | None = None, generation: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": "autumn", "namespace": "imports", "uid": "uid-1", "generation": generation},
        "spec": {"companyId": "acme", "providerRef": {"name": "acme-shopify"}},
        "status": status or {},
    }


def shown(
    row: JobRow | None, before: dict[str, Any] | None = None, verdict: Verdict | None = ACCEPTED
) -> Any:
    """The status after the patch."""
    patch = project(job(before), row, verdict, NOW)
    merged = {**(before or {}), **(patch.status if patch else {})}
    return {key: value for key, value in merged.items() if value is not None}


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (JobState.PENDING, "Queued"),
        (JobState.IN_PROGRESS, "Running"),
        (JobState.COMPLETED, "Succeeded"),
        (JobState.FAILED, "Failed"),
        (JobState.CANCELLED, "Cancelled"),
    ],
)
def test_phase_follows_the_row(state: JobState, phase: str) -> None:
    status = shown(replace(ROW, state=state, started_at=NOW))
    assert status["phase"] == phase
    parse_import_job({**job(), "status": status})


def test_status_that_is_true_needs_no_patch() -> None:
    running = replace(ROW, state=JobState.IN_PROGRESS, started_at=NOW, progress=Progress(5, 2))
    assert project(job(shown(running)), running, ACCEPTED, NOW + timedelta(hours=1)) is None


ENRICHING = replace(ROW, spec={"enrich": {"embedding": True, "index": True}})
COUNTS = {StepKind.EMBEDDING: StepCounts(due=2, done=3), StepKind.INDEX: StepCounts(due=5)}


def test_a_job_that_asks_for_no_steps_says_nothing_of_them() -> None:
    status = shown(replace(ROW, state=JobState.COMPLETED))
    assert "steps" not in status
    assert "Enriched" not in conditions(status)


def test_steps_that_were_not_counted_stay_as_they_are_shown() -> None:
    status = shown(replace(ENRICHING, state=JobState.COMPLETED, steps=COUNTS))
    assert project(job(status), replace(ENRICHING, state=JobState.COMPLETED), ACCEPTED, NOW) is None


def test_how_far_the_steps_are_is_shown_and_when_they_are_through() -> None:
    status = shown(replace(ENRICHING, state=JobState.COMPLETED, steps=COUNTS))
    assert status["steps"] == {
        "embedding": {"due": 2, "done": 3, "halted": 0, "dead": 0},
        "index": {"due": 5, "done": 0, "halted": 0, "dead": 0},
    }
    assert status["phase"] == "Succeeded"
    assert conditions(status)["Enriched"] == ("False", "StepsDue")
    parse_import_job({**job(), "status": status})
    through = {StepKind.EMBEDDING: StepCounts(done=4, dead=1), StepKind.INDEX: StepCounts(done=4, halted=1)}
    later = shown(replace(ENRICHING, state=JobState.COMPLETED, steps=through), before=status)
    assert conditions(later)["Enriched"] == ("True", "SomeDead")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (JobState.IN_PROGRESS, "Importing"),
        (JobState.CANCELLED, "Cancelled"),
        (JobState.COMPLETED, "StepsDone"),
    ],
)
def test_enriched_follows_the_import(state: JobState, reason: str) -> None:
    assert (
        conditions(shown(replace(ENRICHING, state=state, started_at=NOW, steps={})))["Enriched"][1] == reason
    )


def test_a_retry_of_failed_items_says_so() -> None:
    """Its products done are those of the run before."""
    running = replace(ROW, state=JobState.IN_PROGRESS, started_at=NOW, progress=Progress(5, 2))
    assert shown(running)["message"] == "2 of 5 products done"
    assert shown(replace(running, items_only=True))["message"] == "Imports the failed items again"


def test_patch_holds_only_what_differs() -> None:
    running = replace(ROW, state=JobState.IN_PROGRESS, started_at=NOW)
    status = shown(running)
    patch = project(job(status), replace(running, progress=Progress(10, 5)), ACCEPTED, NOW)
    assert patch is not None
    assert set(patch.status) == {"progress", "message"}
    assert not patch.urgent


def test_change_of_state_is_urgent() -> None:
    patch = project(job(shown(ROW)), replace(ROW, state=JobState.IN_PROGRESS, started_at=NOW), ACCEPTED, NOW)
    assert patch is not None
    assert patch.urgent


def test_nothing_known_shows_nothing() -> None:
    assert project(job(), None, None, NOW) is None
    assert project(job(), None, ACCEPTED, NOW) is None


def test_refused_job_stays_pending_with_the_reason() -> None:
    status = shown(None, verdict=REFUSED)
    assert status["phase"] == "Pending"
    assert status["message"] == "there is no ImportProvider acme-shopify"
    assert conditions(status) == {"Accepted": ("False", "ProviderNotFound")}
    assert shown(ROW, status)["message"] == "Waits for a worker"
    assert conditions(shown(ROW, status))["Accepted"] == ("True", "Recorded")


def test_refused_change_of_a_recorded_job_leaves_its_phase() -> None:
    verdict = Verdict(2, Refusal("InvalidMapping", "spec.fieldMapping.title: is no expression"))
    patch = project(job(shown(ROW), generation=2), ROW, verdict, NOW)
    assert patch is not None
    assert "phase" not in patch.status
    assert conditions(patch.status)["Accepted"] == ("False", "InvalidMapping")
    assert patch.status["observedGeneration"] == 2


def test_refusal_of_an_older_generation_is_forgotten() -> None:
    row = replace(ROW, generation=2)
    assert conditions(shown(row, verdict=REFUSED))["Accepted"] == ("True", "Recorded")


def test_retry_shows_the_last_error() -> None:
    row = replace(ROW, attempt=1, message="the provider is down", waiting_reason="Retry", started_at=NOW)
    status = shown(row)
    assert status["message"] == "Try 1 of 4 failed, another follows: the provider is down"
    assert status["waitingReason"] == "Retry"
    assert status["attempts"] == 1
    assert conditions(status)["Queued"] == ("True", "Retry")


def test_waiting_reason_goes_when_the_job_runs() -> None:
    before = shown(replace(ROW, waiting_reason="Retry", attempt=1))
    patch = project(job(before), replace(ROW, state=JobState.IN_PROGRESS, started_at=NOW), ACCEPTED, NOW)
    assert patch is not None
    assert patch.status["waitingReason"] is None


def test_due_job_that_nobody_takes_waits_for_a_free_worker() -> None:
    old = replace(ROW, queued_at=NOW - timedelta(seconds=6))
    assert shown(old)["waitingReason"] == "QueueFull"
    assert "waitingReason" not in shown(replace(old, dispatched_at=NOW))
    assert "waitingReason" not in shown(replace(old, suspended=True))
    assert "waitingReason" not in shown(replace(old, not_before=NOW + timedelta(seconds=1)))


def test_suspension_is_a_condition_until_it_is_resumed() -> None:
    held = shown(replace(ROW, suspended=True))
    assert conditions(held)["Suspended"] == ("True", "Suspended")
    assert conditions(shown(ROW, held))["Suspended"] == ("False", "Resumed")
    assert "Suspended" not in conditions(shown(ROW))


def test_end_says_what_was_done() -> None:
    row = replace(
        ROW,
        state=JobState.COMPLETED,
        started_at=NOW,
        completed_at=NOW,
        progress=Progress(3, 2, 0, 1, 4, 4, 0, 0),
    )
    status = shown(row)
    assert status["message"] == "2 products imported, 0 unchanged, 4 images; failed: 1 product"
    assert status["progress"]["percent"] == 100
    assert status["completedAt"] == "2026-01-01T12:00:00Z"
    assert conditions(status)["Complete"] == ("True", "Imported")


def test_empty_catalogue_is_said() -> None:
    assert shown(replace(ROW, state=JobState.COMPLETED))["message"] == "The catalogue is empty"


def test_failure_says_why() -> None:
    row = replace(
        ROW,
        state=JobState.FAILED,
        started_at=NOW,
        failure_reason="InvalidCredentials",
        message="The provider refused the credentials.",
    )
    status = shown(row)
    assert status["message"] == "The provider refused the credentials."
    assert conditions(status)["Failed"] == ("True", "InvalidCredentials")


@pytest.mark.parametrize("reason", [None, "", "some reason: of the platform's own", "42"])
def test_reason_written_by_others_becomes_a_word(reason: str | None) -> None:
    status = shown(replace(ROW, state=JobState.FAILED, failure_reason=reason, message="x"))
    parse_import_job({**job(), "status": status})


counters = st.builds(
    lambda total, done, images: Progress(
        total, products_imported=done, images_total=images, images_imported=images
    ),
    st.one_of(st.none(), st.integers(0, 100)),
    st.integers(0, 100),
    st.integers(0, 100),
)


@given(st.lists(counters, min_size=1, max_size=10))
def test_progress_never_runs_backwards(steps: list[Progress]) -> None:
    status: dict[str, Any] = {}
    row = replace(ROW, state=JobState.IN_PROGRESS, started_at=NOW)
    for progress in steps:
        after = shown(replace(row, progress=progress), status)
        before = status.get("progress") or {}
        for name, value in after["progress"].items():
            if name != "productsTotal":
                assert value >= before.get(name, 0), name
        status = after


def test_first_come_first_patched_and_state_changes_before() -> None:
    schedule = PatchSchedule(per_second=10)
    for key, urgent in (("a", False), ("b", False), ("c", True), ("d", True)):
        schedule.want(key, urgent=urgent)
    assert schedule.take(0.0) == ["c", "d"]
    assert schedule.take(0.2) == ["a", "b"]
    assert len(schedule) == 0


def test_object_is_patched_once_in_five_seconds() -> None:
    schedule = PatchSchedule()
    schedule.want("a", urgent=True)
    assert schedule.take(0.0) == ["a"]
    schedule.want("a", urgent=True)
    assert schedule.take(4.9) == []
    assert schedule.take(5.0) == ["a"]


def test_forgotten_object_has_no_turn() -> None:
    schedule = PatchSchedule()
    schedule.want("a", urgent=False)
    schedule.forget("a")
    assert schedule.take(0.0) == []


@given(st.lists(st.tuples(st.floats(0.01, 2), st.lists(st.integers(0, 500), max_size=200)), max_size=40))
def test_all_objects_together_keep_the_rate(steps: list[tuple[float, list[int]]]) -> None:
    schedule = PatchSchedule(object_seconds=5.0, per_second=50.0)
    now = 0.0
    taken: list[tuple[float, str]] = []
    for pause, wanted in steps:
        now += pause
        for key in wanted:
            schedule.want(str(key), urgent=key % 2 == 0)
        taken += [(now, key) for key in schedule.take(now)]
    for start, _ in taken:
        within = [key for at, key in taken if start <= at < start + 1.0]
        assert len(within) <= 60, "fifty and one burst of ten"
        recent = [key for at, key in taken if start <= at < start + 5.0]
        assert len(recent) == len(set(recent)), "no object twice in five seconds"


def merged(status: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """What the API server makes of a merge patch (RFC 7386)."""
    result = dict(status)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(result.get(key) or {}, value)
        else:
            result[key] = value
    return result


def after(row: JobRow, before: dict[str, Any]) -> dict[str, Any]:
    """The object's status after its patch, which must then be true."""
    patch = project(job(before), row, ACCEPTED, NOW)
    status = merged(before, patch.status if patch else {})
    assert project(job(status), row, ACCEPTED, NOW) is None
    parse_import_job({**job(), "status": status})
    return status


FAILED_ROW = replace(
    ROW,
    state=JobState.FAILED,
    started_at=NOW,
    completed_at=NOW,
    failure_reason="Timeout",
    message="too slow",
    progress=Progress(10, 4, images_total=7),
)


def test_job_that_runs_again_leaves_its_end() -> None:
    failed = after(FAILED_ROW, {})
    again = after(ROW, failed)
    assert again["phase"] == "Queued"
    assert again["message"] == "Waits for a worker"
    assert again["attempts"] == 0
    assert "completedAt" not in again
    assert "startedAt" not in again
    assert conditions(again)["Failed"] == ("False", "RunsAgain")
    assert conditions(again)["Queued"][0] == "True"


def test_counters_of_another_run_start_anew() -> None:
    again = after(ROW, after(FAILED_ROW, {}))
    assert again["progress"]["percent"] == 0
    assert again["progress"]["imagesTotal"] == 0
    assert "productsTotal" not in again["progress"]
    running = after(replace(ROW, state=JobState.IN_PROGRESS, progress=Progress(10, 1)), again)
    assert running["progress"]["percent"] == 10


def test_another_run_that_ended_while_nobody_looked() -> None:
    failed = after(FAILED_ROW, {})
    complete = replace(ROW, state=JobState.COMPLETED, started_at=NOW, completed_at=NOW + timedelta(hours=1))
    status = after(complete, failed)
    assert conditions(status)["Complete"] == ("True", "Imported")
    assert conditions(status)["Failed"] == ("False", "RunsAgain")
    assert status["completedAt"] == "2026-01-01T13:00:00Z"
    assert "productsTotal" not in status["progress"]
    assert conditions(after(FAILED_ROW, status))["Complete"] == ("False", "RunsAgain")


def test_an_open_breaker_is_why_a_due_job_waits_until_it_closes() -> None:
    held = replace(ROW, breaker_open=True)
    assert shown(held)["waitingReason"] == "BreakerOpen"
    assert "circuit breaker is open" in shown(held)["message"]
    assert "waitingReason" not in shown(replace(held, dispatched_at=NOW)), "it goes to probe"
    retries = replace(held, not_before=NOW + timedelta(minutes=1), waiting_reason="Retry")
    assert shown(retries)["waitingReason"] == "Retry"
    refused = replace(ROW, waiting_reason="BreakerOpen", queued_at=NOW - timedelta(minutes=1))
    assert shown(replace(refused, breaker_open=True))["waitingReason"] == "BreakerOpen"
    assert shown(refused)["waitingReason"] == "QueueFull"


def test_paused_queue_is_why_a_due_job_waits() -> None:
    paused = replace(ROW, queue_paused=True)
    assert shown(paused)["waitingReason"] == "Paused"
    assert shown(paused)["message"] == "Waits until the queue goes on; it is paused"
    later = NOW + timedelta(minutes=1)
    retried = replace(paused, not_before=later, waiting_reason="Retry", attempt=1, message="it failed")
    assert shown(retried)["waitingReason"] == "Retry", "it would wait anyway"
    assert shown(replace(retried, not_before=NOW))["waitingReason"] == "Paused"
    assert "waitingReason" not in shown(replace(paused, suspended=True))
    assert "waitingReason" not in shown(replace(paused, state=JobState.IN_PROGRESS, started_at=NOW))
