"""`kubectl imports drain`, `resume`, `requeue-orphans` and `confirm-cancellations` against real servers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from cli_world import CliWorld, Screen, Watching, database_away
from rich.console import Console

from import_cli import acting, queue_commands
from import_cli.sources import Sources, UsageError
from import_core.adapters.postgres import pool
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.adapters.tasks import end_tasks
from import_core.domain.jobs import DEFAULT_QUEUE, Message
from import_local.parts.postgres import PostgresServer


@asynccontextmanager
async def draining(cli: CliWorld, *, timeout: float | None = None) -> AsyncIterator[Watching]:
    """Start `drain --wait`; it is ended with the block."""
    screen = Screen()
    async with Sources(cli.namespace) as sources:
        command = queue_commands.drain(
            *(sources, Console(file=screen, width=160)),
            queue=None,
            reason=None,
            waiting=queue_commands.Waiting(True, timeout),
            dry_run=False,
            as_json=False,
        )
        task = asyncio.create_task(command)
        try:
            yield Watching(screen, task)
        finally:
            await end_tasks([task])


async def hand_over(cli: CliWorld, job_id: str, *, ago: str = "1 minute") -> None:
    await cli.sql(
        f"""UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() - interval '{ago}' WHERE id = %s""",
        job_id,
    )


async def run_job(cli: CliWorld, job_id: str) -> str:
    await cli.row(job_id)
    await hand_over(cli, job_id)
    claim = await ClaimStore(cli.database).claim(Message(job_id, 1), worker_id="w")
    assert claim is not None
    return claim.claim_id


async def end_job(cli: CliWorld, job_id: str) -> None:
    await cli.sql("DELETE FROM imports.claim WHERE job_id = %s", job_id)
    await cli.finish(job_id, "COMPLETED")


async def is_paused(cli: CliWorld, queue: str = DEFAULT_QUEUE) -> bool:
    return (await QueueStateStore(cli.database).read([queue]))[queue].paused


async def test_a_queue_is_paused_and_goes_on(cli: CliWorld) -> None:
    await cli.row("waits")
    dry = await cli.invoke("drain", "--dry-run")
    assert dry.stdout == (
        "Would pause product-imports: 1 job due, 0 running. Jobs under way go on, no other one starts\n"
    )
    assert not await is_paused(cli)
    result = await cli.invoke("drain", "--reason", "upgrade")
    assert result.exit_code == 0, result.output
    assert "Go on with: kubectl imports resume product-imports" in result.stdout
    state = (await QueueStateStore(cli.database).read([DEFAULT_QUEUE]))[DEFAULT_QUEUE]
    assert (state.paused, state.reason) == (True, "upgrade")
    assert state.changed_by
    assert state.changed_by.startswith(cli.kube.user or "?")
    again = await cli.invoke("drain", "-o", "json")
    assert json.loads(again.stdout)["wasPaused"] is True
    assert (await cli.invoke("resume", "--dry-run")).stdout.startswith(
        "Would resume product-imports, paused since"
    )
    assert await is_paused(cli)
    assert (await cli.invoke("resume")).stdout.endswith(": 1 job due, 0 running\n")
    assert not await is_paused(cli)
    assert (await cli.invoke("resume")).stdout == "product-imports is not paused: nothing to do\n"


async def test_which_queue_is_meant(cli: CliWorld) -> None:
    await cli.pool("one", queue="express")
    assert (await cli.invoke("drain", "product-imports")).exit_code == 2
    assert (await cli.invoke("drain")).exit_code == 0
    assert await is_paused(cli, "express")
    await cli.pool("two", queue="slow")
    unclear = await cli.invoke("drain")
    assert unclear.exit_code == 2
    assert "serve express, slow: name one of them" in unclear.stderr
    assert not await is_paused(cli, "slow")
    # Only one of them stands paused, so it is clear which to resume; one without a pool has to be named.
    assert (await cli.invoke("resume")).exit_code == 0
    assert not await is_paused(cli, "express")
    await QueueStateStore(cli.database).set_paused("orphaned", True, reason=None, changed_by="ada")
    assert (await cli.invoke("resume", "orphaned")).exit_code == 0
    assert not await is_paused(cli, "orphaned")


async def test_a_drain_waits_for_the_jobs_under_way(cli: CliWorld) -> None:
    await run_job(cli, "runs")
    await cli.row("on-its-way")
    await hand_over(cli, "on-its-way")
    async with draining(cli) as drain:
        await drain.screen.until("product-imports: 1 running, 1 on the way to a worker")
        assert await is_paused(cli)
        await cli.sql("""UPDATE "ProductImportJob" SET "dispatchedAt" = NULL WHERE id = 'on-its-way'""")
        await drain.screen.until("product-imports: 1 running, 0 on the way to a worker")
        assert not drain.task.done()
        await end_job(cli, "runs")
        code, shown = await drain.ends()
    assert code == 0
    assert shown.endswith("product-imports is drained: no job is under way\n")


async def test_a_drain_that_takes_too_long_leaves_the_queue_paused(cli: CliWorld) -> None:
    await run_job(cli, "runs")
    async with draining(cli, timeout=0.3) as drain:
        with pytest.raises(UsageError, match=r"still under way after 0\.3 s; it stays paused"):
            await drain.ends()
    assert await is_paused(cli)


async def test_a_drain_notices_that_somebody_resumed(cli: CliWorld) -> None:
    await run_job(cli, "runs")
    async with draining(cli) as drain:
        await drain.screen.until("1 running")
        await QueueStateStore(cli.database).set_paused(DEFAULT_QUEUE, False, reason=None, changed_by="ada")
        with pytest.raises(UsageError, match="was resumed by ada meanwhile"):
            await drain.ends()


async def test_a_drain_outlives_an_outage(
    cli: CliWorld, postgres_server: PostgresServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECKOUT_TIMEOUT_SECONDS", 0.5)
    await run_job(cli, "runs")
    async with draining(cli) as drain:
        await drain.screen.until("1 running")
        async with database_away(postgres_server.url(), database_url):
            await drain.screen.until("PostgreSQL is not available", "Trying again")
        await end_job(cli, "runs")
        code, _ = await drain.ends()
    assert code == 0


@pytest_asyncio.fixture(loop_scope="session")
async def queue(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JobQueue]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    client = connect(redis_url, client_name="tests")
    yield JobQueue(client)
    await client.aclose()


async def orphans(cli: CliWorld, *options: str) -> dict[str, Any]:
    result = await cli.invoke("requeue-orphans", "-o", "json", *options)
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["queues"]
    assert isinstance(found, dict)
    return found


async def test_what_redis_forgot_is_handed_over_again(cli: CliWorld, queue: JobQueue) -> None:
    for job_id in ("lost", "known"):
        await cli.row(job_id)
        await hand_over(cli, job_id)
    await cli.row("just-now")
    await run_job(cli, "runs")
    await queue.add([Message("known", 1)])
    await hand_over(cli, "just-now", ago="1 second")
    dry = await cli.invoke("requeue-orphans", "--dry-run")
    assert dry.stdout.splitlines() == [
        "product-imports: 2 hand-overs waiting for over 15 s, 1 not in Redis, would be handed over again",
        "Jobs: lost",
    ]
    assert await queue.waiting_ids() == {"known-1"}
    await hand_over(cli, "just-now", ago="1 second")  # a busy machine may have taken long for the look before
    found = await orphans(cli)
    assert (found["looked"], found["orphans"], found["requeued"], found["jobs"]) == (2, 1, 1, ["lost"])
    assert await queue.waiting_ids() == {"known-1", "lost-2"}
    await hand_over(cli, "just-now", ago="1 second")
    again = await cli.invoke("requeue-orphans")
    assert again.stdout == "product-imports: 1 hand-over waiting for over 15 s, none of them lost\n"


async def test_a_paused_queue_gets_nothing(cli: CliWorld, queue: JobQueue) -> None:
    await cli.row("lost")
    await hand_over(cli, "lost")
    await QueueStateStore(cli.database).set_paused(DEFAULT_QUEUE, True, reason=None, changed_by="ada")
    assert (await orphans(cli))["paused"] is True
    assert await queue.waiting_ids() == set()


async def test_redis_is_named_where_it_is_missing(cli: CliWorld) -> None:
    missing = await cli.invoke("requeue-orphans", REDIS_URL=None)
    assert (missing.exit_code, missing.stderr) == (2, "What was handed over is in Redis: set REDIS_URL\n")
    wrong = await cli.invoke("requeue-orphans", REDIS_URL="http://:s3cr3t@127.0.0.1")
    assert wrong.exit_code == 2
    assert "REDIS_URL must be" in wrong.stderr
    assert "s3cr3t" not in wrong.output
    await cli.row("lost")
    await hand_over(cli, "lost")
    away = await cli.invoke("requeue-orphans", REDIS_URL="redis://:s3cr3t@127.0.0.1:1/0")
    assert away.exit_code == 3
    assert away.stderr.startswith("Redis is not available")
    assert "s3cr3t" not in away.output


async def test_withheld_cancellations_are_confirmed_once(
    cli: CliWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards = GuardStore(cli.database)
    nothing = await cli.invoke("confirm-cancellations")
    assert (nothing.exit_code, nothing.stdout) == (
        0,
        f"No cancellations are withheld in namespace {cli.namespace}: nothing to do\n",
    )
    await guards.withhold(cli.namespace, cluster_uid="uid", number=37, reason="TooManyAtOnce")
    dry = await cli.invoke("confirm-cancellations", "--dry-run")
    assert dry.stdout.startswith("37 cancellations withheld since 20")
    assert dry.stdout.endswith(
        "too many ImportJobs were gone at once. Would allow the operator to cancel them\n"
    )
    guard = await guards.read(cli.namespace)
    assert guard
    assert not guard.is_confirmed
    monkeypatch.setattr(acting, "LIMIT_WITHOUT_YES", 36)
    assert (await cli.invoke("confirm-cancellations")).exit_code == 2
    result = await cli.invoke("confirm-cancellations", "--yes", "-o", "json")
    assert json.loads(result.stdout)["confirmed"] == 37
    guard = await guards.read(cli.namespace)
    assert guard
    assert guard.is_confirmed
    async with Sources(cli.namespace) as sources:
        assert guard.confirmed_by == acting.person(sources)
    assert "confirmed by" in (await cli.invoke("confirm-cancellations")).stdout
