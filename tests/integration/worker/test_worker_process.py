"""A real worker process: signals, exit codes, its HTTP face, its logs."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter

import httpx2
import pytest
from eventually import eventually

from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.redis.queue import MESSAGE_OPTIONS
from import_core.domain.jobs import JobState
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.faults import FaultSettings

CATALOGUE = "tiny-120-1"


def slow_images(stage, seconds: float) -> None:
    order = FaultOrder(images=FaultSettings(latency_seconds=seconds))
    set_faults(stage.samples.account("shopify", CATALOGUE), order)


async def test_sigterm_hands_the_rest_back_with_its_checkpoint(stage, start_process) -> None:
    slow_images(stage, 0.5)
    worker = await start_process(GRACEFUL_STOP_SECONDS="5")
    await stage.submit("job-1", stage.connect("shopify", CATALOGUE))
    await stage.until("job-1", lambda job: job.progress.products_imported >= 50)
    # What is asked for from now on comes after the grace time.
    slow_images(stage, 600)
    assert await worker.get("/readyz") == (200, '{"ready":true,"reason":null}')
    assert (await worker.get("/healthz"))[0] == 200
    metrics = (await worker.get("/metrics"))[1]
    assert "imports_worker_active_jobs 1.0" in metrics
    assert "imports_event_loop_lag_seconds_count" in metrics
    worker.process.send_signal(signal.SIGTERM)
    await stopping(worker)
    assert await worker.ended() == 0
    job = await stage.job("job-1")
    assert (job.state, job.attempt, job.deaths, job.not_before) == (JobState.PENDING, 0, 0, None)
    assert 50 <= job.progress.products_imported < 120
    assert await stage.rows("SELECT 1 FROM imports.worker") == []
    assert not any((await stage.queue.counts()).values())
    events = [event["event"] for event in worker.events()]
    assert events[-1] == "worker.stopped"
    handed_back = next(event for event in worker.events() if event["event"] == "job.handed_back")
    assert {"jobId", "companyId", "correlationId", "attempt", "duration", "level", "timestamp"} <= set(
        handed_back
    )


async def test_sigterm_lets_a_job_finish_in_time_and_takes_no_other(stage, start_process) -> None:
    slow_images(stage, 0.05)
    worker = await start_process(IMPORT_CONCURRENCY="1")
    provider = stage.connect("shopify", CATALOGUE)
    await stage.submit("job-1", provider)
    await stage.until("job-1", lambda job: job.state is JobState.IN_PROGRESS)
    worker.process.send_signal(signal.SIGTERM)
    await stage.submit("job-2", provider)
    assert await worker.ended() == 0
    assert (await stage.job("job-1")).state is JobState.COMPLETED
    job = await stage.job("job-2")
    assert (job.state, job.attempt) == (JobState.PENDING, 0)


async def test_a_second_sigterm_hurries(stage, start_process) -> None:
    slow_images(stage, 20)
    worker = await start_process(GRACEFUL_STOP_SECONDS="3000")
    await stage.submit("job-1", stage.connect("shopify", CATALOGUE))
    await stage.until("job-1", lambda job: job.state is JobState.IN_PROGRESS)
    worker.process.send_signal(signal.SIGTERM)
    # Two signals that come before the first is taken would be one.
    await stopping(worker)
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ended(seconds=20) == 0
    assert (await stage.job("job-1")).state is JobState.PENDING


async def test_a_killed_worker_costs_at_most_the_page_in_hand(stage, start_process) -> None:
    slow_images(stage, 0.3)
    worker = await start_process()
    await stage.submit("job-1", stage.connect("shopify", CATALOGUE))
    job = await stage.until("job-1", lambda job: job.progress.products_imported >= 50)
    worker.process.kill()
    await worker.ended()
    slow_images(stage, 0)
    done = await stage.rows('SELECT "sourceUrl" FROM "ProductImage"')
    counters = stage.samples.account("shopify", CATALOGUE).counters
    # What the operator does when it sees the process end.
    ended = await ClaimStore(stage.database).end_of_workers([job.claimed_by])
    assert [claim.job_id for claim in ended] == ["job-1"]
    await stage.dispatch("job-1")
    await start_process()
    job = await stage.finished("job-1")
    assert (job.state, job.deaths, job.attempt) == (JobState.COMPLETED, 1, 0)
    assert (job.progress.products_imported, job.progress.images_imported) == (120, 120)
    assert len(done) >= 50
    assert {counters.image_paths[url.removeprefix(stage.samples.base_url)] for (url,) in done} == {1}
    assert await stage.rows('SELECT count(*), count(DISTINCT "externalId") FROM "Product"') == [(120, 120)]
    assert await stage.rows('SELECT count(*) FROM "ProductImage"') == [(120,)]


@pytest.mark.parametrize("pages", [1, 2])
async def test_after_a_kill_no_earlier_page_is_asked_for_again(stage, start_process, pages: int) -> None:
    catalogue = "tiny-100-1"
    account = stage.samples.account("roastify", catalogue)
    set_faults(account, FaultOrder(images=FaultSettings(latency_seconds=0.2), rate_scale=1_000))
    worker = await start_process()
    await stage.submit("job-1", stage.connect("roastify", catalogue))
    await stage.until("job-1", lambda job: job.progress.products_imported >= 20 * pages)
    worker.process.kill()
    await worker.ended()
    set_faults(account, FaultOrder(rate_scale=1_000))
    (claim,) = await ClaimStore(stage.database).end_of_workers([(await stage.job("job-1")).claimed_by])
    committed = {row[0] for row in await stage.rows('SELECT "externalId" FROM "Product"')}
    before = await stage.job(claim.job_id)
    assert before.progress.products_imported == len(committed) < 100
    await stage.dispatch("job-1")
    await start_process()
    counts = []
    async with asyncio.timeout(60):
        while not (job := await stage.job("job-1")).state.is_final:
            counts.append(job.progress.products_imported)
            await asyncio.sleep(0.02)
    assert (job.state, job.progress.products_imported) == (JobState.COMPLETED, 100)
    assert counts == sorted(counts)
    assert counts[0] >= len(committed)
    asked = Counter(call.what.rpartition("/")[2] for call in account.counters.calls)
    lists = asked.pop("products")
    assert {asked[external_id] for external_id in committed} == {1}
    # The page in hand, and the one that was fetched meanwhile; the list is part of the checkpoint.
    assert sum(times > 1 for times in asked.values()) <= 40
    assert (len(asked), lists) == (100, 1)
    assert stage.samples.account("roastify", catalogue).counters.api_calls <= 1 + 100 + 40


async def test_two_processes_with_the_same_message_import_once(stage, start_process) -> None:
    slow_images(stage, 0.02)
    workers = [await start_process(), await start_process()]
    for worker in workers:
        await ready(worker)
    message = await stage.submit("job-1", stage.connect("shopify", CATALOGUE))
    for number in range(8):
        options = {**MESSAGE_OPTIONS, "jobId": f"copy-{number}"}
        await stage.queue._queue.add("import", message.to_data(), options)
    job = await stage.finished("job-1")
    async with asyncio.timeout(20):
        while any((await stage.queue.counts()).values()):  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(0.05)
    events = [event["event"] for worker in workers for event in worker.events()]
    assert (events.count("job.claimed"), events.count("job.completed")) == (1, 1)
    assert events.count("message.dropped") == 8
    assert (job.state, job.attempt, job.deaths) == (JobState.COMPLETED, 0, 0)
    assert (job.progress.products_imported, job.progress.images_imported) == (120, 120)
    counters = stage.samples.account("shopify", CATALOGUE).counters
    assert set(counters.image_paths.values()) == {1}
    assert await stage.rows('SELECT count(*), count(DISTINCT "externalId") FROM "Product"') == [(120, 120)]
    assert await stage.rows('SELECT count(*) FROM "ProductImage"') == [(120,)]


async def stopping(worker) -> None:
    """Wait until a worker says that it stops, which it does until its jobs' grace time is over."""

    async def told() -> bool:
        with contextlib.suppress(httpx2.TimeoutException):
            return await worker.get("/readyz") == (503, '{"ready":false,"reason":"stopping"}')
        return False

    await eventually(told, what="the worker stops")


