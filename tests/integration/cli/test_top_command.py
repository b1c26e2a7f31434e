"""`kubectl imports top`: one screen of a real database and API server, in a pipe, on a terminal and as a picture."""

import asyncio
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from cli_world import CliWorld, Screen, database_away
from rich.console import Console

from import_cli import top_command
from import_cli.sources import Sources
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.tasks import end_tasks
from import_local.parts.postgres import PostgresServer

PROGRESS = {"products_total": 40, "products_imported": 10, "images_total": 30, "images_imported": 30}


async def busy(cli: CliWorld) -> None:
    """A pool with a worker that runs a job, one that waits, some that ended, a provider in trouble."""
    await cli.pool("usual", {"readyReplicas": 2, "busyReplicas": 1, "desiredReplicas": 2})
    await cli.provider("shop")
    await cli.provider("lost", message="no answer", Ready="False", Reachable="False")
    await BreakerStore(cli.database).open_by_hand(cli.namespace, "lost", by="ada", reason="moves")
    await cli.row("runs", "acme-autumn")
    await cli.row("waits", "acme-winter")
    for number, state in enumerate(("COMPLETED", "COMPLETED", "COMPLETED", "FAILED")):
        await cli.row(f"ended-{number}")
        await cli.finish(f"ended-{number}", state, reason="" if state == "COMPLETED" else "NoAnswer")
    await cli.sql(
        """INSERT INTO imports.worker (worker_id, queue, namespace, pod_name, pod_uid, concurrency, state)
        VALUES ('w', 'product-imports', %s, 'usual-workers-1', 'u', 5, 'ready')""",
        cli.namespace,
    )
    await cli.sql(
        # What is told of it in whole minutes stays the same for 18 s.
        """UPDATE "ProductImportJob" SET status = 'IN_PROGRESS',
        "startedAt" = now() - interval '9 minutes 52 seconds', attempt = 2 WHERE id = 'runs'"""
    )
    await cli.sql(
        """INSERT INTO imports.claim (job_id, claim_id, worker_id, queue, dispatch, expires_at, live_progress)
        VALUES ('runs', gen_random_uuid(), 'w', 'product-imports', 1, now() + interval '1 hour', %s)""",
        json.dumps(PROGRESS),
    )


async def test_a_pipe_gets_one_screen_of_lines(cli: CliWorld) -> None:
    await busy(cli)
    result = await cli.invoke("top")
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert text.startswith(f"imports in {cli.namespace} · depth 2 · oldest waits ")
    assert " · 1 worker, 1 of 5 places taken · 1 products/min · " in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "product-imports unknown 1 1 – 0.8 75.0% 60 s" in lines
    assert "usual product-imports 2 1 2 2–50 –" in lines
    assert lines[lines.index(next(line for line in lines if line.startswith("PROVIDER"))) + 1].startswith(
        "lost shopify acme 0 False True Open"
    )
    assert "acme-autumn acme shop usual-workers-1 3 10 min 10/40 30 30 min 25%" in lines
    assert any(line.startswith("lost: ada") for line in lines)


async def test_programs_get_the_same(cli: CliWorld) -> None:
    await busy(cli)
    report = json.loads((await cli.invoke("top", "-o", "json")).stdout)
    assert report["depth"] == 2
    (pace,) = report["paces"]
    assert (pace["completed"], pace["failed"], pace["success"], pace["endsPerMinute"]) == (3, 1, 0.75, 0.8)
    assert round(pace["p95Seconds"]) == 60
    (job,) = report["runningJobs"]
    assert (job["name"], job["pod"], job["done"], job["total"], job["percent"]) == (
        *("acme-autumn", "usual-workers-1", 10, 40),
        25,
    )
    assert job["productsPerMinute"] == pytest.approx(1, abs=0.1)
    assert report["workers"][0]["jobs"] == 1


async def test_a_terminal_stays_and_bears_an_outage(
    cli: CliWorld, postgres_server: PostgresServer, database_url: str
) -> None:
    await busy(cli)
    screen = Screen()
    async with Sources(cli.namespace) as sources:
        console = Console(file=screen, force_terminal=True, width=160, height=50)
        task = asyncio.create_task(
            top_command.run(sources, console, once=False, every=0.05, svg=None, as_json=False)
        )
        try:
            await screen.until("acme-autumn", "━")
            await QueueStateStore(cli.database).set_paused(
                "product-imports", True, reason="upgrade", changed_by="ada"
            )
            await screen.until("is paused since", "(paused)")
            async with database_away(postgres_server.url(), database_url):
                await screen.until("Note: PostgreSQL is not available")
        finally:
            await end_tasks([task])


async def test_a_picture(cli: CliWorld, tmp_path: Path) -> None:
    await busy(cli)
    picture = tmp_path / "top.svg"
    result = await cli.invoke("top", "--svg", str(picture))
    assert (result.exit_code, result.stdout) == (0, f"Drew {picture}\n")
    text = "".join(ET.parse(picture).getroot().itertext()).replace("\u00a0", " ")  # noqa: S314 - our own
    assert "acme-autumn" in text
    assert "@font-face" not in picture.read_text()
    nowhere = await cli.invoke("top", "--svg", str(tmp_path / "no" / "top.svg"))
    assert nowhere.exit_code == 2
    assert "can't be written" in nowhere.stderr.replace("\n", " ")


async def test_without_a_database_the_objects_are_shown(cli: CliWorld) -> None:
    await busy(cli)
    result = await cli.invoke("top", "--once", DATABASE_URL=None)
    assert result.exit_code == 0
    assert "Note: DATABASE_URL is not set" in result.stdout
    assert "usual" in result.stdout
