"""The commands' wording, and what they accept, without any server."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from import_cli import watch_view
from import_cli.printing import print_json, print_table, printable, say
from import_cli.sources import UsageError, check_database_url, is_object_name
from import_cli.status_command import show
from import_cli.status_report import FROM_ROWS, Depth, Jobs, StatusReport
from import_cli.watch_view import WatchView, about, outlook
from import_core.adapters.postgres.jobs import DEPTH_CAP
from import_core.adapters.postgres.reports import STATE_CAP
from import_core.domain import jobs as domain

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job_row(**values: Any) -> domain.JobRow:
    state = values.pop("state", domain.JobState.PENDING)
    return domain.JobRow("id", "acme", "shop", state, "imports", NOW - timedelta(hours=1), **values)


def piped(width: int = 40) -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, width=width), output


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        ("", "–"),
        (0, "0"),
        (False, "False"),
        ("a\tb\r\nc", "a b  c"),
        ("\x1b[2J\x9b1m\x7f", "\ufffd[2J\ufffd1m\ufffd"),
        ("\u202eabc\u2066", "\ufffdabc\ufffd"),
        ("café ☕ 👩‍👩‍👧 عربي", "café ☕ 👩‍👩‍👧 عربي"),
    ],
)
def test_a_value_becomes_one_harmless_line(value: object, shown: str) -> None:
    assert printable(value) == shown


def test_a_pipe_gets_one_line_per_row_however_wide() -> None:
    console, output = piped()
    print_table(console, ("NAME", "MESSAGE"), [("咖啡", "x" * 300), ("[b]", None)])
    assert output.getvalue().splitlines() == ["NAME  MESSAGE", f"咖啡  {'x' * 300}", "[b]   –"]


def test_a_pipe_gets_long_lines_unfolded() -> None:
    console, output = piped()
    say(console, "word " * 50)
    assert output.getvalue().count("\n") == 1


def test_json_holds_times_and_nothing_that_a_terminal_obeys() -> None:
    console, output = piped()
    print_json(console, {"at": NOW, "text": "\x1b[31m[red]"})
    assert '"at": "2026-01-01T00:00:00+00:00"' in output.getvalue()
    assert "\x1b" not in output.getvalue()
    with pytest.raises(AttributeError):
        print_json(console, {"object": object()})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40ss%2Fw@db.example:5432/platform?sslmode=require",
        "postgres://db/platform",
        "postgresql://u:p@one:5432,two:5433/platform?target_session_attrs=read-write",
        "postgresql://u:p@[::1]:5432/platform",
        "postgresql:///platform?host=/run/postgresql",
    ],
)
def test_usual_database_addresses_are_accepted(url: str) -> None:
    check_database_url(url)


@pytest.mark.parametrize("url", ["postgresql://[::1/x", "sqlite:///x", "postgresql://u:p@h:5432x/d", "x"])
def test_others_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="DATABASE_URL must be"):
        check_database_url(url)


def test_object_names_are_subdomains() -> None:
    assert is_object_name("acme-autumn.2026")
    assert not any(is_object_name(name) for name in ("", "A", "-a", "a/b", "..", "a b", "a" * 254, "a\n"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"place": 0}, "next in the queue"),
        (
            {"place": 1, "running": 2, "average_seconds": 60.0},
            "about 1 job ahead, about 30 s until it starts",
        ),
        ({"place": 1200}, "about 1,200 jobs ahead, start unknown"),
        ({"place": 1200, "running": 3}, "about 1,200 jobs ahead, start unknown"),
        ({"place": 1200, "average_seconds": 60.0}, "about 1,200 jobs ahead, start unknown"),
        (
            {"place": DEPTH_CAP, "running": 100, "average_seconds": 60.0},
            "over 20,000 jobs ahead, about 3.3 h until it starts",
        ),
    ],
)
def test_a_waiting_job_has_a_place_and_a_time_where_known(values: dict[str, Any], words: str) -> None:
    assert outlook(job_row(), now=NOW, **values) == words


def test_a_job_that_is_held_or_done_has_no_outlook() -> None:
    assert outlook(job_row(suspended=True), now=NOW) == ""
    assert outlook(job_row(state=domain.JobState.FAILED), now=NOW) == ""


def test_what_was_not_measured_is_unknown() -> None:
    running = job_row(state=domain.JobState.IN_PROGRESS, started_at=NOW - timedelta(seconds=10))
    assert outlook(running, now=NOW) == "time to go unknown"
    moving = domain.Progress(products_total=30, products_imported=10)
    known = replace(running, progress=moving)
    assert outlook(known, now=NOW) == "about 20 s to go"
    paused = job_row(queue_paused=True)
    assert outlook(paused, now=NOW, place=1, running=2, average_seconds=60.0) == (
        "start unknown, the queue is paused"
    )


def test_a_job_that_is_due_later_says_when_and_once_due_its_place() -> None:
    later = job_row(not_before=NOW + timedelta(seconds=25))
    assert outlook(later, now=NOW, place=3) == "about 25 s until it is due"
    assert outlook(later, now=NOW + timedelta(seconds=26), place=3) == "about 3 jobs ahead, start unknown"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.2, "about 1 s to go"),
        (89, "about 89 s to go"),
        (91, "about 2 min to go"),
        (5400, "about 1.5 h to go"),
    ],
)
def test_durations_have_the_unit_that_people_would_use(seconds: float | None, words: str) -> None:
    assert about(seconds, "to go") == words


def test_counts_beyond_the_cap_are_shown_as_such() -> None:
    console, output = piped()
    jobs = Jobs(Depth(DEPTH_CAP, True), {"Succeeded": STATE_CAP, "Failed": 1_234}, FROM_ROWS, [])
    show(StatusReport("imports", [], [], jobs, []), console)
    assert "Depth: over 20,000\n" in output.getvalue()
    assert "Jobs:  over 100,000 Succeeded, 1,234 Failed (" in output.getvalue()


def test_an_estimate_of_another_phase_is_not_shown() -> None:
    console, output = piped()
    view = WatchView(Progress(console=console, disable=True), console, "job")
    view.show({"status": {"phase": "Queued", "jobId": "id"}})
    view.estimate("next in the queue", phase="Queued")
    view.show({"status": {"phase": "Running", "jobId": "id"}})
    view.estimate("about 9 s to go", phase="Running")
    assert output.getvalue().splitlines() == [
        "job 0% Queued",
        "job 0% Queued · next in the queue",
        "job 0% Running",
        "job 0% Running · about 9 s to go",
    ]


def test_a_pipe_gets_new_facts_at_once_and_estimates_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(watch_view, "monotonic", lambda: now)
    console, output = piped()
    view = WatchView(Progress(console=console, disable=True), console, "job")
    view.show({"status": {"phase": "Running", "jobId": "id"}})
    for number in range(5):
        view.estimate(f"about {9 - number} s to go")
    assert output.getvalue().splitlines() == ["job 0% Running", "job 0% Running · about 9 s to go"]
    now += watch_view.QUIET_SECONDS
    view.estimate("about 5 s to go")
    view.estimate("about 5 s to go")
    view.estimate("estimate unknown", problem="The database is away")
    assert output.getvalue().splitlines()[2:] == [
        "job 0% Running · about 5 s to go",
        "job: The database is away",
        "job 0% Running · estimate unknown",
    ]
