"""The times that recoveries took: one line for each fault of each scenario, on the terminal and as a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from faults.recovery import Recovery
from import_local.folders import ensure_folder

REPORT = Path(__file__).parents[2] / ".local" / "fault-report.json"


@dataclass(frozen=True, slots=True)
class Line:
    """One fault's recoveries; times in seconds, `bound` is the promise that was asserted (None: none).

    `items_retried`: items of the whole scenario that failed while a link was broken, and that were asked for again.
    """

    scenario: str
    fault: str
    faults: int
    jobs: int
    hit: int
    p50: float | None
    p95: float | None
    longest: float | None
    bound: str | None
    total_seconds: float
    items_retried: int = 0


class FaultReport:
    """Collects the lines of one session."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.lines: list[Line] = []

    def add(
        self,
        scenario: str,
        fault: str,
        recovery: Recovery,
        *,
        faults: int,
        jobs: int,
        total_seconds: float,
        bound: str | None,
        items_retried: int = 0,
    ) -> None:
        """Add what became of one kind of fault."""
        longest = max(recovery.seconds) if recovery.seconds else None
        self.lines.append(
            Line(
                scenario=scenario,
                fault=fault,
                faults=faults,
                jobs=jobs,
                hit=len(recovery.seconds) + len(recovery.not_again),
                p50=_rounded(recovery.quantile(0.5)),
                p95=_rounded(recovery.quantile(0.95)),
                longest=_rounded(longest),
                bound=bound,
                total_seconds=round(total_seconds, 1),
                items_retried=items_retried,
            )
        )

    def write(self, file: Path = REPORT) -> None:
        """Write all lines as JSON; an earlier session's report is replaced."""
        ensure_folder(file.parent)
        document = {"seed": self.seed, "faults": [asdict(line) for line in self.lines]}
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(title=f"Seconds from the fault until the jobs hit ran again (FAULT_SEED={self.seed})")
        for heading in (
            *("scenario", "fault", "times", "jobs", "hit", "p50", "p95", "max", "promised"),
            *("items again", "all"),
        ):
            table.add_column(heading, justify="left" if heading in {"scenario", "fault"} else "right")
        for line in self.lines:
            numbers = (line.p50, line.p95, line.longest)
            table.add_row(
                line.scenario,
                line.fault,
                str(line.faults),
                str(line.jobs),
                str(line.hit),
                *("–" if number is None else f"{number:.1f}" for number in numbers),
                line.bound or "–",
                str(line.items_retried),
                f"{line.total_seconds:.0f}",
            )
        console.print(table)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
