"""Writes a soak test down: a page of Markdown with what grew and what was left over, and pictures beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from import_core.domain.simulation.outcome import percentile
from import_local.load.judging import Bound, Growth, growths, rolling_percentiles
from import_local.load.plots import Panel, draw
from import_local.load.report import course_panels, memory_panels
from import_local.load.timeline import MEBIBYTE, Sample, Series, series_of, series_of_processes

PAGE = "soak.md"
COURSE, MEMORY, CONNECTIONS = "soak-course.svg", "soak-memory.svg", "soak-connections.svg"
WINDOW_SECONDS, STEP_SECONDS = 60.0, 10.0


@dataclass
class SoakRun:
    """Everything that one soak found out. Moments are seconds from its start."""

    minutes: float
    taken: str
    """The day, the machine, and what else it did."""
    seed: int
    error_share: float = 0.01
    """Of all calls of providers, those that fail."""
    samples: list[Sample] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    jobs: list[tuple[float, float, str]] = field(default_factory=list)
    """(moment of the end, seconds it took, state) of each job."""
    growing: Sequence[str] = ()
    left_over: Sequence[str] = ()


def write_soak_report(folder: Path, run: SoakRun) -> None:
    """Write page and pictures into the folder."""
    title = f"{run.minutes:g} minutes of mixed load while things break"
    latency = rolling_percentiles(
        [(end, took) for end, took, _ in run.jobs], window=WINDOW_SECONDS, step=STEP_SECONDS
    )
    course = [
        *course_panels(run.samples),
        Panel(
            "Seconds from a job's row to its end, over a minute",
            "s",
            [Series(f"p{percent}", f"p{percent}", points) for percent, points in latency.items()],
        ),
    ]
    for name, panels in (
        (COURSE, course),
        (MEMORY, [*memory_panels(run.samples), *_redis_panels(run.samples)]),
        (CONNECTIONS, _connection_panels(run.samples)),
    ):
        marked = [
            Panel(each.title, each.unit, each.series, run.faults, each.levels, each.steps) for each in panels
        ]
        draw(folder / name, marked, title=title)
    (folder / PAGE).write_text("\n".join(_page(run)) + "\n", encoding="utf-8")


def _redis_panels(samples: Sequence[Sample]) -> list[Panel]:
    kibibytes = series_of(samples, "used memory", lambda s: s.redis_bytes and s.redis_bytes / 1024)
    return [
        Panel("Memory that Redis uses", "KiB", [kibibytes]),
        Panel("Keys in Redis", "keys", [series_of(samples, "keys", lambda sample: sample.redis_keys)]),
    ]


def _connection_panels(samples: Sequence[Sample]) -> list[Panel]:
    return [
        Panel(
            "PostgreSQL connections of each process",
            "connections",
            series_of_processes(samples, lambda process: process.postgres_connections),
        ),
        Panel(
            "Redis connections of each process",
            "connections",
            series_of_processes(samples, lambda process: process.redis_connections),
        ),
        Panel(
            "Open files of each process",
            "files",
            series_of_processes(samples, lambda process: process.files),
        ),
    ]


def _page(run: SoakRun) -> list[str]:
    states = Counter(state for _, _, state in run.jobs)
    took = sorted(seconds for _, seconds, _ in run.jobs)
    kinds = Counter(kind for _, kind in run.faults)
    return [
        "# Soak: the figures of one run",
        "",
        f"Written by `make soak`: {run.taken}; {run.minutes:g} minutes (an hour is the default),"
        f" `FAULT_SEED={run.seed}`. How to run it, and what it does: [README.md](README.md).",
        "",
        "| what | this run |",
        "| --- | --- |",
        f"| jobs | {', '.join(f'{count:,} {state}' for state, count in sorted(states.items()))} |",
        f"| from a job's row to its end, p50, p95 and longest | {percentile(took, 50):.1f} s,"
        f" {percentile(took, 95):.1f} s, {percentile(took, 100):.1f} s |",
        f"| faults | {', '.join(f'{count} × {kind}' for kind, count in sorted(kinds.items()))};"
        f" {run.error_share:.0%} of the providers' calls fail throughout |",
        f"| processes that were judged | {len({found.name for found, _ in growths(run.samples)})},"
        f" from {len(run.samples)} samples |",
        "",
        "## What grew, and what was left over",
        "",
        *_findings(run),
        "",
        "The trends that came nearest to their bounds; each is judged from the time on when its process is warm:",
        "",
        "| what | from | grew by | in | may grow by |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(_trend(found, bound) for found, bound in _nearest(run.samples)),
        "",
        "## How it went",
        "",
        "Thin upright lines are faults.",
        "",
        f"![Jobs, workers and latency over time]({COURSE})",
        "",
        f"![Memory over time]({MEMORY})",
        "",
        f"![Connections and open files over time]({CONNECTIONS})",
    ]


def _findings(run: SoakRun) -> list[str]:
    found = [f"- {finding}" for finding in (*run.growing, *run.left_over)]
    return found or [
        "Nothing grew beyond its bound. No claim without a worker, no job without an end, no message or key of an ended"
        " job in Redis, no object without its row, no product or image twice."
    ]


def _nearest(samples: Sequence[Sample], most: int = 12) -> list[tuple[Growth, Bound]]:
    def nearness(judged: tuple[Growth, Bound]) -> float:
        found, bound = judged
        return found.grown / max(bound.growth, bound.share * found.begin)

    return sorted(growths(samples), key=nearness, reverse=True)[:most]


def _trend(found: Growth, bound: Bound) -> str:
    def shown(value: float) -> str:
        return f"{value / MEBIBYTE:.1f} MiB" if found.what == "memory" else f"{value:.0f}"

    allowed = max(bound.growth, bound.share * found.begin)
    # Without the process's number: it tells nobody anything.
    who, _, place = found.name.partition(" ")
    named = " ".join([who, *place.split()[1:]])
    return (
        f"| {found.what} of `{named}` | {shown(found.begin)} | {shown(found.grown)}"
        f" | {found.seconds:.0f} s | {shown(allowed)} |"
    )
