"""An estimate as people and programs read it: a table for the terminal, JSON, and the comparison by volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from infra.cost.estimate import WORKERS, Estimate, estimate_month, estimate_peak, estimate_quiet
from infra.cost.prices import PriceList
from infra.cost.sizing import Sizing
from infra.cost.units import CostError
from infra.cost.workload import Workload

# What the documents say that this project was asked from: US dollars for each job, at so many jobs a month,
# and for the month as a whole.
DOCUMENTS = {50_000: 0.032, 100_000: 0.021, 500_000: 0.009, 1_000_000: 0.007}
DOCUMENTS_MONTH = 1_600


@dataclass(frozen=True, slots=True)
class Volume:
    """So many jobs a month: the documents' figure and ours, None where the pool can't do so many."""

    jobs: int
    documents_per_job: float
    estimate: Estimate | None


@dataclass(frozen=True, slots=True)
class Report:
    """All that is said about one stack."""

    sizing: Sizing
    workload: Workload
    prices: PriceList
    quiet: Estimate
    average: Estimate
    peak: Estimate
    volumes: tuple[Volume, ...]


def make_report(sizing: Sizing, workload: Workload, prices: PriceList) -> Report:
    """Estimate the three months and the volumes; raise CostError where the average month can't be done."""
    return Report(
        sizing=sizing,
        workload=workload,
        prices=prices,
        quiet=estimate_quiet(sizing, workload, prices),
        average=estimate_month(sizing, workload, prices),
        peak=estimate_peak(sizing, workload, prices, jobs=max(DOCUMENTS)),
        volumes=tuple(
            Volume(jobs, documents, _possible(sizing, replace(workload, jobs=jobs), prices))
            for jobs, documents in DOCUMENTS.items()
        ),
    )


def _possible(sizing: Sizing, workload: Workload, prices: PriceList) -> Estimate | None:
    try:
        return estimate_month(sizing, workload, prices)
    except CostError:
        return None


def month_rows(report: Report) -> list[tuple[str, ...]]:
    """Part of the stack, and its dollars in a quiet, an average and a peak month; then the sums."""
    months = (report.quiet, report.average, report.peak)
    names = list(dict.fromkeys(name for month in months for name in month.groups()))
    rows = [(name, *(f"{month.groups().get(name, 0):,.0f}" for month in months)) for name in names]
    return [
        *rows,
        ("together", *(f"{month.dollars:,.0f}" for month in months)),
        ("of that on unverified prices", *(f"{month.unverified_dollars:,.0f}" for month in months)),
        ("jobs", *(f"{month.jobs:,.0f}" for month in months)),
        ("workers on average", *(f"{month.mean_workers:,.1f}" for month in months)),
    ]


def volume_rows(report: Report) -> list[tuple[str, ...]]:
    """Jobs a month, workers, dollars a month, dollars for each job, the documents' dollars, the difference."""
    rows: list[tuple[str, ...]] = []
    for volume in report.volumes:
        estimate = volume.estimate
        documents = f"{volume.documents_per_job:.3f}"
        if estimate is None or estimate.dollars_per_job is None:
            rows.append((f"{volume.jobs:,}", "–", "more than the pool can do", "–", documents, "–"))
            continue
        change = estimate.dollars_per_job / volume.documents_per_job - 1
        rows.append(
            (
                f"{volume.jobs:,}",
                f"{estimate.mean_workers:.1f}",
                f"{estimate.dollars:,.0f}",
                f"{estimate.dollars_per_job:.4f}",
                documents,
                f"{change:+.0%}",
            )
        )
    return rows


MONTH_HEADER = ("US dollars a month", "quiet", "average", "peak")
VOLUME_HEADER = ("jobs a month", "workers", "dollars a month", "for each job", "the documents'", "difference")


def line_rows(estimate: Estimate) -> list[tuple[str, ...]]:
    """Each line of one month: part, what, dollars, whether its price is verified."""
    return [
        (line.group, line.text, f"{line.dollars:,.2f}", "yes" if line.verified else "no")
        for line in estimate.lines
    ]


LINE_HEADER = ("part", "what", "dollars", "price verified")


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns for the terminal: words to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [_text_row(header, widths), "  ".join("-" * width for width in widths)]
    return "\n".join([*lines, *(_text_row(row, widths) for row in rows)])


def _text_row(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        row[0].ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
    ]
    return "  ".join(cells).rstrip()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same for a page."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_text(report: Report) -> str:
    """What `make cost` prints."""
    return "\n\n".join(
        [
            f"Stack {report.sizing.stack} in {report.sizing.region}, prices of {report.prices.taken}"
            " (infra/prices.yaml), on demand, without taxes and discounts.",
            text_table(MONTH_HEADER, month_rows(report)),
            text_table(VOLUME_HEADER, volume_rows(report)),
            f"A job takes {report.workload.busy_seconds_per_job:.1f} s of a worker, which is busy"
            f" {report.workload.utilisation:.0%} of its time. What is assumed, and why the documents differ:"
            " docs/reference/cost.md",
        ]
    )


def as_json(report: Report) -> dict[str, Any]:
    """The same for programs; dollars are unrounded."""

    def month(estimate: Estimate) -> dict[str, Any]:
        return {
            "jobs": estimate.jobs,
            "workers": estimate.mean_workers,
            "dollars": estimate.dollars,
            "dollarsPerJob": estimate.dollars_per_job,
            "unverifiedDollars": estimate.unverified_dollars,
            "workersDollars": estimate.groups().get(WORKERS, 0.0),
            "lines": [asdict(line) for line in estimate.lines],
        }

    return {
        "stack": report.sizing.stack,
        "region": report.sizing.region,
        "currency": "USD",
        "pricesTaken": report.prices.taken.isoformat(),
        "workload": {
            **asdict(report.workload),
            "busy_seconds_per_job": report.workload.busy_seconds_per_job,
        },
        "quiet": month(report.quiet),
        "average": month(report.average),
        "peak": month(report.peak),
        "volumes": [
            {
                "jobs": volume.jobs,
                "documentsDollarsPerJob": volume.documents_per_job,
                "estimate": None if volume.estimate is None else month(volume.estimate),
            }
            for volume in report.volumes
        ],
    }
