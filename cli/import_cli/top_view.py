"""The screen of `kubectl imports top`: the same sections on a terminal, in a pipe and in a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from import_cli.acting import count
from import_cli.printing import print_table, printable, say
from import_cli.status_command import held_lines
from import_cli.status_report import Provider
from import_cli.top_report import QueueLine, RunningJob, TopReport
from import_core.adapters.postgres.jobs import DEPTH_CAP
from import_core.domain.backpressure import HealthLevel

PROVIDERS = 8
RUNNING = 12
WORKER = "WORKER"
POD_END = 16
LONG = frozenset({"MESSAGE", "LAST DECISION"})
"""Columns that give way where the screen is narrow."""
BAR_WIDTH = 16
_HEALTH = {HealthLevel.HEALTHY: "green", HealthLevel.DEGRADED: "yellow"}


@dataclass(frozen=True, slots=True)
class Section:
    """A table; a row's style shows what is not well; `bars` are percents in place of a last cell on terminals."""

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    styles: Sequence[str]
    rest: str = ""
    bars: Sequence[int] | None = None


def render(report: TopReport) -> RenderableType:
    """The whole screen for a terminal."""
    parts: list[RenderableType] = [_title(report)]
    parts += [Text(printable(line), style=style) for line, style in _words(report)]
    for section in sections(report):
        parts += [Text(), _table(section)]
        if section.rest:
            parts.append(Text(section.rest, style="dim"))
    return Group(*parts)


def show(report: TopReport, console: Console) -> None:
    """Print it once: as on a screen on a terminal, and a line for each row in a pipe."""
    if console.is_terminal:
        console.print(render(report))
        return
    say(console, _title(report).plain)
    for line, _ in _words(report):
        say(console, line)
    for section in sections(report):
        console.print()
        print_table(console, section.headers, section.rows)
        if section.rest:
            say(console, section.rest)


def sections(report: TopReport) -> list[Section]:
    """Queues, pools, providers, running jobs; those without a row are left out."""
    made = [
        Section(
            ("QUEUE", "HEALTH", "DUE", "RUNNING", "STARTS/MIN", "ENDS/MIN", "SUCCESS", "P95"),
            [_queue(line) for line in report.queues],
            [_HEALTH.get(line.state.level, "red") for line in report.queues],
        ),
        Section(
            ("POOL", "QUEUE", "READY", "BUSY", "DESIRED", "MIN–MAX", "LAST DECISION"),
            [
                (
                    p.name,
                    p.queue,
                    p.ready,
                    p.busy,
                    p.desired,
                    f"{p.min_replicas}–{p.max_replicas}",
                    p.last_decision,
                )
                for p in report.status.pools
            ],
            [
                "red" if (p.ready or 0) < (p.min_replicas or 0) else "yellow" if p.ready != p.desired else ""
                for p in report.status.pools
            ],
        ),
        _providers(report),
        _running(report),
    ]
    return [section for section in made if section.rows]


def _title(report: TopReport) -> Text:
    ready = [worker for worker in report.workers if worker.state == "ready"]
    jobs, room = sum(worker.jobs for worker in ready), sum(worker.concurrency for worker in ready)
    wait = (
        f" · oldest waits {_time(report.oldest_wait_seconds)}"
        if report.oldest_wait_seconds is not None
        else ""
    )
    workers = f" · {count(len(ready), 'worker')}, {jobs} of {room} places taken" if report.workers else ""
    depth = report.status.jobs.depth
    known = "unknown" if depth.jobs is None else _count(depth.jobs)
    products = sum(job.per_minute or 0 for job in report.running)
    pace = f" · {products:,.0f} products/min" if report.running else ""
    return Text(
        printable(
            f"imports in {report.status.namespace} · depth {known}{wait}{workers}{pace}"
            f" · {report.at:%H:%M:%S} UTC"
        ),
        style="bold",
    )


