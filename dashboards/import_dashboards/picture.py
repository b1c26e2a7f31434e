"""A picture of a dashboard as SVG, from the answers that Prometheus gave to its queries."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from import_dashboards.model import Board, Panel
from import_dashboards.words import in_words

WIDTH = 1200
_COLUMN, _LINE, _GAP, _HEADING = WIDTH / 24, 28, 8, 30
_PALETTE = (
    *("#0b6e4f", "#1f4e9c", "#d95f02", "#7b3294", "#b2182b", "#1b9e77", "#4f8fe6", "#ef8a62"),
    *("#8c6d31", "#636363", "#66c2a5", "#e7298a", "#a6761d", "#252525"),
)
_COLOURS = {
    "green": "#1a7f37",
    "yellow": "#9a6700",
    "orange": "#bc4c00",
    "red": "#cf222e",
    "blue": "#1f4e9c",
}
_LIST_ROWS = 3
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_LEGEND_CHARACTERS = 5.6
"""Mean width of a character of the legend, in units of the picture."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series of an answer: its name, and values by time."""

    name: str
    points: Sequence[tuple[float, float]]

    @property
    def known(self) -> list[tuple[float, float]]:
        """The points that have a value."""
        return [point for point in self.points if math.isfinite(point[1])]


Answers = Mapping[str, Sequence[Line]]
"""Lines of each panel, by the panel's title and its row's: `row/title`."""


def line_name(legend: str, labels: Mapping[str, str]) -> str:
    """The name of a series, as Grafana makes it of a legend."""
    return _LABEL.sub(lambda found: labels.get(found.group(1), ""), legend).strip()


def picture(board: Board, answers: Answers, *, start: float, end: float) -> str:
    """All panels at their places; `start` and `end` in seconds since the epoch."""
    parts: list[str] = []
    top = 46.0
    for row in board.rows:
        parts.append(_text(_GAP, top + 19, row.title, size=14, weight="bold"))
        top += _HEADING
        left, tallest = 0.0, 0.0
        for panel in row.panels:
            if left + panel.width > 24:
                top, left, tallest = top + tallest, 0.0, 0.0
            box = _Box(
                left * _COLUMN + _GAP / 2, top, panel.width * _COLUMN - _GAP, panel.height * _LINE - _GAP
            )
            parts.extend(_panel(panel, answers.get(f"{row.title}/{panel.title}", ()), box, start, end))
            left, tallest = left + panel.width, max(tallest, float(panel.height * _LINE))
        top += tallest
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + _GAP:.0f}" role="img"'
        ' font-family="sans-serif" font-size="11" fill="#222222">',
        f"<title>{escape(board.title)}: {escape(board.answers)}</title>",
        '<rect width="100%" height="100%" fill="#f4f5f5"/>',
        _text(_GAP, 28, board.title, size=18, weight="bold"),
        _text(WIDTH - _GAP, 28, f"{in_words(end - start, 's')} of a real installation", anchor="end"),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


def _panel(panel: Panel, lines: Sequence[Line], box: _Box, start: float, end: float) -> Iterator[str]:
    yield (
        f'<rect x="{box.left:.1f}" y="{box.top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="3"'
        f' fill="#ffffff" stroke="#d8d8d8"><title>{escape(panel.meaning)}</title></rect>'
    )
    yield _text(box.left + 8, box.top + 16, panel.title, size=12, weight="bold")
    shown = [line for line in lines if line.known]
    if not shown:
        yield _text(
            box.left + box.width / 2, box.top + box.height / 2 + 8, "nothing measured", anchor="middle"
        )
    elif panel.kind == "number":
        yield from _numbers(panel, shown, box)
    else:
        yield from _courses(panel, shown, box, start, end)


def _numbers(panel: Panel, lines: Sequence[Line], box: _Box) -> Iterator[str]:
    """One large number with its name below; of several, a list."""
    # As Grafana rounds a plain number; units round by themselves.
    digits = panel.decimals if panel.unit == "short" else None
    last = [(line.name, line.known[-1][1]) for line in lines]
    values = [(name, value if digits is None else round(value, digits)) for name, value in last]
    shown = [
        (name, *panel.words.get(round(value), (in_words(value, panel.unit), _colour_of(panel, value))))
        for name, value in values
    ]
    if len(shown) == 1:
        name, text, colour = shown[0]
        middle = box.left + box.width / 2
        yield _text(
            middle, box.top + 62, text, anchor="middle", size=26, weight="bold", colour=_COLOURS[colour]
        )
        yield _text(middle, box.bottom - 10, name, anchor="middle", size=10, colour="#57606a")
        return
    for number, (name, text, colour) in enumerate(shown[:_LIST_ROWS]):
        down = box.top + 40 + 18 * number
        yield _text(box.left + 12, down, name)
        yield _text(box.right - 12, down, text, anchor="end", size=13, weight="bold", colour=_COLOURS[colour])
    if len(shown) > _LIST_ROWS:
        yield _text(box.left + 12, box.bottom - 4, f"and {len(shown) - _LIST_ROWS} more", size=10)


def _colour_of(panel: Panel, value: float) -> str:
    reached = [colour for limit, colour in panel.thresholds if value >= limit]
    return reached[-1] if reached else "green"


