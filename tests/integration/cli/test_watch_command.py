"""`kubectl imports watch` against a real API server and PostgreSQL, with both going away meanwhile."""

import asyncio
from typing import Any

import pytest
from cli_world import CliWorld, Wire, database_away

from import_cli import following
from import_cli.sources import UsageError
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import pool
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.domain.errors import KubernetesUnavailableError
from import_core.domain.jobs import JobState, Message, Progress
from import_local.parts.postgres import PostgresServer

RUNNING: dict[str, Any] = {
    "phase": "Running",
    "progress": {
        "productsTotal": 8,
        "productsImported": 1,
        "productsUnchanged": 1,
        "imagesImported": 3,
        "percent": 25,
    },
    "message": "2 of 8 products done",
}
DONE: dict[str, Any] = {
    "phase": "Succeeded",
    "progress": {"productsTotal": 8, "productsImported": 8, "percent": 100},
    "message": "8 products imported, 0 unchanged, 0 images",
}


async def queued(cli: CliWorld, name: str = "acme-autumn", **status: Any) -> str:
    """Create a job that is recorded and waits; returns its id."""
    job_id = await cli.job(name)
    await cli.row(job_id, name)
    await cli.job_status(name, phase="Queued", jobId=job_id, **status)
    return job_id


async def hand_over(cli: CliWorld, job_id: str) -> None:
    await cli.sql(
        """UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() WHERE id = %s""", job_id
    )


async def test_a_job_is_followed_from_the_queue_to_its_success(cli: CliWorld) -> None:
    for name in ("done", "runs", "before-1", "before-2"):
        await cli.row(name, name)
    await cli.finish("done", JobState.COMPLETED.value)
    await hand_over(cli, "runs")
    assert await ClaimStore(cli.database).claim(Message("runs", 1), worker_id="w")
    job_id = await queued(cli, waitingReason="QueueFull", message="Waits for a worker")
    async with cli.watching("acme-autumn") as watching:
        # Two jobs of a minute each before it, one at a time.
        await watching.screen.until(
            "acme-autumn: Waits for a worker",
            "acme-autumn 0% Queued · waits: QueueFull · about 2 jobs ahead, about 2 min until it starts",
        )
        await hand_over(cli, job_id)
        claim = await ClaimStore(cli.database).claim(Message(job_id, 1), worker_id="w")
        assert claim is not None
        await ClaimStore(cli.database).renew(
            [(job_id, claim.claim_id, Progress(products_total=8, products_imported=2))]
        )
        await cli.job_status("acme-autumn", waitingReason=None, **RUNNING)
        shown = await watching.screen.until("acme-autumn 25% Running · 2/8 products · 3 images")
        assert "2 of 8 products done" not in shown
        await cli.job_status("acme-autumn", **DONE)
        code, shown = await watching.ends()
    assert code == 0
    assert shown.endswith("acme-autumn: Succeeded. 8 products imported, 0 unchanged, 0 images\n")
    assert "kubectl imports errors" not in shown


async def test_without_a_job_that_completed_of_late_there_is_no_time(cli: CliWorld) -> None:
    for name in ("done", "runs", "before"):
        await cli.row(name, name)
    await cli.finish("done", JobState.COMPLETED.value)
    await cli.sql("""UPDATE "ProductImportJob" SET "startedAt" = now() - interval '26 hours',
        "completedAt" = now() - interval '25 hours' WHERE id = 'done'""")
    await hand_over(cli, "runs")
    assert await ClaimStore(cli.database).claim(Message("runs", 1), worker_id="w")
    await queued(cli)
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("acme-autumn 0% Queued · about 1 job ahead, start unknown")
    await QueueStateStore(cli.database).set_paused("product-imports", True, reason=None, changed_by="ada")
    await cli.job_status("acme-autumn", waitingReason="Paused")
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Queued · waits: Paused · start unknown, the queue is paused")


async def test_a_running_job_tells_how_long_it_takes(cli: CliWorld) -> None:
    job_id = await queued(cli)
    await hand_over(cli, job_id)
    claims = ClaimStore(cli.database)
    claim = await claims.claim(Message(job_id, 1), worker_id="w")
    assert claim is not None
    await claims.renew([(job_id, claim.claim_id, Progress(products_total=8, products_imported=2))])
    # Told in whole minutes it stays the same for 18 s.
    await cli.sql("""UPDATE "ProductImportJob" SET "startedAt" = now() - interval '19 minutes 52 seconds'""")
    await cli.job_status("acme-autumn", **RUNNING)
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Running · 2/8 products · 3 images · about 60 min to go")


async def test_a_terminal_gets_a_bar(cli: CliWorld) -> None:
    await queued(cli, message="Try 1 of 4 failed, another follows: [bold]HTTP[/] \x1b[2J503")
    async with cli.watching("acme-autumn", terminal=True) as watching:
        await watching.screen.until("another follows: [bold]HTTP[/] \ufffd[2J503", "next in the queue")
        await cli.job_status("acme-autumn", **RUNNING)
        await watching.screen.until(" 25%", "2/8 products", "━")
        await cli.job_status("acme-autumn", **DONE)
        code, shown = await watching.ends()
    assert code == 0
    assert "100%" in shown
    assert "Succeeded. 8 products imported" in shown


