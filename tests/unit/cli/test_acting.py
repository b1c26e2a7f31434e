"""What the commands that change something accept, name and count, without any server."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from import_cli.acting import LIMIT_WITHOUT_YES, check_number, new_token, parse_since, steps
from import_cli.failed_selection import NAMES, OTHER_REASONS, REASONS, Plan, Way
from import_cli.finding import choose_queue
from import_cli.sources import UsageError
from import_core.adapters.postgres.reports import FailedJob
from import_core.domain.reopening import MAX_TOKEN_LENGTH

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T07:30:00Z", NOW - timedelta(minutes=30)),
        ("2026-11-23T09:30:00+02:00", NOW - timedelta(minutes=30)),
    ],
)
def test_since_is_a_duration_or_a_time(text: str, moment: datetime) -> None:
    assert parse_since(text, now=NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "h", "2", "-2h", "2 h", "1.5h", "soon", "999999w", "2026-11-24", "9999999s"]
)
def test_since_refuses_what_is_neither_or_is_to_come(text: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        parse_since(text, now=NOW)


def test_a_token_is_new_and_fits_an_annotation() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) <= MAX_TOKEN_LENGTH and token.isprintable() for token in tokens)


def test_many_jobs_need_a_persons_word() -> None:
    check_number(LIMIT_WITHOUT_YES, yes=False, what="jobs")
    check_number(LIMIT_WITHOUT_YES + 1, yes=True, what="jobs")
    with pytest.raises(UsageError, match=r"1,001 jobs, more than 1,000 at once: .*--yes"):
        check_number(LIMIT_WITHOUT_YES + 1, yes=False, what="jobs")


def test_a_queue_is_named_where_there_are_several() -> None:
    assert choose_queue(["a"], None, namespace="n") == "a"
    assert choose_queue(["a", "b"], "b", namespace="n") == "b"
    with pytest.raises(UsageError, match="serve a, b: name one"):
        choose_queue(["a", "b"], None, namespace="n")
    with pytest.raises(UsageError, match="serves the queue 'c'; there is a"):
        choose_queue(["a"], "c", namespace="n")


def test_a_plan_stays_small_however_many_jobs_there_are() -> None:
    plan = Plan()
    for number in range(REASONS * 4):
        plan.add(FailedJob(f"id-{number}", None, None, "acme", "shop", f"Reason{number % 100}"), Way.ROW)
    plan.add(FailedJob("gone", "gone", "uid", "acme", "shop", "Reason0"), Way.GONE)
    assert plan.retried == REASONS * 4
    assert plan.ways == {Way.OBJECT: 0, Way.ROW: REASONS * 4, Way.GONE: 1}
    assert len(plan.reasons) == REASONS + 1
    assert plan.reasons["Reason0"].number == 2
    assert plan.reasons[OTHER_REASONS].number == REASONS * 2
    assert len(plan.reasons[OTHER_REASONS].names) == NAMES


def test_a_pipe_hears_of_progress_now_and_then() -> None:
    output = io.StringIO()
    with steps(Console(file=output, width=80), "retrying", 2_500) as progress:
        for _ in range(25):
            progress.advance(100)
    assert output.getvalue().splitlines() == ["1,000 of 2,500", "2,000 of 2,500"]
    with steps(None, "retrying", 2_500) as silent:
        silent.advance(2_500)
