"""The Compose file's processes, without Kubernetes: imports by row and over HTTP; a worker and a leader are killed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest_asyncio
from compose_world import TOKEN, ComposeWorld, Container, compose_world
from eventually import eventually
from webhook_receiver import SECRET, Receiver, receiving

from import_core.domain.jobs import JobState
from import_local.parts.objectstore import Bucket
from import_local.samples.app import RunningSamples
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.faults import FaultSettings

SEARCH = "/v1/search?companyId=bolt&q=shirt"


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path, object_store: Bucket, empty_database_url: str) -> AsyncIterator[ComposeWorld]:
    async with compose_world(tmp_path, object_store, empty_database_url) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def leads(operator: Container) -> bool:
    return any(line.get("event") == "lock.acquired" for line in lines_of(operator.log))


async def test_imports_run_and_survive_the_death_of_a_worker_and_of_the_leader(
    world: ComposeWorld, samples: RunningSamples, object_store: Bucket, receiver: Receiver
) -> None:
    host = samples.base_url.removeprefix("http://")
    allow = {"IMAGE_ALLOW": host, "PROVIDER_ALLOW": host, "WEBHOOK_ALLOW": f"127.0.0.1:{receiver.port}"}
    world.connect("acme-shop", f"{samples.roastify_url}/tiny-100-1/v1")
    world.connect(
        "bolt-shop",
        f"{samples.roastify_url}/tiny-3-1-bolt/v1",
        company="bolt",
        notifications={"url": receiver.url("/bolt"), "secretRef": {"name": "bolt-hooks"}},
    )
    (world.folder / "credentials" / "bolt-hooks.webhookSecret").write_text(f"{SECRET}\n")
    set_faults(
        samples.account("roastify", "tiny-100-1"),
        FaultOrder(images=FaultSettings(latency_seconds=0.5), rate_scale=1_000),
    )
    await world.start("redis")
    assert await world.ended("migrate") == 0
    operators = [await world.start("operator", host=f"operator-{number}") for number in range(2)]
    gateway = await world.start("gateway", INTAKE_CACHE_SECONDS="0.05", DRAIN_SECONDS="0")
    workers = [await world.start("worker", host=f"worker-{number}", **allow) for number in range(3)]
    await world.ready(*operators, gateway, *workers)

    # The platform's own row: the least that it must say.
    await world.rows(
        """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('by-row', 'acme', 'acme-shop')"""
    )

    async def under_way() -> str | None:
        job = await world.job("by-row")
        return job.claimed_by if job.progress.products_imported >= 20 else None

    holder = await eventually(under_way, seconds=60, what="the row's import is under way")
    (pod,) = (await world.rows("SELECT pod_name FROM imports.worker WHERE worker_id = %s", holder))[0]
    victim = next(each for each in workers if each.environment["HOSTNAME"] == pod)
    victim.process.kill()
    await victim.process.wait()
    set_faults(samples.account("roastify", "tiny-100-1"), FaultOrder(rate_scale=1_000))
    workers[workers.index(victim)] = await world.restart(victim)
    done = await world.finished("by-row", seconds=120)
    assert (done.state, done.progress.products_imported, done.deaths) == (JobState.COMPLETED, 100, 1)
    assert await world.rows('SELECT count(*), count(DISTINCT "externalId") FROM "Product"') == [(100, 100)]
    (leader,) = [each for each in operators if leads(each)]
    (standby,) = [each for each in operators if each is not leader]
    ended = [line for line in lines_of(leader.log) if line.get("event") == "claim.ended"]
    # By the restarted container's word, a minute before its lease would have run out.
    assert [line["cause"] for line in ended] == ["WorkerEnded"]

    leader.process.kill()
    await leader.process.wait()
    await submits_over_http(world)
    # The new leader keeps webhooks, and workers send what imports write.
    await receiver.until(lambda: "import.completed" in [event for _, event in receiver.told("/bolt")])
    assert receiver.refused == []
    assert leads(standby)
    assert len([key async for key in object_store_keys(object_store)]) >= 103
    assert await world.stop(gateway, standby, *workers) == [0] * 5
    for container in world.containers:
        text = container.log.read_text()
        for secret in (TOKEN, "rty_test_example", world.bucket.secret_access_key):
            assert secret not in text, container.service


async def refuses_without_room(client: httpx2.AsyncClient, spec: dict[str, Any]) -> None:
    stop = {"scope": "intake"}
    assert (await client.post("/v1/queue/pause", json=stop)).status_code == 200

    async def refused() -> httpx2.Response | None:
        answer = await client.post("/v1/imports", json={"spec": {**spec, "suspend": True}})
        return answer if answer.status_code == 503 else None

    answer = await eventually(refused, what="the gateway refuses")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await client.post("/v1/queue/resume", json=stop)).status_code == 200


async def object_store_keys(bucket: Bucket) -> AsyncIterator[str]:
    from import_core.adapters.s3.store import ObjectStore

    store = ObjectStore(
        bucket.name,
        endpoint_url=bucket.endpoint_url,
        region=bucket.region,
        keys=(bucket.access_key_id, bucket.secret_access_key),
    )
    async for found in store.list():
        yield found.key


async def submits_over_http(world: ComposeWorld) -> None:
    spec = {"companyId": "bolt", "providerRef": {"name": "bolt-shop"}}
    async with world.gateway() as client:
        key = {"Idempotency-Key": "one"}
        answer = await client.post("/v1/imports", json={"spec": spec}, headers=key)
        assert answer.status_code == 201, answer.text
        name = answer.json()["name"]
        again = await client.post("/v1/imports", json={"spec": spec}, headers=key)
        assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])
        other = {"spec": {**spec, "images": {"enabled": False}}}
        assert (await client.post("/v1/imports", json=other, headers=key)).status_code == 409
        done = await world.finished(name)
        assert (done.state, done.company_id, done.progress.products_imported) == (
            JobState.COMPLETED,
            "bolt",
            3,
        )
        shown = (await client.get(answer.headers["Location"])).json()
        assert (shown["phase"], shown["progress"]["productsImported"]) == ("Succeeded", 3)
        assert (await client.post(f"{answer.headers['Location']}/retry")).status_code == 202
        assert (await world.finished(name)).state is JobState.COMPLETED
        for wrong, field in (
            ({**spec, "companyId": "acme"}, "companyId"),
            ({**spec, "providerRef": {"name": "nobody"}}, "providerRef"),
        ):
            refused = await client.post("/v1/imports", json={"spec": wrong})
            assert refused.status_code == 422
            assert field in refused.text
        report = (await client.get("/health/queue")).json()
        assert [queue["queue"] for queue in report["queues"]] == ["product-imports"]
        # He may search, where something is indexed: test_compose_enrich.py. Here nobody asked for it.
        assert (await client.get(SEARCH)).status_code == 404
        link = await client.post("/v1/sessions/links", json={"companyId": "bolt"})
        assert link.status_code == 201, link.text
        assert (await client.post("/v1/queue/pause", json={"reason": "a test"})).status_code == 200
        held = (await client.post("/v1/imports", json={"name": "held", "spec": spec})).headers["Location"]
        assert held == "/v1/imports/imports/held"
        assert (await client.post(f"{held}/cancel")).status_code == 202
        assert (await client.get(held)).json()["phase"] == "Cancelled"
        assert (await client.post("/v1/imports", json={"name": "held", "spec": spec})).status_code == 409
        assert (await client.post("/v1/queue/resume")).status_code == 200
        await refuses_without_room(client, spec)
    async with world.gateway("") as nobody:
        assert (await nobody.get("/v1/imports")).status_code == 401
    async with world.gateway("reader" + TOKEN) as reader:
        assert (await reader.get("/v1/imports")).status_code == 200
        assert (await reader.post("/v1/imports", json={"spec": spec})).status_code == 403
        assert (await reader.get(SEARCH)).status_code == 403
        may = (await reader.get("/v1/me")).json()["may"]
        assert may == {"list": True, "submit": False, "retry": False, "cancel": False, "pause": False}
