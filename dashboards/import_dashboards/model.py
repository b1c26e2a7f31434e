"""What a dashboard consists of, as plain values: rows of panels, each with its question and its queries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"
RATE = "$__rate_interval"
_METRIC = re.compile(r"\b((?:imports|process)_[a-z0-9_]+)(\{)?")
_SELECTOR = 'namespace=~"$namespace"'
_NOTHING = " or on () vector(0)"


@dataclass(frozen=True, kw_only=True)
class Query:
    """A question to Prometheus, and the name of each series of its answer (`{{label}}` stands for a label)."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture. `unit` is Grafana's word; a threshold is the value from which on a colour holds."""

    title: str
    meaning: str
    queries: tuple[Query, ...]
    kind: Literal["number", "lines", "stack"] = "lines"
    unit: str = "short"
    decimals: int | None = None
    width: int = 8
    height: int = 7
    thresholds: tuple[tuple[float, str], ...] = ()
    words: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """What is shown instead of a value: text and colour."""
    maximum: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels below a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard; `name` is its file's name and, with the prefix `imports-`, its id in Grafana."""

    name: str
    title: str
    answers: str
    """The question that a person on call asks it."""
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels in their order."""
        return tuple(panel for row in self.rows for panel in row.panels)


def ask(expression: str, legend: str = "") -> Query:
    """A query of the chosen namespaces only: every metric in the expression gets the selector."""

    def select(found: re.Match[str]) -> str:
        metric, open_brace = found.groups()
        return f"{metric}{{{_SELECTOR}{', ' if open_brace else '}'}"

    return Query(expression=_METRIC.sub(select, expression), legend=legend)


def led(metric: str) -> str:
    """A gauge as the leading operator tells it: the other replicas' values stand still."""
    return f"({metric} and on (namespace, pod) imports_leading == 1)"


def rate(counter: str, by: str = "") -> str:
    """Events of a counter a second, over all pods, apart by labels."""
    return f"sum{_by(by)} (rate({counter}[{RATE}]))"


def rare(expression: str) -> str:
    """Zero instead of nothing where what is counted has never happened."""
    return expression + _NOTHING


def without_zero(expression: str) -> str:
    """The expression without what `rare` added: nothing where nothing has happened."""
    return expression.removesuffix(_NOTHING)


def quantile(share: float, histogram: str, by: str = "") -> str:
    """The value that this share of a histogram's observations stays below."""
    labels = f"{by}, le" if by else "le"
    name, brace, selector = histogram.partition("{")
    return f"histogram_quantile({share}, sum by ({labels}) (rate({name}_bucket{brace}{selector}[{RATE}])))"


def quantiles(histogram: str) -> tuple[Query, ...]:
    """Median, p95 and p99 of a histogram over all its labels."""
    return tuple(ask(quantile(share, histogram), f"p{share * 100:.0f}") for share in (0.5, 0.95, 0.99))


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
