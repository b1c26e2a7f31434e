"""docs/reference/cost.md and its picture, written from the estimate itself; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from infra.cost.estimate import estimate_month
from infra.cost.from_configuration import read_sizing
from infra.cost.picture import cost_picture
from infra.cost.prices import PriceList, read_prices
from infra.cost.report import (
    DOCUMENTS,
    DOCUMENTS_MONTH,
    LINE_HEADER,
    MONTH_HEADER,
    VOLUME_HEADER,
    Report,
    line_rows,
    make_report,
    markdown_table,
    month_rows,
    volume_rows,
)
from infra.cost.units import HOURS_PER_MONTH, CostError, vcpu_hours_of
from infra.cost.workload import Workload

ROOT = Path(__file__).parents[2]
TEMPLATE = Path(__file__).parent / "page.md"
PAGE = Path("docs/reference/cost.md")
PICTURE = Path("docs/pictures/cost-per-job.svg")
REGION = "us-east-1"
"""The page's region: the only one whose prices are nearly all verified."""
STACKS = ("production", "staging", "dev")


def generated_files(root: Path = ROOT) -> dict[Path, str]:
    """The page and the picture, by path below the project's root."""
    prices = read_prices(REGION)
    report = make_report(read_sizing("production", root, region=REGION), Workload(), prices)
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in _values(report, root).items():
        text = text.replace(f"@{name}@", value)
    return {PAGE: text, PICTURE: cost_picture(report)}


def _values(report: Report, root: Path) -> dict[str, str]:
    workload, prices, sizing = report.workload, report.prices, report.sizing
    node = prices.price(f"ec2 {sizing.worker_instance_type}").dollars * (1 + prices.automatic_nodes_share)
    fargate = _fargate_worker(prices)
    hundred, million = DOCUMENTS[100_000] * 100_000, DOCUMENTS[1_000_000] * 1_000_000
    documents_marginal = (million - hundred) / 900_000
    ours = {volume.jobs: volume.estimate.dollars for volume in report.volumes if volume.estimate}
    return {
        "region": REGION,
        "taken": prices.taken.isoformat(),
        "months": markdown_table(MONTH_HEADER, month_rows(report)),
        "volumes": markdown_table(VOLUME_HEADER, volume_rows(report)),
        "lines": markdown_table(LINE_HEADER, line_rows(report.average)),
        "stacks": markdown_table(("stack", "region", "quiet", "average", "peak"), list(_stack_rows(root))),
        "sensitivity": markdown_table(
            ("what a job is", "seconds of a worker", "100,000 jobs", "1,000,000 jobs"),
            list(_sensitivity(report)),
        ),
        "sources": "\n".join(f"- **{name}**: {text}" for name, text in prices.sources.items()),
        "automatic_type": sizing.worker_instance_type,
        "workers_per_node": str(sizing.workers_per_node),
        "worker_hour": f"{node / sizing.workers_per_node:.3f}",
        "fargate_hour": f"{fargate:.3f}",
        "busy": f"{workload.busy_seconds_per_job:.1f}",
        "paid": f"{workload.busy_seconds_per_job / workload.utilisation:.0f}",
        "first": f"{replace(workload, changed_share=1.0).busy_seconds_per_job:.0f}",
        "documents_month": f"{DOCUMENTS_MONTH:,}",
        "documents_marginal": f"{documents_marginal:.4f}",
        "documents_seconds": f"{documents_marginal / fargate * 3600:.0f}",
        "our_marginal": f"{(ours[1_000_000] - ours[100_000]) / 900_000:.4f}",
        "jobs_of_minimum": f"{_jobs_of_minimum(report):,.0f}",
    }


def _fargate_worker(prices: PriceList) -> float:
    """Dollars for an hour of an ECS task of 2 vCPU and 4 GB."""
    vcpus = prices.price("fargate vcpu").times(vcpu_hours_of(2)) / HOURS_PER_MONTH
    return vcpus + 4 * prices.price("fargate memory").dollars


def _jobs_of_minimum(report: Report) -> float:
    """Jobs a month that the least number of workers does."""
    seconds = report.workload.busy_seconds_per_job / report.workload.utilisation
    return report.sizing.minimum_workers * HOURS_PER_MONTH * 3600 / seconds


def _stack_rows(root: Path) -> Iterator[tuple[str, ...]]:
    for stack in STACKS:
        for region in (None, REGION):
            sizing = read_sizing(stack, root, region=region)
            report = make_report(sizing, Workload(), read_prices(sizing.region))
            months = (report.quiet, report.average, report.peak)
            yield (stack, sizing.region, *(f"{month.dollars:,.0f}" for month in months))


def _sensitivity(report: Report) -> Iterator[tuple[str, ...]]:
    workload = report.workload
    kinds = {
        "the assumption: 300 images, a tenth of them new": workload,
        "half of the images new": replace(workload, changed_share=0.5),
        "a first import: all images new": replace(workload, changed_share=1.0),
        "a minute of a worker, measured elsewhere": replace(workload, worker_seconds_per_job=60.0),
        "three minutes of a worker": replace(workload, worker_seconds_per_job=180.0),
    }
    for words, kind in kinds.items():
        cells = []
        for jobs in (100_000, 1_000_000):
            try:
                estimate = estimate_month(report.sizing, replace(kind, jobs=jobs), report.prices)
            except CostError:
                cells.append("more than the pool can do")
            else:
                cells.append(f"{estimate.dollars_per_job:.4f}")
        yield (words, f"{kind.busy_seconds_per_job:.1f}", *cells)


def main(arguments: list[str]) -> int:
    """Write the files, or with --check say which differ from what they are made of."""
    differing = []
    for path, text in generated_files().items():
        current = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).exists() else None
        if current == text:
            continue
        if arguments == ["--check"]:
            differing.append(path)
        else:
            (ROOT / path).write_text(text, encoding="utf-8")
    for path in differing:
        message = f"{path} differs from what it is made of (infra/prices.yaml, infra/cost, Pulumi.*.yaml)"
        print(f"{message}: run `make generate`", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
