"""Writes docs/reference/scaling.md and its picture: the simulator's tables for the default traces.

`python -m import_local.scaling_page` simulates all of them, which takes some minutes; it is not part of
`make generate` for that reason. A test simulates some of the rows again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from import_cli.simulating import HEADERS, rows
from import_cli.simulation_plot import plot
from import_core import generate
from import_core.domain.simulation.comparison import COMPETITORS, compare
from import_core.domain.simulation.generating import SCENARIOS
from import_core.domain.simulation.outcome import Outcome
from import_core.domain.simulation.recording import Recording, Waits, simulate_again

PAGE = Path("docs/reference/scaling.md")
PICTURE = Path("docs/pictures/scaling-daily.svg")
RECORDINGS = Path("tests/data")
SEED = 1
_RECORDED = (
    *("recording", "jobs", "decisions made again", "wanted numbers, in the same order"),
    *("farthest apart, s", "waits p50, real / simulated", "p95", "mean"),
)
_TEXT = Path(__file__).parent / "generated_pages" / "scaling.md"
_DRAWN = "daily"
_LEFT_OUT_OF_PICTURE = {"fixed-maximum", "queue-depth+drain+ahead", "drain-time+ahead", "hpa-unlimited-steps"}


def generated_files() -> dict[Path, str]:
    """The page and its picture by their paths below the project's root."""
    tables, files = [], {}
    for name, scenario in SCENARIOS.items():
        trace = scenario.make(SEED, scenario.jobs)
        outcomes = list(compare(trace))
        sys.stderr.write(f"{name} is simulated\n")
        first_line = (scenario.make.__doc__ or "").strip().splitlines()[0]
        tables.append(
            f"### {name}: {scenario.jobs:,} jobs\n\n{first_line}\n\n{table(outcomes)}\n\n{verdict(outcomes)}"
        )
        if name == _DRAWN:
            drawn = [found for found in outcomes if found.policy not in _LEFT_OUT_OF_PICTURE]
            files[PICTURE] = plot(trace, drawn)
    text = _TEXT.read_text(encoding="utf-8").replace("@recorded@", recorded())
    files[PAGE] = text.replace("@tables@", "\n\n".join(tables))
    return files


def recorded(folder: Path = RECORDINGS) -> str:
    """The recorded runs beside what the simulator makes of them, as a Markdown table."""
    lines = [f"| {' | '.join(_RECORDED)} |", "| --- |" + " ---: |" * (len(_RECORDED) - 1)]
    for path in sorted(folder.glob("scaling-recording-*.json")):
        recording = Recording.from_json(json.loads(path.read_text(encoding="utf-8")))
        made, real = simulate_again(recording), Waits.of([job.waited for job in recording.jobs])
        late = max(abs(one.at - other.at) for one, other in zip(recording.wanted, made.wanted, strict=False))
        waits = [
            f"{one:.1f} / {other:.1f}"
            for one, other in (
                (real.p50, made.waits.p50),
                (real.p95, made.waits.p95),
                (real.mean, made.waits.mean),
            )
        ]
        numbers = (
            len(recording.jobs),
            len(recording.decisions),
            len(recording.wanted),
            f"{late:.1f}",
            *waits,
        )
        name = path.stem.removeprefix("scaling-recording-")
        lines.append("| " + " | ".join((f"`{name}`", *(str(number) for number in numbers))) + " |")
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> str:
    """A comparison as a Markdown table."""
    lines = ["| " + " | ".join(HEADERS) + " |", "| --- |" + " ---: |" * (len(HEADERS) - 1)]
    lines += [markdown_row(row) for row in rows(outcomes)]
    return "\n".join(lines)


def markdown_row(row: Sequence[str]) -> str:
    """One policy's row."""
    return f"| `{row[0]}` | " + " | ".join(row[1:]) + " |"


def verdict(outcomes: Sequence[Outcome]) -> str:
    """Which other policies each of ours is no worse than, in both cost and p95; and where not, by how much."""
    others = [found for found in outcomes if found.policy in COMPETITORS]
    lines = []
    for ours in (found for found in outcomes if found.policy not in COMPETITORS):
        worse = [(other, *excess(ours, other)) for other in others]
        beaten = [other.policy for other, cost, waiting in worse if cost <= 0 and waiting <= 0]
        lost = [
            f"{other.policy} (" + " and ".join(_excess_words(cost, waiting)) + ")"
            for other, cost, waiting in worse
            if cost > 0 or waiting > 0
        ]
        words = f"- `{ours.policy}`: no worse than " + (", ".join(beaten) if beaten else "none") + "."
        lines.append(words + (f" Worse than {', '.join(lost)}." if lost else ""))
    return "\n".join(lines)


def excess(ours: Outcome, other: Outcome) -> tuple[float, float]:
    """By how many percent ours costs more, and by how many seconds its p95 is longer, as rounded in the table."""
    cost = round(ours.worker_hours, 1) / max(round(other.worker_hours, 1), 0.1) - 1
    return round(100 * cost, 1), round(round(ours.waiting_p95, 1) - round(other.waiting_p95, 1), 1)


def _excess_words(cost: float, waiting: float) -> list[str]:
    words = []
    if cost > 0:
        words.append(f"cost +{cost:.1f} %")
    if waiting > 0:
        words.append(f"p95 +{waiting:.1f} s")
    return words


if __name__ == "__main__":
    sys.exit(generate.run(generated_files(), program="import_local.scaling_page"))
