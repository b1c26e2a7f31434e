"""Asks a real Prometheus what each panel of a dashboard shows, over a time that has passed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from import_dashboards.model import Board
from import_dashboards.picture import Line, line_name
from import_local.parts.prometheus import PrometheusServer

FOLDER = Path(__file__).parents[2] / "dashboards" / "grafana"


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is asked about, in seconds since the epoch; `rate_interval` as Prometheus writes it."""

    start: float
    end: float
    step: float = 2.0
    rate_interval: str = "20s"

    def fill_in(self, expression: str) -> str:
        """What Grafana does with its variables."""
        return expression.replace("$__rate_interval", self.rate_interval).replace("$namespace", ".*")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query of a panel gave."""

    place: str
    expression: str
    lines: list[Line]

    @property
    def has_data(self) -> bool:
        """Whether there is a value at any time."""
        return any(math.isfinite(value) for line in self.lines for _, value in line.points)


async def ask_dashboard(prometheus: PrometheusServer, board: Board, span: Span) -> list[Answer]:
    """The answers to every query of the dashboard's JSON, in its order; places are `row/panel`."""
    document = json.loads((FOLDER / f"{board.name}.json").read_text(encoding="utf-8"))
    answers: list[Answer] = []
    row = ""
    for panel in document["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            continue
        for target in panel["targets"]:
            lines = await ask_expression(prometheus, target["expr"], target["legendFormat"], span)
            answers.append(Answer(f"{row}/{panel['title']}", target["expr"], lines))
    return answers


async def ask_expression(
    prometheus: PrometheusServer, expression: str, legend: str, span: Span
) -> list[Line]:
    """The lines of one expression."""
    found = await prometheus.query_range(
        span.fill_in(expression), start=span.start, end=span.end, step=span.step
    )
    name = "" if legend == "__auto" else legend
    return [Line(name=line_name(name, series.labels), points=series.points) for series in found]
