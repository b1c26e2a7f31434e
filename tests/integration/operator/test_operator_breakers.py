"""A breaker's state reaches the ImportProvider, Events and metrics at once, and its jobs are held until it closes."""

import json

import httpx2
from eventually import eventually
from operator_world import Cluster, Operator, Operators, TakingWorker

from import_core.adapters.kube.resources import IMPORT_PROVIDER
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.domain.breaker import BreakerPolicy

NAME = "acme-shopify"
POLICY = BreakerPolicy(failure_threshold=2, open_seconds=600)


async def reasons(cluster: Cluster) -> set[str]:
    listed = json.loads(await cluster.kubectl("get", "events.events.k8s.io", "-o", "json"))
    return {item["reason"] for item in listed["items"] if item["regarding"]["name"] == NAME}


async def metrics(operator: Operator) -> str:
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        return (await client.get(f"http://127.0.0.1:{operator.health_port}/metrics")).text


async def test_an_outage_is_shown_from_its_beginning_to_its_end(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    operator = await operators.leading()
    store = BreakerStore(database)
    await cluster.provider(circuitBreaker={"failureThreshold": 2, "openSeconds": 600})
    await cluster.condition(IMPORT_PROVIDER, NAME, "BreakerClosed", "True")
    await cluster.pool()
    await cluster.job("one")
    claim = await worker.take()
    for _ in range(2):
        await store.failed(cluster.namespace, NAME, holder=None, policy=POLICY)
    await worker.claims.release(
        claim,
        delay_seconds=0.1,
        tries=0,
        waiting_reason="BreakerOpen",
        message=None,
    )
    await worker.tell(claim)
    condition = await cluster.condition(IMPORT_PROVIDER, NAME, "BreakerClosed", "False")
    assert condition["reason"] == "ProviderFails"
    status = await cluster.status(NAME, IMPORT_PROVIDER)
    shown = status["breaker"]
    assert (shown["state"], shown["consecutiveFailures"]) == ("Open", 2)
    assert shown["openedAt"] < shown["probeAt"]
    assert "failed 2 times in a row" in status["message"]

    async def job_waits() -> bool:
        return (await cluster.status("one")).get("waitingReason") == "BreakerOpen"

    await eventually(job_waits, what="the job's waitingReason")

    async def told(reason: str) -> bool:
        return reason in await reasons(cluster)

    await eventually(lambda: told("BreakerOpened"), what="the Event")

    async def measured(line: str) -> bool:
        return line in await metrics(operator)

    opened = 'imports_provider_breakers{provider="shopify",state="Open"} 1.0'
    await eventually(lambda: measured(opened), what=opened)
    assert await measured('imports_provider_breaker_changes_total{change="opened",provider="shopify"} 1.0')

    await store.reset(cluster.namespace, NAME)
    claim = await worker.take()
    assert (claim.job.origin and claim.job.origin.name, claim.job.attempt) == ("one", 0)
    await worker.finish(claim)
    await cluster.condition(IMPORT_PROVIDER, NAME, "BreakerClosed", "True")
    assert (await cluster.status(NAME, IMPORT_PROVIDER))["breaker"] == {"state": "Closed"}
    await eventually(lambda: told("BreakerClosed"), what="the Event")


async def test_a_deleted_provider_leaves_no_breaker(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await operators.leading()
    store = BreakerStore(database)
    await cluster.provider()
    await cluster.condition(IMPORT_PROVIDER, NAME, "BreakerClosed", "True")
    await store.open_by_hand(cluster.namespace, NAME, by="ada", reason="moves")
    condition = await cluster.condition(IMPORT_PROVIDER, NAME, "BreakerClosed", "False")
    assert condition["reason"] == "OpenedByHand"
    await cluster.kubectl("delete", "importprovider", NAME, "--wait=false")

    async def forgotten() -> bool:
        return await store.read_many(cluster.namespace, [NAME]) == {}

    await eventually(forgotten, what="the breaker forgotten")
