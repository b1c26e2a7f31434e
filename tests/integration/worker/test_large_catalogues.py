"""Catalogues of the largest sizes: the worker's memory does not grow with them, limits are kept throughout."""

import asyncio
import statistics

import psutil
import pytest

from import_core.domain.jobs import JobState

MEGABYTE = 1024 * 1024


def slope(points: list[tuple[int, float]]) -> float:
    """Least-squares slope."""
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


@pytest.mark.timeout(900)
async def test_ten_thousand_products_in_bounded_memory(stage, start_process) -> None:
    worker = await start_process()
    process = psutil.Process(worker.process.pid)
    provider = stage.connect("shopify", "tiny-10000-1")
    await stage.submit("job-1", provider, images={"thumbnails": []})
    measured: dict[int, float] = {}
    peak = 0.0
    async with asyncio.timeout(800):
        while not (job := await stage.job("job-1")).state.is_final:
            used = process.memory_info().rss / MEGABYTE
            peak = max(peak, used)
            measured[job.progress.products_imported] = used
            await asyncio.sleep(0.25)
    assert (job.state, job.message) == (JobState.COMPLETED, None)
    assert (job.progress.products_imported, job.progress.images_imported) == (10_000, 10_000)
    assert await stage.rows('SELECT count(*) FROM "Product"') == [(10_000,)]
    assert await stage.rows('SELECT count(*) FROM "ProductImage"') == [(10_000,)]
    # Caches and pools fill up during the first fifth.
    steady = [(products, used) for products, used in measured.items() if products >= 2_000]
    assert len(steady) >= 10
    growth = slope(steady) * 8_000
    assert growth < 30, f"{growth:.1f} MB more after 8,000 further products"
    assert peak < 500


@pytest.mark.timeout(300)
async def test_a_thousand_details_within_the_call_limit(stage) -> None:
    limit = {"requests": 100, "perSeconds": 60}
    provider = stage.connect("roastify", "tiny-1000-0", rateLimit=limit)
    account = stage.samples.account("roastify", "tiny-1000-0")
    scale = 40.0
    account.behaviour.rate_scale = 1_000.0
    await stage.submit("job-1", provider)
    async with stage.worker(limiter_clock_scale=scale, provider_wait_seconds=60):
        job = await stage.finished("job-1", seconds=240)
    assert (job.state, job.attempt, job.progress.products_imported) == (JobState.COMPLETED, 0, 1_000)
    times = sorted(call.at for call in account.counters.calls)
    # 10 lists and 1,000 details; no scaled window holds more than the limit.
    assert len(times) == 1_010
    window = 60 / scale
    assert all(later - earlier >= window for earlier, later in zip(times, times[100:], strict=False))