def _courses(panel: Panel, lines: Sequence[Line], box: _Box, start: float, end: float) -> Iterator[str]:
    legend = list(_legend([line.name for line in lines], box))
    plot = _Box(box.left + 52, box.top + 28, box.width - 64, box.height - 50 - 14 * len(legend))
    stacked = _stack(lines) if panel.kind == "stack" else [(line, None) for line in lines]
    highest = max(value for line, _ in stacked for _, value in line.known)
    size = 2**20 if panel.unit == "bytes" else 1
    ceiling = panel.maximum or _round_up(highest / size) * size
    place = _Place(plot, start, end, ceiling)
    for share in (0.0, 0.5, 1.0):
        down = plot.bottom - share * plot.height
        yield f'<path d="M{plot.left:.1f} {down:.1f}H{plot.right:.1f}" stroke="#e3e3e3"/>'
        yield _text(plot.left - 6, down + 4, in_words(ceiling * share, panel.unit), anchor="end", size=10)
    yield _text(plot.left, plot.bottom + 13, "−" + in_words(end - start, "s"), size=10)
    yield _text(plot.right, plot.bottom + 13, "now", anchor="end", size=10)
    for limit, colour in panel.thresholds:
        if limit <= ceiling:
            yield (
                f'<path d="M{plot.left:.1f} {place.down(limit):.1f}H{plot.right:.1f}"'
                f' stroke="{_COLOURS[colour]}" stroke-dasharray="4 4"/>'
            )
    for number, (line, floor) in enumerate(stacked):
        yield from _course(line, floor, place, _PALETTE[number % len(_PALETTE)])
    for position, words in enumerate(legend):
        yield from _legend_row(words, box, box.bottom - 8 - 14 * (len(legend) - 1 - position))


@dataclass(frozen=True)
class _Place:
    plot: _Box
    start: float
    end: float
    ceiling: float

    def across(self, at: float) -> float:
        return self.plot.left + (at - self.start) / max(self.end - self.start, 1.0) * self.plot.width

    def down(self, value: float) -> float:
        return self.plot.bottom - min(max(value, 0.0), self.ceiling) / self.ceiling * self.plot.height

    def point(self, at: float, value: float) -> str:
        return f"{self.across(at):.1f},{self.down(value):.1f}"


def _course(line: Line, floor: Sequence[float] | None, place: _Place, colour: str) -> Iterator[str]:
    points = [place.point(at, value) for at, value in line.known]
    if floor is not None:
        below = [place.point(at, value) for (at, _), value in zip(line.known, floor, strict=True)]
        area = " ".join([*points, *reversed(below)])
        yield f'<polygon points="{area}" fill="{colour}" fill-opacity="0.35"/>'
    if len(points) == 1:
        yield f'<circle r="2" cx="{points[0].split(",")[0]}" cy="{points[0].split(",")[1]}" fill="{colour}"/>'
    yield (
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.6">'
        f"<title>{escape(line.name)}</title></polyline>"
    )


def _stack(lines: Sequence[Line]) -> list[tuple[Line, list[float] | None]]:
    """Each line on top of those before it, with what is below it."""
    sums: dict[float, float] = {}
    stacked: list[tuple[Line, list[float] | None]] = []
    for line in lines:
        floor = [sums.get(at, 0.0) for at, _ in line.known]
        for at, value in line.known:
            sums[at] = sums.get(at, 0.0) + value
        stacked.append((Line(name=line.name, points=[(at, sums[at]) for at, _ in line.known]), floor))
    return stacked


def _legend(names: Sequence[str], box: _Box) -> Iterator[list[tuple[int, str]]]:
    """Rows of numbered names that fit the box, two at most; the rest is counted."""
    rows: list[list[tuple[int, str]]] = [[]]
    used = 0.0
    for number, name in enumerate(names):
        if not name:
            continue
        width = 20 + _LEGEND_CHARACTERS * len(name)
        if used + width > box.width - 100 and rows[-1]:
            if len(rows) == 2:
                rows[-1].append((-1, f"and {len(names) - number} more"))
                break
            rows.append([])
            used = 0.0
        rows[-1].append((number, name))
        used += width
    return iter([row for row in rows if row])


def _legend_row(words: Sequence[tuple[int, str]], box: _Box, down: float) -> Iterator[str]:
    across = box.left + 12
    for number, name in words:
        if number >= 0:
            colour = _PALETTE[number % len(_PALETTE)]
            yield f'<rect x="{across:.1f}" y="{down - 7:.1f}" width="9" height="4" fill="{colour}"/>'
        yield _text(across + 13, down, name, size=10)
        across += 20 + _LEGEND_CHARACTERS * len(name)


def _round_up(highest: float) -> float:
    """The next of 1, 2, 5, 10 … above it."""
    if highest <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(highest))
    return next(size * step for step in (1, 2, 5, 10) if size * step >= highest * 0.999)


def _text(
    across: float,
    down: float,
    words: str,
    *,
    anchor: str = "start",
    size: int = 11,
    weight: str = "normal",
    colour: str = "#222222",
) -> str:
    return (
        f'<text x="{across:.1f}" y="{down:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' font-weight="{weight}" fill="{colour}">{escape(words)}</text>'
    )
