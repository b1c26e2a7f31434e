"""Draws runs as SVG: lines over time on one axis each, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from import_local.errors import LocalError
from import_local.load.timeline import Series

PAPER, INK, GRID = "#ffffff", "#24292f", "#d0d7de"
"""The background is drawn too: a page's own may be dark."""
COLOURS = ("#0550ae", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#57606a", "#1b7c83", "#bc4c00")
"""Each has a contrast of at least 4.5 to the paper."""
WIDTH, HEIGHT = 9.0, 3.1
"""Of one panel, in inches."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One axis: lines over time; series of the same role share a colour and one line of the legend."""

    title: str
    unit: str
    series: Sequence[Series]
    marks: Sequence[tuple[float, str]] = ()
    """Moments that are marked, such as faults, each with its kind."""
    levels: Mapping[str, float] | None = None
    """Horizontal lines: what is promised."""
    steps: bool = False


def draw(path: Path, panels: Sequence[Panel], *, title: str, minutes: bool = True) -> None:
    """Write the panels below each other into one SVG file. Raises LocalError where matplotlib is missing."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise LocalError(
            "plots need matplotlib: install the extra `dev` (pip install --editable '.[dev]')"
        ) from error
    # The same data gives the same file: else every run would change the pictures' ids.
    with rc_context({"svg.hashsalt": path.name, "font.size": 9, "svg.fonttype": "none"}):
        figure = Figure(figsize=(WIDTH, HEIGHT * len(panels)), facecolor=PAPER, layout="constrained")
        figure.suptitle(title, color=INK, fontsize=11)
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for row, panel in zip(axes[:, 0], panels, strict=True):
            _draw_panel(row, panel, 60.0 if minutes else 1.0)
        axes[-1, 0].set_xlabel("minutes" if minutes else "seconds", color=INK)
        figure.savefig(path, format="svg", metadata={"Date": None, "Title": title})


def _draw_panel(axis: object, panel: Panel, scale: float) -> None:
    from matplotlib.axes import Axes

    if not isinstance(axis, Axes):
        raise TypeError("a panel is drawn on axes")
    axis.set_facecolor(PAPER)
    axis.set_title(panel.title, loc="left", color=INK)
    axis.set_ylabel(panel.unit, color=INK)
    axis.tick_params(colors=INK)
    axis.grid(color=GRID, linewidth=0.6)
    for spine in axis.spines.values():
        spine.set_color(GRID)
    colours: dict[str, str] = {}
    for series in panel.series:
        label = series.role if series.role not in colours else "_nolegend_"
        colour = colours.setdefault(series.role, COLOURS[len(colours) % len(COLOURS)])
        across = [at / scale for at, _ in series.points]
        up = [value for _, value in series.points]
        if panel.steps:
            axis.step(across, up, where="post", color=colour, linewidth=1.3, label=label)
        else:
            axis.plot(across, up, color=colour, linewidth=1.3, label=label)
    for name, level in (panel.levels or {}).items():
        axis.axhline(level, color=INK, linewidth=0.9, linestyle="--", label=name)
    for at, _ in panel.marks:
        axis.axvline(at / scale, color=INK, linewidth=0.5, alpha=0.35)
    axis.set_ylim(bottom=0)
    if colours or panel.levels:
        axis.legend(
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
            labelcolor=INK,
            fontsize=8,
        )
