"""Writes a load test down: a page of Markdown with its figures, and pictures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from import_local.demo.manifests import TARGET_JOBS_PER_WORKER
from import_local.load.judging import (
    PROMISED_SECONDS,
    PROMISED_SHARE,
    SUCCESS_SHARE,
    LoadVerdict,
    judge_load,
    scaling_response,
)
from import_local.load.mix import SMALL_PRODUCTS, describe_mix
from import_local.load.plots import Panel, draw
from import_local.load.running import LoadRun, ProviderAnswers
from import_local.load.simulated import Simulated, simulate_load
from import_local.load.timeline import (
    MEBIBYTE,
    Sample,
    Series,
    peaks_by_role,
    series_of,
    series_of_processes,
)

PAGE = "load-test.md"
COURSE, MEMORY, TIMES, SIMULATED = (
    "load-test-course.svg",
    "load-test-memory.svg",
    "load-test-times.svg",
    "load-test-simulated.svg",
)


def write_load_report(folder: Path, run: LoadRun) -> LoadVerdict:
    """Write page and pictures into the folder, and return how it went."""
    verdict = judge_load(run.ended, seconds=run.seconds)
    simulated = simulate_load(run.planned, seconds=run.accepting_seconds)
    _draw_all(folder, run, simulated)
    (folder / PAGE).write_text("\n".join(_page(run, verdict, simulated)) + "\n", encoding="utf-8")
    return verdict


def course_panels(samples: Sequence[Sample]) -> list[Panel]:
    """Depth and workers over time."""
    return [
        Panel(
            "Jobs",
            "jobs",
            [
                series_of(samples, "due and running", lambda sample: sample.depth),
                series_of(samples, "running", lambda sample: sample.claimed),
                series_of(samples, "due later", lambda sample: sample.later),
                series_of(samples, "done", lambda sample: sample.completed),
            ],
        ),
        Panel(
            "Workers",
            "workers",
            [
                series_of(samples, "wanted", lambda sample: sample.desired),
                series_of(samples, "ready", lambda sample: sample.ready),
            ],
            steps=True,
        ),
    ]


def memory_panels(samples: Sequence[Sample]) -> list[Panel]:
    """Memory of every process over time, ours and the servers."""
    series = [
        Series(each.name, each.role, tuple((at, size / MEBIBYTE) for at, size in each.points))
        for each in series_of_processes(samples, lambda process: process.memory)
    ]
    ours = [each for each in series if each.role in {"worker", "operator", "gateway"}]
    return [
        Panel("Memory of each operator, gateway and worker", "MiB", ours),
        Panel("Memory of each server", "MiB", [each for each in series if each not in ours]),
    ]


def _draw_all(folder: Path, run: LoadRun, simulated: Simulated) -> None:
    title = f"{len(run.planned):,} imports at once on {run.taken.split(', load')[0]}"
    draw(folder / COURSE, course_panels(run.samples), title=title)
    draw(folder / MEMORY, memory_panels(run.samples), title=title)
    done = [
        Series(f"{size}", f"{size:,} products", _shares_over_time(run, size))
        for size in sorted({each.products for each in run.planned})
    ]
    draw(
        folder / TIMES,
        [Panel("Share of the imports that were done, by their size", "%", done, levels={"target": 95.0})],
        title=title,
    )
    draw(
        folder / SIMULATED,
        [
            Panel("Jobs due and running (simulated)", "jobs", simulated.depth(), steps=True),
            Panel("Workers asked for (simulated)", "workers", simulated.workers(), steps=True),
        ],
        title=f"SIMULATED, not measured: the same imports on up to {simulated.fleets.maximum} workers",
    )


def _shares_over_time(run: LoadRun, products: int) -> tuple[tuple[float, float], ...]:
    own = [each for each in run.ended if each.plan.products == products]
    ends = sorted(
        each.ended_after for each in own if each.ended_after is not None and each.state == "COMPLETED"
    )
    points = [(end, 100.0 * number / len(own)) for number, end in enumerate(ends, start=1)]
    return ((0.0, 0.0), *points)


def _page(run: LoadRun, verdict: LoadVerdict, simulated: Simulated) -> list[str]:
    errors = sum(each.item_errors for each in run.ended)
    return [
        "# Load test: the figures of one run",
        "",
        f"Written by `make load-test`: {run.taken}. How to run it, and what it does: [README.md](README.md).",
        "",
        "## What was submitted",
        "",
        "| products of an import | imports | products in all | images in all |",
        "| ---: | ---: | ---: | ---: |",
        *(
            f"| {line.products:,} | {line.jobs:,} | {line.all_products:,} | {line.all_images:,} |"
            for line in describe_mix(run.planned)
        ),
        "",
        "A company, a connection and a catalogue for each; images are of 32 to 64 pixels, two thumbnails"
        f" each. {_calls(run.answers)} {len(run.accepted):,} imports were accepted within"
        f" {run.accepting_seconds:.1f} s; intake refused {run.refused} times before.",
        "",
        "## What came of it",
        "",
        "| what | this run | target |",
        "| --- | ---: | ---: |",
        f"| imports that succeeded | {verdict.success_share:.2%} ({verdict.succeeded:,} of {verdict.jobs:,})"
        f" | {SUCCESS_SHARE:.0%} |",
        f"| imports under {SMALL_PRODUCTS} products done within {PROMISED_SECONDS / 60:.0f} minutes"
        f" | {verdict.in_time_share:.1%} ({verdict.small_in_time:,} of {verdict.small:,}) | {PROMISED_SHARE:.0%} |",
        f"| all imports done after | {verdict.seconds:.0f} s | – |",
        f"| products and image rows in PostgreSQL | {run.products:,} and {run.image_rows:,} | – |",
        f"| products or images that failed alone | {errors:,} | – |",
        f"| tries that failed and were repeated | {sum(each.attempts for each in run.ended):,} | – |",
        *_scaling_rows(run),
        "",
        f"![Jobs and workers over time]({COURSE})",
        "",
        "| products of an import | succeeded | waited p50 | done p50 | done p95 | last done |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {size.products:,} | {size.succeeded:,} of {size.jobs:,} | {size.waited_p50:.0f} s"
            f" | {size.done_p50:.0f} s | {size.done_p95:.0f} s | {size.done_last:.0f} s |"
            for size in verdict.sizes
        ),
        "",
        f"![Share of the imports done over time]({TIMES})",
        "",
        *_memory(run),
        *_simulated(simulated),
    ]


def _memory(run: LoadRun) -> list[str]:
    return [
        "## Memory",
        "",
        "Resident memory, for PostgreSQL what its processes have for themselves.",
        "",
        "| process | most at once | largest of one | all together at most |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {role} | {number} | {one / MEBIBYTE:.0f} MiB | {together / MEBIBYTE:.0f} MiB |"
            for role, number, one, together in peaks_by_role(run.samples)
        ),
        "",
        f"![Memory of each process over time]({MEMORY})",
        "",
    ]


def _calls(answers: ProviderAnswers) -> str:
    def failed(counts: dict[int, int]) -> str:
        total, wrong = sum(counts.values()), counts.get(503, 0)
        return f"{wrong:,} of {total:,} ({wrong / total:.2%})" if total else "none"

    return (
        f"Of the calls of providers, {failed(dict(answers.calls))} were answered with 503, of those for images"
        f" {failed(dict(answers.images))}."
    )


def _scaling_rows(run: LoadRun) -> list[str]:
    response = scaling_response(run.samples, jobs_per_worker=TARGET_JOBS_PER_WORKER)
    if response is None:
        return ["| the fleet | did not grow | – |"]

    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f} s"

    return [
        f"| workers | {response.before} → {response.most} | – |",
        f"| depth asks for more → more workers wanted | {seconds(response.decided)}"
        f" (looked at every {run.options.every_seconds:g} s) | 120 s |",
        f"| depth asks for more → all of them ready | {seconds(response.all_ready)} | – |",
    ]


def _simulated(simulated: Simulated) -> list[str]:
    given, fleets = simulated.assumptions, simulated.fleets
    return [
        f"## Simulated: a cluster of up to {fleets.maximum} workers",
        "",
        "**This part is simulated, not measured.** The same imports, accepted in the same time, through the scaling"
        f" simulator ([scaling.md](../scaling.md)): {fleets.minimum} to {fleets.maximum} workers of 2 vCPU,"
        f" {given.concurrency} imports at once each; {given.seconds_per_job:g} s for an import,"
        f" {given.seconds_per_product * 1000:g} ms for a product and {given.seconds_per_image * 1000:g} ms for an image"
        f" of a photograph's size; a worker is ready {given.pod_start:g} s after its node, a node"
        f" {given.node_start:g} s after it is asked for. Each connection gets 13 products in 1.5 s from Shopify and 100"
        " in a minute from Roastify, as the sample providers allow.",
        "",
        "| policy | waited p50 | waited p95 | small imports late | workers at most |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| `{found.policy}` | {found.waiting_p50:.0f} s | {found.waiting_p95:.0f} s"
            f" | {found.slo_misses:,} of {found.slo_jobs:,} | {found.most_workers} |"
            for found in simulated.outcomes
        ),
        "",
        f"By `{simulated.default.policy}` the last import would be done after {simulated.done_seconds:.0f} s.",
        "",
        f"![Simulated: jobs and workers over time]({SIMULATED})",
    ]