def _words(report: TopReport) -> Iterator[tuple[str, str]]:
    for note in report.status.notes:
        yield f"Note: {note}", "yellow"
    yield from held_lines(report.status.jobs.held, report.status.namespace)


def _queue(line: QueueLine) -> Sequence[object]:
    measured = line.state.intake.health.measured_at is not None
    paused = " (paused)" if line.state.dispatch_paused else ""
    success = line.pace.success
    return (
        line.queue,
        f"{line.state.level.value if measured else 'unknown'}{paused}",
        _count(line.depth.due),
        f"{line.depth.claimed:,}",
        None if line.state.starts_per_minute is None else f"{line.state.starts_per_minute:,.0f}",
        f"{line.pace.per_minute:,.1f}",
        None if success is None else f"{success:.1%}",
        None if line.pace.p95 is None else _time(line.pace.p95),
    )


def _providers(report: TopReport) -> Section:
    breakers, running = report.status.jobs.held.breakers, report.jobs_of
    # In trouble first, then those that are busy: what is well and idle says nothing on this screen.
    found = sorted(
        report.status.providers,
        key=lambda each: (each.health, each.name not in breakers, -running[each.name], each.name),
    )
    shown = found[:PROVIDERS]

    def breaker(provider: Provider) -> str | None:
        known = breakers.get(provider.name)
        return known.state.value if known is not None else "Closed"

    return Section(
        ("PROVIDER", "TYPE", "COMPANY", "RUNNING", "REACHABLE", "CREDENTIALS", "BREAKER", "MESSAGE"),
        [
            (p.name, p.type, p.company, running[p.name], p.reachable, p.credentials, breaker(p), p.message)
            for p in shown
        ],
        ["red" if p.health == 0 else "yellow" if p.name in breakers else "" for p in shown],
        f"… and {len(found) - PROVIDERS} more" if len(found) > PROVIDERS else "",
    )


def _running(report: TopReport) -> Section:
    shown = report.running[:RUNNING]
    more = len(report.running) - len(shown)
    return Section(
        ("RUNNING", "COMPANY", "PROVIDER", WORKER, "TRY", "FOR", "PRODUCTS", "IMAGES", "TO GO", "DONE"),
        [_job(job) for job in shown],
        ["yellow" if job.attempt else "" for job in shown],
        f"… and {more:,} more" if more > 0 else "",
        [job.percent for job in shown],
    )


def _job(job: RunningJob) -> Sequence[object]:
    total = "?" if job.total is None else f"{job.total:,}"
    return (
        *(job.name, job.company, job.provider, job.pod, job.attempt + 1, _time(job.for_seconds)),
        f"{job.done:,}/{total}",
        f"{job.images:,}",
        "unknown" if job.to_go_seconds is None else _time(job.to_go_seconds),
        f"{job.percent}%",
    )


def _table(section: Section) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold cyan")
    rows = [
        [_cell(header, value) for header, value in zip(section.headers, row, strict=True)]
        for row in section.rows
    ]
    for header in section.headers:
        # Columns that could wrap give way; their cells don't wrap all the same, so that a row stays a line.
        table.add_column(header, no_wrap=header not in LONG, overflow="ellipsis")
    for number, (row, style) in enumerate(zip(rows, section.styles, strict=True)):
        shown: list[RenderableType] = [Text(cell, no_wrap=True, overflow="ellipsis") for cell in row]
        if section.bars is not None:
            shown[-1] = ProgressBar(total=100, completed=section.bars[number], width=BAR_WIDTH)
        table.add_row(*shown, style=style)
    return table


def _cell(header: str, value: object) -> str:
    text = printable(value)
    # Pods of one pool differ in their names' ends.
    return f"…{text[-POD_END:]}" if header == WORKER and len(text) > POD_END + 1 else text


def _count(number: int) -> str:
    return f"over {DEPTH_CAP - 1:,}" if number >= DEPTH_CAP else f"{number:,}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