@pytest.mark.parametrize("phase", ["Failed", "Cancelled"])
async def test_a_job_without_success_ends_with_1_and_its_message(cli: CliWorld, phase: str) -> None:
    await queued(cli)
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Queued")
        progress = {"productsTotal": 2, "productsFailed": 2, "percent": 100}
        await cli.job_status("acme-autumn", phase=phase, message="[/]No product\x07", progress=progress)
        code, shown = await watching.ends()
    assert code == 1
    assert f"acme-autumn: {phase}. [/]No product\ufffd\n" in shown
    assert f"Some items failed: kubectl imports errors acme-autumn -n {cli.namespace}" in shown


async def test_a_finished_job_is_told_at_once(cli: CliWorld) -> None:
    await cli.job("acme-autumn", DONE)
    result = await cli.invoke("watch", "acme-autumn")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("acme-autumn: Succeeded.")


async def test_a_job_deleted_meanwhile_ends_with_1(cli: CliWorld) -> None:
    await queued(cli)
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Queued")
        await cli.delete_job("acme-autumn")
        code, shown = await watching.ends()
    assert code == 1
    assert shown.endswith("acme-autumn was deleted; its work is cancelled\n")


async def test_a_deletion_that_the_watch_missed_is_noticed(cli: CliWorld, wire: Wire) -> None:
    await queued(cli)
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Queued", "next in the queue")
        await wire.silence()
        await cli.delete_job("acme-autumn")
        code, shown = await watching.ends()
    assert code == 1
    assert "was deleted" in shown


async def test_a_job_that_takes_too_long_is_left(cli: CliWorld) -> None:
    await queued(cli)
    # So long a busy machine has to list the object and to show it.
    result = await cli.invoke("watch", "acme-autumn", "--timeout", "10")
    assert result.exit_code == 2
    assert "acme-autumn is not finished after 10 s; it goes on without you" in result.stderr
    assert "Queued" in result.stdout


async def test_without_a_database_the_object_is_followed(
    cli: CliWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    await queued(cli)
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Without DATABASE_URL there is no place in the queue and no estimate")
        await cli.job_status("acme-autumn", **DONE)
        code, shown = await watching.ends()
    assert code == 0
    assert shown.count("DATABASE_URL") == 1


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_database_away_meanwhile_costs_only_the_estimate(
    cli: CliWorld,
    postgres_server: PostgresServer,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    monkeypatch.setattr(pool, "CHECKOUT_TIMEOUT_SECONDS", 0.5)
    await queued(cli)
    async with cli.watching("acme-autumn", terminal=terminal) as watching:
        await watching.screen.until("next in the queue")
        async with database_away(postgres_server.url(), database_url):
            await watching.screen.until(
                "No estimate for now. PostgreSQL is not available", "estimate unknown"
            )
            await cli.job_status("acme-autumn", **RUNNING)
            await watching.screen.until("2/8 products")
            await cli.job_status("acme-autumn", **DONE)
            code, shown = await watching.ends()
    assert code == 0
    assert shown.count("No estimate for now") == 1
    assert database_url.split("@", maxsplit=1)[0].rsplit(":", 1)[1] not in shown


async def test_an_api_server_away_meanwhile_is_waited_for(cli: CliWorld, wire: Wire) -> None:
    await queued(cli)
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Queued")
        await wire.cut()
        await watching.screen.until("acme-autumn: Trying again for 60 s: ")
        await cli.job_status("acme-autumn", **DONE)
        await wire.open()
        code, shown = await watching.ends()
    assert code == 0
    assert shown.count("Trying again") == 1


async def test_an_api_server_away_for_long_ends_it(
    cli: CliWorld, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "GIVE_UP_SECONDS", 0.2)
    await queued(cli)
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Queued")
        await wire.cut()
        with pytest.raises(KubernetesUnavailableError):
            await watching.ends()


async def test_a_retry_says_when_it_is_due(cli: CliWorld) -> None:
    job_id = await queued(cli, waitingReason="Retry")
    await cli.sql(
        """UPDATE "ProductImportJob" SET "notBefore" = now() + interval '10 minutes' WHERE id = %s""", job_id
    )
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("Queued · waits: Retry · about 10 min until it is due")


async def test_an_object_that_is_not_recorded_yet_is_followed(cli: CliWorld) -> None:
    await cli.job("acme-autumn")
    async with cli.watching("acme-autumn") as watching:
        await watching.screen.until("acme-autumn 0% Pending")
        await cli.job_status("acme-autumn", phase="Pending", message="companyId: not the provider's")
        await watching.screen.until("acme-autumn: companyId: not the provider's")


@pytest.mark.parametrize("name", ["no-such-job", "[red]x[/red]", "../secrets/shop", "a?watch=true"])
async def test_a_job_that_is_not_there_is_named(cli: CliWorld, name: str) -> None:
    async with cli.watching(name) as watching:
        with pytest.raises(UsageError, match="There is no ImportJob") as caught:
            await watching.ends()
    assert f"ImportJob {name} in namespace {cli.namespace}" in caught.value.message


async def test_the_caller_may_stop_at_any_time(cli: CliWorld) -> None:
    await queued(cli)
    async with cli.watching("acme-autumn", terminal=True) as watching:
        await watching.screen.until("next in the queue")
        watching.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching.ends()
    assert await cli.kube.get(IMPORT_JOB, cli.namespace, "acme-autumn") is not None
