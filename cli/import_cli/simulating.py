"""Reads or makes a trace, simulates scaling policies over it, and shows what comes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from import_cli.printing import print_json, print_table, say
from import_cli.simulation_plot import plot
from import_cli.sources import UsageError
from import_core.domain.errors import InvalidResourceError
from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.comparison import POLICIES, Fleets, compare
from import_core.domain.simulation.generating import SCENARIOS
from import_core.domain.simulation.outcome import Outcome
from import_core.domain.simulation.trace import Trace, read_trace

MAX_JOBS = 5_000_000
HEADERS = ("policy", "hours", "cost", "p50", "p95", "p99", "missed", "interrupted", "most")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the trace comes from: a file, or a scenario with its seed and number of jobs."""

    file: Path | None
    scenario: str
    seed: int
    jobs: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared, and how it is shown."""

    policies: Sequence[str]
    fleets: Fleets
    assumptions: Assumptions
    oldest_first: bool
    svg: Path | None
    as_json: bool


def run(console: Console, problems: Console, source: Source, wanted: Wanted) -> int:
    """Simulate and print; returns the exit code. Raises UsageError for what can't be simulated."""
    unknown = [name for name in wanted.policies if name not in POLICIES]
    if unknown:
        raise UsageError(f"No policy {', '.join(unknown)}; there are: {', '.join(POLICIES)}")
    if wanted.fleets.minimum > wanted.fleets.maximum:
        raise UsageError("--max must not be below --min")
    started = time.perf_counter()
    trace = load(source)
    outcomes: list[Outcome] = []
    for found in compare(
        trace,
        wanted.policies,
        fleets=wanted.fleets,
        assumptions=wanted.assumptions,
        fair=not wanted.oldest_first,
    ):
        outcomes.append(found)
        if problems.is_terminal:
            say(problems, f"{found.policy}: done after {time.perf_counter() - started:.1f} s", style="dim")
    seconds = time.perf_counter() - started
    if wanted.svg is not None:
        try:
            wanted.svg.write_text(plot(trace, outcomes), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--svg: can't write {wanted.svg}: {error.strerror}") from error
    if wanted.as_json:
        print_json(console, as_document(trace, outcomes, seconds))
    else:
        print_table(console, HEADERS, rows(outcomes))
        say(
            console,
            f"{trace.name}: {len(trace.arrivals)} jobs in {trace.seconds / 3600:.1f} h; hours: worker-hours;"
            f" waits in seconds; missed: % of small jobs not done in time; simulated in {seconds:.1f} s",
        )
    return 0


def load(source: Source) -> Trace:
    """Read or make the trace; raises UsageError for a file that can't be read or is wrong."""
    if source.file is None:
        scenario = SCENARIOS.get(source.scenario)
        if scenario is None:
            raise UsageError(f"No scenario {source.scenario}; there are: {', '.join(SCENARIOS)}")
        return scenario.make(source.seed, source.jobs or scenario.jobs)
    try:
        with source.file.open(encoding="utf-8-sig", newline="") as lines:
            return read_trace(source.file.stem, lines, as_csv=source.file.suffix.lower() == ".csv")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source.file}: is not UTF-8 text") from error
    except OSError as error:
        raise UsageError(f"Can't read {source.file}: {error.strerror}") from error
    except InvalidResourceError as error:
        raise UsageError(f"{source.file}: {error}") from error


def as_document(trace: Trace, outcomes: Sequence[Outcome], seconds: float) -> dict[str, object]:
    """The result for programs."""
    return {
        "trace": trace.name,
        "jobs": len(trace.arrivals),
        "traceSeconds": trace.seconds,
        "simulatedInSeconds": round(seconds, 3),
        "policies": [
            {
                _camel(name): value
                for name, value in asdict(replace(found, samples=())).items()
                if name != "samples"
            }
            for found in outcomes
        ],
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """The result as a table's rows, under HEADERS."""
    return [
        (
            found.policy,
            f"{found.worker_hours:.1f}",
            f"{found.cost:.2f}",
            f"{found.waiting_p50:.1f}",
            f"{found.waiting_p95:.1f}",
            f"{found.waiting_p99:.1f}",
            f"{100 * found.slo_misses / found.slo_jobs if found.slo_jobs else 0.0:.2f}",
            str(found.interrupted),
            str(found.most_workers),
        )
        for found in outcomes
    ]
