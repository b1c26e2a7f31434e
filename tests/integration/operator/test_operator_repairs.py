"""A running operator puts right what it was not told of: lost messages, cancelled rows, stalled jobs, pauses."""

import re

from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker
from redis.asyncio import Redis

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.domain.jobs import DEFAULT_QUEUE


async def count_claims(database: Database) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute("SELECT count(*) FROM imports.claim")).fetchone()
        return int(row[0]) if row else 0


async def test_flushed_redis_is_noticed_while_nothing_else_happens(
    cluster: Cluster, operators: Operators, worker: TakingWorker, redis_url: str
) -> None:
    operator = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("flushed")

    async def handed_over() -> bool:
        return bool(operator.logged("jobs.dispatched"))

    await eventually(handed_over, what="the hand-over")
    client = Redis.from_url(redis_url)
    await client.flushall()
    await client.aclose()
    claim = await worker.take()
    assert claim.job.dispatch == 2

    async def told() -> bool:
        return any('"redis-lost"' in line for line in operator.logged("job.repaired"))

    # The message is in Redis before its line is in the log.
    await eventually(told, what="the repair in the log")
    await worker.finish(claim)
    await cluster.phase("flushed", "Succeeded")


async def test_job_that_the_platform_cancels_by_sql_is_taken_from_its_worker(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("unwanted")
    claim = await worker.take()
    await cluster.phase("unwanted", "Running")
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET status = 'CANCELLED', "completedAt" = now() WHERE id = %s""",
            (claim.job.id,),
        )

    async def freed() -> bool:
        return await count_claims(database) == 0

    await eventually(freed, what="the claim ended")
    await cluster.phase("unwanted", "Cancelled")


async def test_stalled_job_is_tried_again_and_fails_when_it_is_old(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading(STALLED_SCAN_SECONDS="0.2", STALLED_AFTER_SECONDS="0.5")
    await cluster.provider()
    await cluster.pool()
    await cluster.job("stalls")
    first = await worker.take()

    async def ended() -> bool:
        return await count_claims(database) == 0

    await eventually(ended, what="the first try ended")
    # Before the second begins: its own end is half a second away, and nobody would take a third.
    async with database.connection() as connection:
        await connection.execute("""UPDATE "ProductImportJob" SET "startedAt" = now() - interval '3 hours'""")
    second = await worker.take()
    assert (second.job.id, second.job.attempt) == (first.job.id, 1)
    status = await cluster.phase("stalls", "Failed")
    failed = next(item for item in status["conditions"] if item["type"] == "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "Stalled")
    assert re.search(r"started 18\d min ago", status["message"])


async def test_paused_queue_says_so_in_its_jobs(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    pauses = QueueStateStore(database)
    await pauses.set_paused(DEFAULT_QUEUE, True, reason="maintenance", changed_by="ann")
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("patient")

    async def paused() -> bool:
        return (await cluster.status("patient")).get("waitingReason") == "Paused"

    await eventually(paused, what="Paused")
    await pauses.set_paused(DEFAULT_QUEUE, False, reason=None, changed_by="ann")
    await worker.finish(await worker.take())
    assert "waitingReason" not in await cluster.phase("patient", "Succeeded")
