"""What a real worker process tells Prometheus after real jobs."""

import json

from eventually import eventually
from scraping import Scraped, scrape

from import_core.domain.jobs import JobState
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.faults import FaultSettings

CATALOGUE = "tiny-120-1"


async def scraped(worker) -> Scraped:
    """What a worker tells once it has counted its first job: that comes a moment after the row has its end."""

    async def told() -> Scraped | None:
        found = await scrape(f"http://{worker.address}/metrics")
        return found if found.total("imports_jobs_total") else None

    return await eventually(told, what="the job is counted")


async def test_a_job_is_counted_by_provider_and_tier_with_its_calls_and_phases(stage, start_process) -> None:
    await stage.rows("""INSERT INTO "Company" (id, tier) VALUES ('acme', 'PRO')""")
    worker = await start_process()
    await stage.submit("job-1", stage.connect("shopify", CATALOGUE))
    assert (await stage.finished("job-1")).state is JobState.COMPLETED
    found = await scraped(worker)
    mine = {"provider": "shopify", "tier": "PRO"}
    assert found.value("imports_jobs_total", outcome="completed", **mine) == 1
    assert found.total("imports_jobs_total") == 1
    assert found.value("imports_jobs_total", outcome="failed", provider="shopify", tier="BASIC") == 0, (
        "the first failure must be seen as a change"
    )
    assert found.value("imports_job_duration_seconds_count", outcome="completed", **mine) == 1
    assert found.value("imports_job_turnaround_seconds_count", size="medium", **mine) == 1
    assert found.value("imports_job_wait_seconds_count", tier="PRO") == 1
    assert found.value("imports_job_products_sum", **mine) == 120
    assert found.value("imports_job_images_sum", **mine) == 120
    assert found.value("imports_products_total", outcome="imported", provider="shopify") == 120
    pages = found.value("imports_pages_total", provider="shopify")
    for phase in ("fetch", "map", "images", "commit"):
        measured = found.value("imports_page_phase_duration_seconds_count", phase=phase, provider="shopify")
        assert measured is not None
        assert measured >= 1, phase
    # The first page's time has the mapping of the second in it, which is made beside it.
    mapped = found.value("imports_page_phase_duration_seconds_count", phase="map", provider="shopify")
    assert pages is not None
    assert mapped is not None
    assert pages - 1 <= mapped <= pages
    calls = found.value("imports_provider_requests_total", outcome="ok", provider="shopify")
    assert calls == stage.samples.account("shopify", CATALOGUE).counters.api_calls
    assert found.value("imports_provider_request_duration_seconds_count", provider="shopify") == calls
    # A grant that got too old before its call was sent is asked for once more.
    waits = found.value("imports_provider_limit_wait_seconds_count", provider="shopify")
    assert waits is not None
    assert calls <= waits < 2 * calls
    for quiet in ("failures", "throttled", "limit_exceeded", "breaker_refusals"):
        assert found.value(f"imports_provider_{quiet}_total", provider="shopify") == 0, quiet
    assert found.value("imports_neighbour_up", neighbour="PostgreSQL") == 1
    assert found.value("imports_neighbour_up", neighbour="Redis") == 1
    assert found.value("imports_worker_concurrency") == 5
    assert found.total("imports_build_info", process="worker") == 1
    for own in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"):
        assert found.total(own) > 0
    done = next(event for event in worker.events() if event["event"] == "job.completed")
    assert {"fetch", "map", "images", "commit"} <= set(done["phases"])


async def test_calls_that_fail_or_are_too_many_are_told_apart(stage, start_process) -> None:
    account = stage.samples.account("roastify", "tiny-100-1")
    worker = await start_process()
    faults = FaultSettings(outage=True, error_status=503)
    set_faults(account, FaultOrder(api=faults))
    provider = stage.connect(
        "roastify", "tiny-100-1", circuitBreaker={"failureThreshold": 2, "openSeconds": 1}
    )
    await stage.submit("job-1", provider)
    job = await stage.until("job-1", lambda job: job.state is JobState.PENDING and job.waiting_reason)
    assert job.waiting_reason == "BreakerOpen"
    found = await scraped(worker)
    errors = found.value("imports_provider_requests_total", outcome="server_error", provider="roastify")
    assert errors is not None
    assert errors >= 2
    assert found.value("imports_provider_failures_total", provider="roastify") == errors
    assert found.total("imports_jobs_total", outcome="handed_back", provider="roastify") == 1
    assert found.total("imports_jobs_total") == 1
    lines = [json.dumps(event) for event in worker.events() if event["event"] == "job.handed_back"]
    assert '"phase": "fetch"' in lines[0]
