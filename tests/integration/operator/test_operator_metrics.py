"""What a real operator tells Prometheus of its queue, its pools, its loops and its neighbours."""

import json
import math

from eventually import eventually
from operator_world import Cluster, Operator, Operators, TakingWorker
from scraping import Scraped, scrape

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.jobs import DEFAULT_QUEUE

QUICK = {"MEASURE_SECONDS": "0.2"}


async def scraped(operator: Operator) -> Scraped:
    return await scrape(f"http://127.0.0.1:{operator.health_port}/metrics")


async def until(operator: Operator, name: str, wanted: float, **labels: str) -> Scraped:
    """Wait for a value; a job's way and the next measurement come when they come."""

    async def check() -> Scraped | None:
        found = await scraped(operator)
        return found if found.value(name, **labels) == wanted else None

    return await eventually(check, what=f"{name}{labels} {wanted}")  # type: ignore[no-any-return]


async def test_queue_pool_and_loops_are_measured(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    operator = await operators.leading(**QUICK)
    await cluster.provider()
    await cluster.pool("fleet", scaling={"minReplicas": 1, "maxReplicas": 3})
    await cluster.job("first", suspend=False)
    claim = await worker.take()
    await cluster.job("second")
    await cluster.job("asleep", suspend=True)
    queue = {"queue": DEFAULT_QUEUE}
    await until(operator, "imports_queue_jobs", 1, state="active", **queue)
    await until(operator, "imports_queue_jobs", 1, state="paused", **queue)
    found = await until(operator, "imports_queue_jobs", 1, state="dispatched", **queue)
    assert found.value("imports_queue_jobs", state="failed", **queue) == 0
    assert found.value("imports_workers_busy", **queue) == 1
    assert (found.value("imports_queue_oldest_waiting_age_seconds", **queue) or 0) > 0
    # Messages are counted after the jobs, and objects before them.
    await until(operator, "imports_queue_messages", 1, state="waiting", **queue)
    await until(operator, "imports_objects", 3, kind="ImportJob")
    found = await until(operator, "imports_workers", 1, pool="fleet")
    assert found.value("imports_workers_ready", pool="fleet") == 0
    assert found.value("imports_workers_minimum", pool="fleet") == 1
    assert found.value("imports_workers_maximum", pool="fleet") == 3
    assert found.value("imports_leading") == 1
    assert found.value("imports_neighbour_up", neighbour="PostgreSQL") == 1
    assert found.value("imports_neighbour_up", neighbour="Redis") == 1
    assert found.total("imports_build_info", process="operator") == 1
    assert found.value("imports_repairs_total", kind="lease-expired") == 0
    for loop in ("dispatch", "scale", "guard", "measure", "reap", "repair", "stalled", "schedule"):
        assert found.has("imports_loop_last_success_timestamp_seconds", loop=loop), loop
        assert found.has("imports_loop_interval_seconds", loop=loop), loop
        assert found.has("imports_loop_lag_seconds_count", loop=loop), loop
    await worker.finish(claim)
    await until(operator, "imports_queue_jobs", 1, state="completed", **queue)
    await cluster.kubectl("delete", "workerpool", "fleet")

    async def forgotten() -> bool:
        return not (await scraped(operator)).has("imports_workers", pool="fleet")

    await eventually(forgotten, what="no series of a pool that is gone")


async def test_what_can_not_be_measured_is_not_shown_as_zero(cluster: Cluster, operators: Operators) -> None:
    operators.redis_url = "redis://:hush-hush@127.0.0.1:9/0"
    operator = await operators.leading(**QUICK)

    async def unknown() -> bool:
        found = (await scraped(operator)).value(
            "imports_queue_messages", queue=DEFAULT_QUEUE, state="waiting"
        )
        return found is not None and math.isnan(found)

    await eventually(unknown, what="NaN for messages that nobody can count")
    found = await until(operator, "imports_neighbour_up", 0, neighbour="Redis")
    assert found.value("imports_queue_jobs", queue=DEFAULT_QUEUE, state="waiting") == 0, "PostgreSQL answers"
    assert found.has("imports_loop_errors_total", loop="measure", error="QueueUnavailableError")
    assert "hush-hush" not in operator.log.read_text()


async def test_a_jobs_correlation_id_is_in_the_log_at_every_step(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    operator = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    annotations = {"imports.avnz.io/correlation-id": "order-4711"}
    spec = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}
    metadata = {"name": "traced", "annotations": annotations}
    body = await cluster.kube.create(IMPORT_JOB, cluster.namespace, {"metadata": metadata, "spec": spec})
    plain = await cluster.job("plain")
    taken = {}
    for _ in range(2):
        message = await worker.fetch()
        taken[message.job_id] = message
        claim = await worker.claims.claim(message, worker_id="worker-1")
        assert claim is not None
        await worker.tell(claim)
        wanted = "order-4711" if message.job_id == body["metadata"]["uid"] else message.job_id
        assert claim.job.correlation_id == wanted
    assert taken[body["metadata"]["uid"]].correlation_id == "order-4711"
    assert taken[plain["metadata"]["uid"]].correlation_id is None
    uids = {body["metadata"]["uid"], plain["metadata"]["uid"]}
    for event in ("job.recorded", "job.dispatched"):

        async def logged(event: str = event) -> dict[str, str] | None:
            lines = map(json.loads, operator.logged(event))
            found = {line["jobId"]: line["correlationId"] for line in lines}
            return found if found.keys() >= uids else None

        # A job can be taken before the line that tells of its hand-over is written.
        assert await eventually(logged, what=event) == {
            body["metadata"]["uid"]: "order-4711",
            plain["metadata"]["uid"]: plain["metadata"]["uid"],
        }, event
