"""A real worker process: signals, exit codes, its HTTP face, its logs."""

import asyncio
import os
import signal
import subprocess
import sys

from import_core.adapters.postgres.claims import ClaimStore
from import_core.domain.jobs import JobState
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.faults import FaultSettings

CATALOGUE = "tiny-120-1"


def slow_images(stage, seconds: float) -> None:
    order = FaultOrder(images=FaultSettings(latency_seconds=seconds))
    set_faults(stage.samples.account("shopify", CATALOGUE), order)


async def test_sigterm_hands_the_rest_back_with_its_checkpoint(stage, start_process) -> None:
    slow_images(stage, 0.5)
    worker = await start_process(GRACEFUL_STOP_SECONDS="1")
    await stage.submit("job-1", stage.connect("shopify", CATALOGUE))
    await stage.until("job-1", lambda job: job.progress.products_imported >= 50)
    assert await worker.get("/readyz") == (200, '{"ready":true,"reason":null}')
    assert (await worker.get("/healthz"))[0] == 200
    metrics = (await worker.get("/metrics"))[1]
    assert "imports_worker_active_jobs 1.0" in metrics
    assert "imports_event_loop_lag_seconds_count" in metrics
    worker.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    assert await worker.get("/readyz") == (503, '{"ready":false,"reason":"stopping"}')
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
    for _ in range(2):
        worker.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
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
