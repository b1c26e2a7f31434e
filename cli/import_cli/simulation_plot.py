"""A picture of a comparison as SVG: cost against waiting, and the workers over time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from import_core.domain.simulation.outcome import Outcome
from import_core.domain.simulation.trace import Trace

WIDTH, HEIGHT = 960, 640
_LEFT, _RIGHT = 70, 690
_TOP, _MIDDLE, _BOTTOM = 50, 300, 590
_COLOURS = (
    *("#0b6e4f", "#1b9e77", "#66c2a5", "#1f4e9c", "#4f8fe6"),
    *("#d95f02", "#b2182b", "#ef8a62", "#7b3294", "#777777", "#bbbbbb"),
)


def plot(trace: Trace, outcomes: Sequence[Outcome]) -> str:
    """Above, one point for each policy: cost to the right, p95 of waiting upwards; below, workers by hour."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' font-family="sans-serif" font-size="12" fill="#222222">',
        f"<title>Scaling policies over the trace {escape(trace.name)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 24, f"Trace {trace.name}: {len(trace.arrivals)} jobs", size=16),
        *_costs(outcomes),
        *_courses(trace, outcomes),
        *_legend(outcomes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _costs(outcomes: Sequence[Outcome]) -> list[str]:
    bottom = _MIDDLE - 60
    dearest = max((found.worker_hours for found in outcomes), default=1.0) or 1.0
    longest = max((found.waiting_p95 for found in outcomes), default=1.0) or 1.0
    parts = [
        *_axes(_TOP, bottom),
        _text(_RIGHT, bottom + 32, "worker-hours", anchor="end"),
        _text(_LEFT, _TOP - 8, "p95 of waiting (s)"),
        _text(_LEFT - 6, _TOP + 4, f"{longest:.0f}", anchor="end"),
        _text(_LEFT - 6, bottom, "0", anchor="end"),
        _text(_RIGHT, bottom + 16, f"{dearest:.0f}", anchor="end"),
        _text(_LEFT, bottom + 16, "0"),
    ]
    for number, found in enumerate(outcomes):
        across = _LEFT + found.worker_hours / dearest * (_RIGHT - _LEFT)
        up = bottom - found.waiting_p95 / longest * (bottom - _TOP)
        parts.append(
            f'<circle cx="{across:.1f}" cy="{up:.1f}" r="6" fill="{_colour(number)}" fill-opacity="0.85">'
            f"<title>{escape(found.policy)}</title></circle>"
        )
    return parts


def _courses(trace: Trace, outcomes: Sequence[Outcome]) -> list[str]:
    top = _MIDDLE + 20
    most = max((sample.replicas for found in outcomes for sample in found.samples), default=1) or 1
    seconds = max(trace.seconds, 1.0)
    parts = [
        *_axes(top, _BOTTOM),
        _text(_LEFT, top - 8, "workers"),
        _text(_LEFT - 6, top + 4, str(most), anchor="end"),
        _text(_LEFT - 6, _BOTTOM, "0", anchor="end"),
        _text(_LEFT, _BOTTOM + 16, "0"),
        _text(_RIGHT, _BOTTOM + 16, f"{seconds / 3600:.1f} h", anchor="end"),
    ]
    for number, found in enumerate(outcomes):
        points = " ".join(
            f"{_LEFT + sample.at / seconds * (_RIGHT - _LEFT):.1f},"
            f"{_BOTTOM - sample.replicas / most * (_BOTTOM - top):.1f}"
            for sample in found.samples
            if sample.at <= seconds
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_colour(number)}" stroke-width="1.2"'
            ' stroke-opacity="0.8"/>'
        )
    return parts


def _legend(outcomes: Sequence[Outcome]) -> list[str]:
    parts = []
    for number, found in enumerate(outcomes):
        down = _TOP + 4 + number * 22
        parts.append(f'<circle cx="{_RIGHT + 30}" cy="{down}" r="6" fill="{_colour(number)}"/>')
        parts.append(_text(_RIGHT + 44, down + 4, found.policy))
    return parts


def _axes(top: float, bottom: float) -> list[str]:
    return [
        f'<path d="M{_LEFT} {top}V{bottom}H{_RIGHT}" fill="none" stroke="#888888"/>',
    ]


def _text(across: float, down: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{across}" y="{down}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
