"""The screen of top, drawn without any server."""

import io
from datetime import UTC, datetime

from rich.console import Console

from import_cli.status_report import FROM_ROWS, Depth, Held, Jobs, Pool, Provider, StatusReport
from import_cli.top_report import QueueLine, RunningJob, TopReport
from import_cli.top_view import PROVIDERS, RUNNING, render, show
from import_core.adapters.postgres import jobs
from import_core.adapters.postgres.paces import Pace
from import_core.adapters.postgres.queue_state import QueueState

NOW = datetime(2026, 1, 1, 10, 14, 2, tzinfo=UTC)
POD = "product-imports-workers-54d8d5485b-pgdk4"


def report(*, jobs_running: int = 2, providers: int = 2) -> TopReport:
    status = StatusReport(
        "imports",
        [Pool("product-imports", "product-imports", 9, 4, 4, 5, 2, 50, "depth 41 asks for 5 workers")],
        [
            Provider(
                f"shop-{n}", "shopify", "acme", "False", "True", "False", f"[b]refused\x1b[2J {'x' * 300}"
            )
            for n in range(providers)
        ],
        Jobs(Depth(41), {}, FROM_ROWS, [], Held()),
        [],
    )
    running = [
        RunningJob(f"acme-{n}", "acme", "shop-1", POD, 0, 10, 40, 30, 25, 600.0 - n, None)
        for n in range(jobs_running)
    ]
    line = QueueLine(
        "product-imports",
        QueueState(),
        jobs.Depth(due=jobs.DEPTH_CAP, claimed=20, busy_workers=4),
        Pace(completed=197, failed=3, p95=125.0, seconds=300.0),
    )
    return TopReport(NOW, status, [line], [], running, 720.0)


def drawn(width: int, what: TopReport, *, terminal: bool = True) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=terminal, color_system=None)
    show(what, console)
    return output.getvalue().splitlines()


def test_each_row_is_one_line_whose_message_alone_gives_way() -> None:
    lines = drawn(132, report())
    (shop,) = [line for line in lines if line.startswith("shop-0")]
    assert shop.split()[:7] == ["shop-0", "shopify", "acme", "0", "True", "False", "Closed"]
    assert shop.rstrip().endswith("…")
    assert "\x1b[2J" not in shop
    assert "[b]refused" in shop
    (job,) = [line for line in lines if line.startswith("acme-0")]
    assert job.split()[:8] == ["acme-0", "acme", "shop-1", "…54d8d5485b-pgdk4", "1", "10", "min", "10/40"]
    assert "unknown" in job


def test_a_pipe_gets_everything_whole() -> None:
    lines = [" ".join(line.split()) for line in drawn(80, report(), terminal=False)]
    assert lines[0] == ("imports in imports · depth 41 · oldest waits 12 min · 2 products/min · 10:14:02 UTC")
    assert "product-imports unknown over 20,000 20 – 40.0 98.5% 2 min" in lines
    assert f"acme-0 acme shop-1 {POD} 1 10 min 10/40 30 unknown 25%" in lines


def test_what_does_not_fit_is_counted() -> None:
    lines = drawn(132, report(jobs_running=RUNNING + 3, providers=PROVIDERS + 1))
    assert "… and 3 more" in lines
    assert "… and 1 more" in lines


def test_the_screen_is_one_thing_to_draw() -> None:
    assert Console(width=80).render_lines(render(report()))
