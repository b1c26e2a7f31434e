"""`kubectl imports status`: one screen that answers the first questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from import_cli.confirm_command import withheld_since
from import_cli.pause_commands import resume_words, since_words, standing_still
from import_cli.printing import print_json, print_table, say
from import_cli.queue_commands import paused_since
from import_cli.sources import DEFAULT_NAMESPACE, Sources
from import_cli.status_report import (
    FROM_ROWS,
    Depth,
    Held,
    Jobs,
    LastError,
    Pool,
    Provider,
    StatusReport,
    collect,
)
from import_core.adapters.postgres.dead_letters import StepSummary
from import_core.adapters.postgres.jobs import DEPTH_CAP
from import_core.adapters.postgres.queue_state import QueueState
from import_core.adapters.postgres.reports import STATE_CAP
from import_core.domain.backpressure import HealthLevel
from import_core.domain.connection_status import describe_breaker

MANY_PROVIDERS = 20
_ORDER = ("Pending", "Queued", "Running", "Succeeded", "Failed", "Cancelled")


async def run(sources: Sources, console: Console, *, as_json: bool) -> int:
    """Collect and print; always 0. Raises what the API server answers, but does without the database."""
    report = await collect(sources)
    if as_json:
        print_json(console, document(report))
    else:
        show(report, console)
    return 0


def show(report: StatusReport, console: Console) -> None:
    """Print the report for people."""
    for note in report.notes:
        say(console, f"Note: {note}", style="yellow")
    _show_held(report.jobs.held, console, report.namespace)
    say(console, f"Depth: {_depth(report.jobs.depth)}", style="bold")
    for queue, state in report.jobs.held.queues.items():
        if state.intake.health.measured_at is not None:
            pace = f", {state.starts_per_minute:,.0f} starts a minute" if state.starts_per_minute else ""
            style = "" if state.level is HealthLevel.HEALTHY else "yellow"
            say(console, f"Health of {queue}: {state.level.value}{pace}", style=style)
    say(console, f"Jobs:  {_counts(report.jobs)}", style="bold")
    _show_steps(report.jobs.steps, console)
    if report.pools:
        _section(
            console,
            ("POOL", "QUEUE", "DEPTH", "READY", "BUSY", "DESIRED", "MIN–MAX", "LAST DECISION"),
            [_pool_row(pool) for pool in report.pools],
        )
    else:
        say(console, "No WorkerPool: nothing runs jobs.", style="yellow")
    if report.providers:
        _show_providers(report.providers, console)
    if report.jobs.last_errors:
        _section(
            console,
            ("LAST ERRORS", "AT", "COMPANY", "REASON", "MESSAGE"),
            [_error_row(error, report.namespace) for error in report.jobs.last_errors],
        )


def _show_steps(steps: Sequence[StepSummary], console: Console) -> None:
    due = [f"{step.due:,} {step.step.value}" for step in steps if step.due]
    dead = [f"{step.dead:,} {step.step.value}" for step in steps if step.dead]
    if due:
        say(console, f"Products due for steps: {', '.join(due)}")
    if dead:
        say(console, f"Dead letters: {', '.join(dead)} (kubectl imports dead-letters list)", style="yellow")


def _show_held(held: Held, console: Console, namespace: str) -> None:
    for line, style in held_lines(held, namespace):
        say(console, line, style=style)


def held_lines(held: Held, namespace: str) -> Iterator[tuple[str, str]]:
    """What stands still until a person says otherwise, with the command that does; each with a style."""
    where = "" if namespace == DEFAULT_NAMESPACE else f" -n {namespace}"
    for queue, state in held.paused.items():
        yield f"Queue {queue} is {paused_since(state)}: kubectl imports resume {queue}{where}", "red"
    for queue, state in held.queues.items():
        for line in standing_still(queue, state, where):
            yield line, "red"
    for each in held.pauses:
        since = since_words(each.paused_at, each.paused_by, each.reason)
        ending = resume_words(each.scope, each.name, namespace)
        yield f"Imports of {each.scope} {each.name} are paused{since}: {ending}", "red"
    # Those that a person opened first: the others end by themselves.
    breakers = sorted(held.breakers.items(), key=lambda item: (not item[1].is_forced, item[0]))
    for name, breaker in breakers[:MANY_PROVIDERS]:
        yield f"{name}: {describe_breaker(breaker)}", "red" if breaker.is_forced else "yellow"
    if len(breakers) > MANY_PROVIDERS:
        yield f"… and {len(breakers) - MANY_PROVIDERS} more open circuit breakers", "yellow"
    if held.guard is not None:
        yield f"{withheld_since(held.guard)}: kubectl imports confirm-cancellations{where}", "red"


def _section(console: Console, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    console.print()
    print_table(console, headers, rows)


def _show_providers(providers: Sequence[Provider], console: Console) -> None:
    shown, rest = providers[:MANY_PROVIDERS], providers[MANY_PROVIDERS:]
    _section(
        console,
        ("PROVIDER", "TYPE", "COMPANY", "REACHABLE", "CREDENTIALS", "MESSAGE"),
        [(p.name, p.type, p.company, p.reachable, p.credentials, p.message) for p in shown],
    )
    if rest:
        troubled = sum(provider.health == 0 for provider in rest)
        say(console, f"… and {len(rest)} more, {troubled} of them in trouble", style="dim")


def _pool_row(pool: Pool) -> Sequence[object]:
    return (
        pool.name,
        pool.queue,
        _depth(Depth(pool.depth, (pool.depth or 0) >= DEPTH_CAP)),
        pool.ready,
        pool.busy,
        pool.desired,
        f"{pool.min_replicas}–{pool.max_replicas}",
        pool.last_decision,
    )


def _error_row(error: LastError, namespace: str) -> Sequence[object]:
    elsewhere = error.namespace not in {None, namespace}
    name = f"{error.namespace}/{error.job}" if elsewhere else error.job
    return (name, error.at, error.company, error.reason, error.message)


def _depth(depth: Depth) -> str:
    if depth.jobs is None:
        return "unknown"
    return f"over {DEPTH_CAP - 1:,}" if depth.capped else f"{depth.jobs:,}"


def _counts(jobs: Jobs) -> str:
    shown = [
        f"over {STATE_CAP - 1:,} {phase}"
        if jobs.counts[phase] >= STATE_CAP
        else f"{jobs.counts[phase]:,} {phase}"
        for phase in _ORDER
        if jobs.counts.get(phase)
    ]
    where = "rows of all namespaces" if jobs.counted_in == FROM_ROWS else "objects of this namespace"
    return f"{', '.join(shown) or 'none'} ({where})"


def document(report: StatusReport) -> dict[str, Any]:
    """The report for programs."""
    jobs = report.jobs
    return {
        "namespace": report.namespace,
        "depth": jobs.depth.jobs,
        "depthCapped": jobs.depth.capped,
        "jobs": jobs.counts,
        "jobsCapped": sorted(phase for phase, count in jobs.counts.items() if count >= STATE_CAP),
        "jobsCountedIn": jobs.counted_in,
        "pools": [_camel(asdict(pool)) for pool in report.pools],
        "providers": [_camel(asdict(provider)) for provider in report.providers],
        "steps": [_camel(asdict(step)) for step in jobs.steps],
        "lastErrors": [_camel(asdict(error)) for error in jobs.last_errors],
        "pausedQueues": [
            {
                "queue": queue,
                "paused": True,
                "reason": state.reason,
                "changedBy": state.changed_by,
                "changedAt": state.changed_at,
            }
            for queue, state in jobs.held.paused.items()
        ],
        "queues": [_queue(queue, state) for queue, state in jobs.held.queues.items()],
        "pauses": [_camel(asdict(each)) for each in jobs.held.pauses],
        "openBreakers": [
            {"provider": name, **_camel(asdict(breaker))} for name, breaker in jobs.held.breakers.items()
        ],
        "withheldCancellations": _camel(asdict(jobs.held.guard)) if jobs.held.guard is not None else None,
        "notes": report.notes,
    }


def _queue(queue: str, state: QueueState) -> dict[str, Any]:
    health, intake = state.intake.health, state.intake.intake
    return {
        "queue": queue,
        "health": health.level.value if health.measured_at else None,
        "depth": health.depth,
        "measuredAt": health.measured_at,
        "startsPerMinute": state.starts_per_minute,
        "intakeStopped": intake.stopped,
        "intakeBy": intake.by,
        "intakeReason": intake.reason,
        "emergency": state.emergency.phase.value,
        "emergencyReason": state.emergency.reason,
    }


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    def name(key: str) -> str:
        first, *rest = key.split("_")
        return first + "".join(word.capitalize() for word in rest)

    return {name(key): value for key, value in values.items()}
