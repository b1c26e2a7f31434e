"""What the commands that change something share: who asks, how much at once, and how far it is."""

from __future__ import annotations

import getpass
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from import_cli.printing import printable, say
from import_cli.sources import Sources, UsageError

LIMIT_WITHOUT_YES = 1_000
"""More jobs than this at once are acted on only with --yes."""
PERSON_LENGTH = 100
REPORT_EVERY = 1_000
"""In a pipe, progress is said after so many jobs."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")


class Steps:
    """How many jobs are done; None in place of a console: nobody wants to know."""

    def __init__(self, bar: Progress, console: Console | None, what: str, total: int) -> None:
        self._bar = bar
        self._console = console
        self._total = total
        self._task = bar.add_task(what, total=total)
        self._done = 0

    def advance(self, count: int) -> None:
        """Count that many more as done."""
        before, self._done = self._done, self._done + count
        self._bar.advance(self._task, count)
        crossed = before // REPORT_EVERY < self._done // REPORT_EVERY
        if self._console is not None and not self._console.is_terminal and crossed:
            say(self._console, f"{self._done:,} of {self._total:,}")


@contextmanager
def steps(console: Console | None, what: str, total: int) -> Iterator[Steps]:
    """Show how far a long action is: a bar on a terminal, now and then a line in a pipe."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    shown = console is not None and console.is_terminal
    with Progress(*columns, console=console, disable=not shown, transient=True) as bar:
        yield Steps(bar, console, what, total)


def new_token() -> str:
    """A value that no annotation has had: the time, so that people can read it, and something random."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(4)}"


def person(sources: Sources) -> str:
    """Who asks: the kubeconfig's user, where there is one, and this machine's; bounded, one line."""
    try:
        here = getpass.getuser()
    except (KeyError, OSError):
        here = ""
    known = sources.user
    name = f"{known} ({here})" if known and here and known != here else known or here or "unknown"
    return printable(name)[:PERSON_LENGTH]


def check_number(number: int, *, yes: bool, what: str) -> None:
    """Raise UsageError where so many need a person's word."""
    if number > LIMIT_WITHOUT_YES and not yes:
        raise UsageError(
            f"{number:,} {what}, more than {LIMIT_WITHOUT_YES:,} at once: --dry-run shows them, --yes confirms it"
        )


def parse_since(text: str, *, now: datetime) -> datetime:
    """Read "90s", "30m", "2h", "3d", "1w" before `now`, or a time in ISO 8601 (without a zone: UTC).

    Raises UsageError for anything else, and for a time that is still to come.
    """
    duration = _DURATION.fullmatch(text)
    try:
        if duration is not None:
            return now - timedelta(**{_UNITS[duration[2]]: int(duration[1])})
        found = datetime.fromisoformat(text)
        moment = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--since {text!r} is neither a duration like 90s, 30m, 2h, 3d, 1w"
            " nor a time like 2026-11-23 or 2026-11-23T08:00:00Z"
        ) from error
    if moment > now:
        raise UsageError(f"--since {text} is still to come")
    return moment


def count(number: int, what: str) -> str:
    """A number with its noun: "1 job", "1,234 jobs"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
