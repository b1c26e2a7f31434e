"""One job in a whole installation: all processes tell of it to Prometheus, and their logs are tied together."""

from __future__ import annotations

import json
from typing import Any

from eventually import eventually
from scraping import Scraped, scrape

from e2e.world import NAMESPACE, World, job, provider, secret
from import_core.domain.correlation import CORRELATION_ANNOTATION
from import_local.samples.settings import SHOPIFY_TOKEN

COMPANY = "observed"
CORRELATION = "order-2001"
PRODUCTS = 30
QUEUE = "product-imports"


async def pods(world: World, name: str) -> dict[str, str]:
    """Addresses of a part's running pods by name."""
    outcome = await world.kubectl(
        *("-n", NAMESPACE, "get", "pods", "-l", f"app.kubernetes.io/name={name}"),
        *("-o", "jsonpath={range .items[*]}{.metadata.name}={.status.podIP} {end}"),
    )
    assert outcome.code == 0, outcome.err
    found = dict(word.split("=") for word in outcome.out.split())
    assert found, name
    return found


async def scraped(world: World, name: str) -> list[Scraped]:
    return [await scrape(f"http://{address}:8080/metrics") for address in (await pods(world, name)).values()]


async def total(world: World, part: str, metric: str, **labels: str) -> float:
    return sum(found.total(metric, **labels) for found in await scraped(world, part))


async def lines(world: World, part: str, job_id: str) -> list[dict[str, Any]]:
    """What the part's pods have logged of a job."""
    found = []
    for name in await pods(world, part):
        outcome = await world.kubectl("-n", NAMESPACE, "logs", name)
        assert SHOPIFY_TOKEN not in outcome.out
        found += [json.loads(line) for line in outcome.out.splitlines() if f'"jobId": "{job_id}"' in line]
    return found


async def test_a_job_is_seen_in_metrics_and_logs_of_every_process(world: World) -> None:
    await world.sql("""INSERT INTO "Company" (id, tier) VALUES (%s, 'ENTERPRISE')""", COMPANY)
    mine = {"provider": "shopify", "tier": "ENTERPRISE"}
    before = await total(world, "import-worker", "imports_jobs_total", outcome="completed", **mine)
    products = await total(world, "import-worker", "imports_job_products_sum", **mine)
    calls = await total(world, "import-worker", "imports_provider_requests_total", provider="shopify")
    reviews = await total(world, "import-gateway", "imports_admission_reviews_total", result="allowed")
    handed_over = await total(world, "import-operator", "imports_jobs_dispatched_total", queue=QUEUE)
    url = f"{world.installation.shopify_url}/tiny-{PRODUCTS}-1"
    wanted = job(COMPANY, company=COMPANY, provider_name=COMPANY)
    wanted["metadata"]["annotations"] = {CORRELATION_ANNOTATION: CORRELATION}
    await world.apply(
        secret(COMPANY, accessToken=SHOPIFY_TOKEN),
        provider(COMPANY, company=COMPANY, kind="shopify", url=url),
        wanted,
    )
    status = await world.finished(COMPANY)
    assert status["phase"] == "Succeeded", status

    async def counted() -> bool:
        # The worker writes the end first and counts it then.
        now = await total(world, "import-worker", "imports_jobs_total", outcome="completed", **mine)
        return now == before + 1

    await eventually(counted, what="the job in a worker's metrics")
    assert await total(world, "import-worker", "imports_job_products_sum", **mine) == products + PRODUCTS
    assert await total(world, "import-worker", "imports_job_wait_seconds_count", tier="ENTERPRISE") >= 1
    assert await total(world, "import-worker", "imports_provider_requests_total", provider="shopify") > calls
    allowed = await total(world, "import-gateway", "imports_admission_reviews_total", result="allowed")
    assert allowed == reviews + 1
    assert await total(world, "import-gateway", "imports_admission_certificate_expiry_timestamp_seconds") > 0
    now = await total(world, "import-operator", "imports_jobs_dispatched_total", queue=QUEUE)
    assert now == handed_over + 1
    for part, process in (("operator", "operator"), ("worker", "worker"), ("gateway", "gateway")):
        for found in await scraped(world, f"import-{part}"):
            assert found.total("imports_build_info", process=process) == 1
            assert found.value("imports_neighbour_up", neighbour="PostgreSQL") == 1
            assert found.has("imports_event_loop_lag_seconds_count")
            assert found.total("process_resident_memory_bytes") > 0

    async def measured() -> bool:
        (found,) = await scraped(world, "import-operator")
        ready = found.total("imports_workers_ready")
        return (
            ready == len(await pods(world, "import-worker"))
            and (found.value("imports_queue_jobs", queue=QUEUE, state="completed") or 0) >= 1
        )

    await eventually(measured, what="the job and the workers in the operator's measurement")
    await check_logs(world, status["jobId"])


async def check_logs(world: World, job_id: str) -> None:
    operator = await lines(world, "import-operator", job_id)

    async def told() -> list[dict[str, Any]] | None:
        # The worker counts the end first, and the node's agent writes down what it says a moment later.
        found = await lines(world, "import-worker", job_id)
        return found if any(line["event"] == "job.completed" for line in found) else None

    worker: list[dict[str, Any]] = await eventually(told, what="the job's end in a worker's log")
    assert {line["event"] for line in operator} >= {"job.recorded", "job.dispatched"}
    events = [line["event"] for line in worker]
    assert events[0] == "job.claimed"
    assert events[-1] == "job.completed"
    assert "page.committed" in events
    assert {line["correlationId"] for line in (*operator, *worker)} == {CORRELATION}
    done = worker[-1]
    assert done["companyId"] == COMPANY
    assert done["duration"] > 0
    assert {"fetch", "map", "images", "commit"} <= set(done["phases"])