async def ready(worker) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if (await worker.get("/readyz"))[0] == 200:
                    return
            await asyncio.sleep(0.1)


async def test_no_secret_is_logged(stage, start_process) -> None:
    worker = await start_process(LOG_LEVEL="debug", GRACEFUL_STOP_SECONDS="0")
    await stage.submit("job-1", stage.connect("shopify", "tiny-2-1"))
    await stage.finished("job-1")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ended() == 0
    text = worker.log.read_text()
    assert "job.completed" in text
    for secret in (
        "shpat_example",
        os.environ["AWS_SECRET_ACCESS_KEY"],
        stage.settings.database_url.get_secret_value().split("@")[0].rsplit(":", 1)[1],
        stage.settings.redis_url.get_secret_value().split("@")[0].rsplit(":", 1)[1],
    ):
        assert secret not in text


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "import_worker", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


def test_help_and_settings_need_no_environment() -> None:
    answer = run("--help")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "handed back" in answer.stdout
    answer = run("--settings")
    assert answer.returncode == 0
    for name in ("DATABASE_URL", "REDIS_URL", "IMPORT_QUEUE", "IMPORT_CONCURRENCY", "IMAGE_ALLOW", "POD_IP"):
        assert name in answer.stdout


def test_wrong_settings_are_named_without_their_values() -> None:
    answer = run(REDIS_URL="redis://:hush@127.0.0.1:1/0", IMPORT_CONCURRENCY="many", IMAGE_ALLOW="nonsense")
    assert answer.returncode == 2
    assert "DATABASE_URL" in answer.stderr
    assert "IMPORT_CONCURRENCY" in answer.stderr
    assert "IMAGE_ALLOW" in answer.stderr
    assert "hush" not in answer.stderr
