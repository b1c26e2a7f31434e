"""What `kubectl imports watch` shows of a job, on a terminal and in a pipe."""

from __future__ import annotations

from datetime import datetime
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import Progress

from import_cli.printing import printable, say
from import_core.adapters.postgres.jobs import DEPTH_CAP
from import_core.domain.estimates import seconds_until_done, seconds_until_start
from import_core.domain.jobs import JobRow, JobState
from import_core.domain.projection import FINAL_PHASES
from import_core.domain.resources.import_job import JobPhase

QUIET_SECONDS = 30.0
"""In a pipe, a line that differs only in its estimate is printed at most so often."""
_WAITING = frozenset({JobPhase.PENDING.value, JobPhase.QUEUED.value})


class WatchView:
    """The screen: the object's status, and beside it what only the database knows."""

    def __init__(self, bar: Progress, console: Console, name: str) -> None:
        self._bar = bar
        self._console = console
        self._name = name
        self._task = bar.add_task(name, total=100, detail="")
        self._status: dict[str, Any] = {}
        self._outlook = ""
        self._outlook_phase: str | None = None
        self._problem = ""
        self._said = ""
        self._printed: tuple[int, str, bool, bool] | None = None
        self._line = ""
        self._printed_at = 0.0
        self.deleted = False

    @property
    def phase(self) -> str:
        """The phase shown."""
        return str(self._status.get("phase") or JobPhase.PENDING.value)

    @property
    def message(self) -> str:
        """The object's message, or nothing."""
        return str(self._status.get("message") or "")

    @property
    def job_id(self) -> str | None:
        """The row's id, once recorded and until the job has finished."""
        return None if self.ended else self._status.get("jobId")

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to follow."""
        return self.deleted or self.phase in FINAL_PHASES

    @property
    def items_failed(self) -> bool:
        """Whether a product or an image failed."""
        progress = self._status.get("progress") or {}
        return bool(progress.get("productsFailed") or progress.get("imagesFailed"))

    def show(self, version: dict[str, Any] | None) -> None:
        """Take in a version of the object; None: it was deleted."""
        if version is None:
            self.deleted = True
            return
        self._status = version.get("status") or {}
        if self.phase in _WAITING and self.message:
            self.notice(self.message)
        self._draw()

    def estimate(self, text: str, *, phase: str | None = None, problem: str = "") -> None:
        """Take in an estimate that holds during `phase`, or why there is none.

        The row is ahead of the object or behind it for a moment. A problem is said once until it has passed.
        """
        if problem and not self._problem:
            self.notice(problem)
        self._problem = problem
        self._outlook, self._outlook_phase = text, phase
        self._draw()

    def notice(self, text: str) -> None:
        """Print a line above the bar, unless it is the one said last."""
        if text != self._said:
            self._said = text
            say(self._console, f"{self._name}: {text}", style="yellow")

    def _draw(self) -> None:
        percent = (self._status.get("progress") or {}).get("percent") or 0
        facts = printable(" · ".join(self._facts()))
        fits = not self.ended and self._outlook_phase in {None, self.phase}
        outlook = self._outlook if fits else ""
        detail = f"{facts} · {outlook}" if outlook else facts
        self._bar.update(self._task, completed=percent, detail=detail)
        if self._console.is_terminal:
            return
        # What a reader of the log must not miss; the estimate's value changes all the time.
        key = (percent, facts, bool(outlook), bool(self._problem))
        line, now = f"{self._name} {percent}% {detail}", monotonic()
        if key != self._printed or (line != self._line and now - self._printed_at >= QUIET_SECONDS):
            self._printed, self._line, self._printed_at = key, line, now
            say(self._console, line)

    def _facts(self) -> list[str]:
        progress = self._status.get("progress") or {}
        facts = [self.phase]
        if self.phase in _WAITING and self._status.get("waitingReason"):
            facts.append(f"waits: {self._status['waitingReason']}")
        if progress.get("productsTotal"):
            done = sum(
                progress.get(key) or 0 for key in ("productsImported", "productsUnchanged", "productsFailed")
            )
            facts.append(f"{done}/{progress['productsTotal']} products")
        if progress.get("imagesImported"):
            facts.append(f"{progress['imagesImported']} images")
        return facts


def outlook(
    row: JobRow, *, now: datetime, place: int = 0, running: int = 0, average_seconds: float | None = None
) -> str:
    """In words: how long a running job still takes, or when a waiting one starts; empty where neither is asked.

    Both from measured rates; where nothing was measured they are "unknown", never a guess.
    """
    if row.state is JobState.IN_PROGRESS:
        seconds = seconds_until_done(row.progress, started_at=row.started_at, now=now)
        return about(seconds, "to go") or "time to go unknown"
    if row.state is not JobState.PENDING or row.suspended:
        return ""
    if row.queue_paused:
        return "start unknown, the queue is paused"
    if row.not_before is not None and row.not_before > now:
        return about((row.not_before - now).total_seconds(), "until it is due")
    if place >= DEPTH_CAP:
        ahead = f"over {DEPTH_CAP - 1:,} jobs ahead"
    elif place:
        ahead = f"about {place:,} {'job' if place == 1 else 'jobs'} ahead"
    else:
        ahead = "next in the queue"
    start = seconds_until_start(place=place, running=running, average_seconds=average_seconds)
    if not place:
        return ahead
    return f"{ahead}, {about(start, 'until it starts') or 'start unknown'}"


def about(seconds: float | None, what: str) -> str:
    """A duration in the unit that people would use; empty where unknown."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s {what}"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min {what}"
    return f"about {seconds / 3600:.1f} h {what}"
