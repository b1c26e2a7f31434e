"""A worker hears at once that its job was taken, and its readiness follows PostgreSQL and Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from pydantic import SecretStr

from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.adapters.tasks import end_tasks
from import_core.domain.jobs import DEFAULT_QUEUE, JobRequest, Message, Progress
from import_core.observability.metrics import WorkerMetrics
from import_local.faults.proxy import TcpProxy
from import_worker.consumer import QueueConsumer
from import_worker.hints import heed_hints
from import_worker.leases import LeaseKeeper

NEVER = 3600.0


@asynccontextmanager
async def keeper(stage: Any) -> AsyncIterator[LeaseKeeper]:
    """A keeper that renews only when there is doubt."""
    leases = LeaseKeeper(
        ClaimStore(stage.database), WorkerMetrics(), on_news=lambda _: None, every_seconds=NEVER
    )
    tasks = [
        asyncio.create_task(leases.run()),
        asyncio.create_task(heed_hints(stage.database, leases)),
    ]
    yield leases
    await end_tasks(tasks)


@asynccontextmanager
async def held(stage: Any, leases: LeaseKeeper, job_id: str) -> AsyncIterator[asyncio.Future[str]]:
    """Hold a claimed job; the future tells why it was lost."""
    claim = await ClaimStore(stage.database).claim(await stage.submit(job_id, "nobody"), worker_id="w")
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    now = asyncio.get_running_loop().time()
    with leases.hold(claim, claimed_at=now, live=Progress, on_lost=lost.set_result):
        yield lost


@pytest.mark.parametrize("how", ["cancel", "suspend"])
async def test_worker_hears_at_once_that_its_job_was_taken(stage: Any, how: str) -> None:
    async with (
        keeper(stage) as leases,
        held(stage, leases, "job-1") as lost,
        held(stage, leases, "job-2") as other,
    ):
        await listening(stage)
        if how == "cancel":
            await stage.jobs.cancel(["job-1"], message="deleted")
        else:
            job = await stage.job("job-1")
            suspended = JobRequest(
                *(job.id, job.company_id, job.provider, job.namespace, job.spec, job.origin),
                generation=2,
                suspended=True,
            )
            await stage.jobs.record([suspended])
        assert await asyncio.wait_for(lost, 10) == "the claim has ended"
        assert not other.done()


async def test_hint_that_was_missed_is_made_good_after_a_reconnection(stage: Any) -> None:
    async with keeper(stage) as leases, held(stage, leases, "job-1") as lost:
        await listening(stage)
        await stage.rows("DELETE FROM imports.claim")
        await stage.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tests-listen'"
            " AND datname = current_database()"
        )
        assert await asyncio.wait_for(lost, 10) == "the claim has ended"


async def test_hints_for_others_renew_nothing(stage: Any) -> None:
    leases = LeaseKeeper(ClaimStore(stage.database), WorkerMetrics(), on_news=lambda _: None)
    leases.doubt_all()
    assert not leases._doubted.is_set(), "nothing is held"
    async with held(stage, leases, "job-1"):
        leases.doubt(["job-2", "job-3"])
        assert not leases._doubted.is_set()
        leases.doubt(["job-2", "job-1"])
        assert leases._doubted.is_set()


async def listening(stage: Any) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(10):
        while not await stage.rows(  # noqa: ASYNC110 - looks from outside
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tests-listen'"
            " AND datname = current_database() AND query LIKE 'LISTEN%'"
        ):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def door(url: str) -> AsyncIterator[TcpProxy]:
    port = urlsplit(url).port
    assert port is not None
    proxy = TcpProxy(port)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def answers(worker: Any, expected: str | None) -> None:
    """Wait until /readyz gives this reason; /healthz is never affected."""
    async with httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(40):
        while True:
            base = f"http://127.0.0.1:{worker.health.port}"
            told = await client.get(f"{base}/readyz")
            assert (await client.get(f"{base}/healthz")).status_code == 200
            if told.json()["reason"] == expected:
                assert told.status_code == (200 if expected is None else 503)
                return
            await asyncio.sleep(0.1)


async def test_consumer_that_starts_while_redis_is_away_takes_messages_when_it_is_back(stage: Any) -> None:
    redis_url = stage.settings.redis_url.get_secret_value()
    taken: asyncio.Queue[Message] = asyncio.Queue()
    metrics = WorkerMetrics()
    async with door(redis_url) as redis:
        await redis.cut()
        consumer = QueueConsumer(
            redis.through(redis_url), queue=DEFAULT_QUEUE, concurrency=1, handle=taken.put, metrics=metrics
        )
        consuming = asyncio.create_task(consumer.run())
        async with asyncio.timeout(20):
            while not metrics.registry.get_sample_value("imports_queue_errors_total"):  # noqa: ASYNC110 - looks from outside
                await asyncio.sleep(0.05)
        assert not consuming.done()
        await redis.heal()
        client = connect(redis_url, client_name="test")
        await JobQueue(client).add([Message("job", 1)])
        async with asyncio.timeout(20):
            assert await taken.get() == Message("job", 1)
        consumer.stop()
        async with asyncio.timeout(20):
            await consuming
        await consumer.close()
        await client.aclose()


async def test_readiness_follows_redis_and_jobs_run_when_it_is_back(stage: Any) -> None:
    redis_url = stage.settings.redis_url.get_secret_value()
    async with door(redis_url) as redis:
        settings = {"redis_url": SecretStr(redis.through(redis_url))}
        async with stage.worker(**settings) as worker:
            async with asyncio.timeout(20):
                while worker.health is None:  # noqa: ASYNC110 - looks from outside
                    await asyncio.sleep(0.05)
            await answers(worker, None)
            await redis.cut()
            await answers(worker, "no answer from Redis")
            await redis.heal()
            await answers(worker, None)
            await stage.submit("job-1", stage.connect("shopify", "tiny-1-0"))
            await stage.finished("job-1")
