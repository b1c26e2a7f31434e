"""The cost of a job by volume as a drawn picture: ours in its parts, and the documents' figure beside it."""

from __future__ import annotations

from html import escape

from infra.cost.estimate import Estimate
from infra.cost.report import Report

WIDTH, ROW, LEFT, RIGHT, TOP = 860, 76, 150, 90, 64
BAR = 22
# Told apart by their lightness too, and readable on white as on black.
COLOURS = ("#2f6f9f", "#5b9bd5", "#c0563f", "#d98b3a", "#7a9a3d", "#8a63a8", "#6b7280", "#b0a090")
DOCUMENTS_COLOUR = "#9ca3af"
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#1f2937}"
    ".small{font-size:12px}.title{font-size:16px;font-weight:600}"
    "@media (prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}}"
)


def cost_picture(report: Report) -> str:
    """Draw it as SVG; text in it says every number, so that nobody has to measure bars."""
    volumes = [(each.jobs, each.documents_per_job, each.estimate) for each in report.volumes if each.estimate]
    groups = list(dict.fromkeys(name for _, _, estimate in volumes for name in estimate.groups()))
    colours: dict[str, str] = dict(zip(groups, COLOURS, strict=False))
    highest = max(max(documents, _per_job(estimate)) for _, documents, estimate in volumes)
    scale = (WIDTH - LEFT - RIGHT) / highest
    title = f"US dollars for each job, by jobs a month ({report.sizing.stack}, {report.sizing.region})"
    parts = [f'<text class="title" x="16" y="28">{escape(title)}</text>']
    for row, (jobs, documents, estimate) in enumerate(volumes):
        y = TOP + row * ROW
        parts.append(f'<text x="16" y="{y + 28}">{jobs:,} jobs</text>')
        parts += _bar(estimate, y, scale, colours)
        width = documents * scale
        lower = y + BAR + 4
        parts.append(_box(LEFT, lower, width, DOCUMENTS_COLOUR))
        parts.append(_number(LEFT + width, lower, documents))
    legend = TOP + len(volumes) * ROW + 10
    parts += _legend([*colours.items(), ("the documents' figure", DOCUMENTS_COLOUR)], legend)
    height = legend + 60
    words = "; ".join(
        f"{jobs:,} jobs: {_per_job(estimate):.4f}, in the documents {documents:.3f}"
        for jobs, documents, estimate in volumes
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="words">'
        f'<title id="words">US dollars for each job: {escape(words)}</title><style>{STYLE}</style>'
        f'<rect class="page" width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _per_job(estimate: Estimate) -> float:
    return estimate.dollars_per_job or 0.0


def _bar(estimate: Estimate, y: float, scale: float, colours: dict[str, str]) -> list[str]:
    x, parts = float(LEFT), []
    for name, dollars in estimate.groups().items():
        width = dollars / estimate.jobs * scale
        parts.append(_box(x, y, width, colours[name]))
        x += width
    return [*parts, _number(x, y, _per_job(estimate))]


def _box(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'


def _number(x: float, y: float, dollars: float) -> str:
    return f'<text class="small" x="{x + 6:.1f}" y="{y + 16:.1f}">${dollars:.4f}</text>'


def _legend(entries: list[tuple[str, str]], top: float) -> list[str]:
    parts, columns = [], 5
    for place, (name, colour) in enumerate(entries):
        x, y = 16 + (place % columns) * 166, top + (place // columns) * 24
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text class="small" x="{x + 20}" y="{y + 12}">{escape(name)}</text>')
    return parts
