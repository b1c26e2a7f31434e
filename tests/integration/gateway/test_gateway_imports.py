"""Imports over HTTP: submitted once, listed, found, run again and cancelled, with real objects and rows."""

import asyncio
from typing import Any

import httpx2
import pytest
from gateway_world import SPEC, Gateway, World

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL
from import_core.domain.reopening import RETRY_ANNOTATION, RETRY_ITEMS_ANNOTATION
from import_core.domain.submission import SUBMITTED_BY_ANNOTATION

PROBLEM = "application/problem+json"


def problem(response: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    body: dict[str, Any] = response.json()
    assert body["type"].endswith(f"problem/{slug}")
    assert body["status"] == status
    assert body["instance"] == response.headers["x-request-id"]
    return body


async def test_submission_creates_an_object_in_the_callers_name(gateway: Gateway, world: World) -> None:
    spec = {**SPEC, "images": {"maxPerProduct": 3}}
    answer = await gateway.call("POST", "/v1/imports", caller="submitter", json={"spec": spec})
    assert answer.status_code == 201, answer.text
    submitted = answer.json()
    assert submitted["phase"] == "Pending"
    assert answer.headers["location"] == gateway.one(submitted["name"])
    body = await world.cluster.kube.get(IMPORT_JOB, world.cluster.namespace, submitted["name"])
    assert body is not None
    assert body["spec"]["images"]["maxPerProduct"] == 3
    assert body["metadata"]["annotations"][SUBMITTED_BY_ANNOTATION] == (
        f"system:serviceaccount:{world.cluster.namespace}:submitter"
    )
    shown = await gateway.call("GET", answer.headers["location"], caller="viewer")
    assert shown.json() == submitted


async def test_key_makes_one_import_however_often_it_is_sent(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "order 1/2"}

    async def submit(caller: str = "submitter", **spec: Any) -> httpx2.Response:
        body = {"spec": {**SPEC, **spec}}
        return await gateway.call("POST", "/v1/imports", caller=caller, headers=headers, json=body)

    answers = await asyncio.gather(*(submit() for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["name"] for answer in answers}) == 1
    assert {a.headers.get("idempotent-replayed") for a in answers if a.status_code == 200} == {"true"}
    problem(await submit(suspend=True), 409, "idempotency-key-reused")
    other = await submit(caller="operations", suspend=True)
    assert other.status_code == 201
    assert other.json()["name"] != answers[0].json()["name"]


async def test_name_that_exists_is_a_conflict_unless_the_key_is_the_same(gateway: Gateway) -> None:
    body = {"name": "named", "spec": SPEC}

    async def submit(**headers: str) -> httpx2.Response:
        return await gateway.call("POST", "/v1/imports", json=body, headers=headers)

    assert (await submit(**{"Idempotency-Key": "a"})).status_code == 201
    assert (await submit(**{"Idempotency-Key": "a"})).status_code == 200
    problem(await submit(**{"Idempotency-Key": "b"}), 409, "conflict")
    problem(await submit(), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"spec": {"providerRef": {"name": "x"}}}, "/spec/companyId"),
        ({"spec": {**SPEC, "companyId": "a/b"}}, "/spec/companyId"),
        ({"spec": {**SPEC, "companyID": "typing error"}}, "/spec/companyID"),
        ({"spec": {**SPEC, "images": {"thumbnails": [256, 256]}}}, "/spec/images/thumbnails"),
        ({"spec": {**SPEC, "enrich": {"index": "yes"}}}, "/spec/enrich/index"),
        ({"spec": SPEC, "name": "Not A Name"}, "/name"),
        ({"spec": SPEC, "nam/e": 1}, "/nam~1e"),
        ([], ""),
    ],
)
async def test_wrong_field_is_named(gateway: Gateway, body: Any, pointer: str) -> None:
    answer = problem(await gateway.call("POST", "/v1/imports", json=body), 422, "invalid")
    assert [error["pointer"] for error in answer["errors"]] == [pointer]


async def test_list_goes_through_all_pages_once_newest_first(gateway: Gateway, world: World) -> None:
    ids = [await world.row(f"row-{number:02}", company=f"company-{number % 2}") for number in range(11)]
    await world.row("elsewhere", namespace="another")
    await world.set("row-03", "FAILED", failureReason="Broken")

    async def collect(**query: str) -> list[str]:
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            parameters = {"limit": "4", **query, **cursor}
            page = (await gateway.call("GET", "/v1/imports", caller="viewer", params=parameters)).json()
            assert len(page["items"]) <= 4
            found += [item["id"] for item in page["items"]]
            if page["next"] is None:
                return found
            cursor = {"cursor": page["next"]}

    assert await collect() == ids[::-1]
    assert await collect(company="company-1") == ids[9::-2]
    assert await collect(phase="Failed") == ["row-03"]
    assert await collect(phase="Queued", company="company-1") == [i for i in ids[9::-2] if i != "row-03"]
    assert await collect(phase="Running") == []


async def test_pending_ones_come_from_the_api_server_with_the_reason(gateway: Gateway, world: World) -> None:
    created = await gateway.call("POST", "/v1/imports", json={"spec": {**SPEC, "companyId": "refused"}})
    condition = {
        "type": "Accepted",
        "status": "False",
        "reason": "ProviderNotFound",
        "message": "no such provider",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    await world.cluster.kube.patch_status(
        IMPORT_JOB,
        world.cluster.namespace,
        created.json()["name"],
        {"phase": "Pending", "message": "no such provider", "conditions": [condition]},
        resource_version=None,
    )
    page = await gateway.call("GET", "/v1/imports", params={"phase": "Pending", "company": "refused"})
    assert [(item["reason"], item["message"]) for item in page.json()["items"]] == [
        ("ProviderNotFound", "no such provider")
    ]


async def test_one_import_tells_place_and_times(gateway: Gateway, world: World) -> None:
    for number in range(3):
        await world.row(f"before-{number}")
    await world.execute("""UPDATE "ProductImportJob" SET "createdAt" = now() - interval '1 hour'""")
    await world.job("waiting")
    shown = (await gateway.call("GET", gateway.one("waiting"))).json()
    assert shown["phase"] == "Queued"
    assert shown["estimate"]["place"] == 3
    assert shown["estimate"]["secondsUntilStart"] is None, "nothing was measured, so nothing is guessed"
    by_id = (await gateway.call("GET", gateway.one("before-0"))).json()
    assert (by_id["name"], by_id["estimate"]["place"]) == ("before-0", 0)


async def test_finished_import_is_found_when_its_object_is_gone(gateway: Gateway, world: World) -> None:
    job_id = await world.job("history")
    await world.set(job_id, "COMPLETED")
    await world.cluster.kube.delete(IMPORT_JOB, world.cluster.namespace, "history", uid=job_id)
    shown = (await gateway.call("GET", gateway.one("history"))).json()
    assert (shown["id"], shown["phase"]) == (job_id, "Succeeded")


async def test_failed_items_are_paged_with_reasons(gateway: Gateway, world: World) -> None:
    await world.row("with-errors")
    for number in range(5):
        await world.execute(
            """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message, document)
            VALUES ('with-errors', %s, 'map', 'BadPrice', 'no price', '{"id": 1}')""",
            (f"p{number}",),
        )
    path, found, cursor = gateway.one("with-errors", "/errors"), [], {}
    while True:
        page = (await gateway.call("GET", path, params={"limit": "2", **cursor})).json()
        assert page["total"] == 5
        assert page["reasons"] == [{"stage": "map", "reason": "BadPrice", "count": 5}]
        found += [item["externalId"] for item in page["items"]]
        assert all(item["document"] is None for item in page["items"])
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == [f"p{number}" for number in range(5)]
    page = (await gateway.call("GET", path, params={"limit": "1", "documents": "true"})).json()
    assert page["items"][0]["document"] == {"id": 1}


async def test_pages_with_documents_are_short(gateway: Gateway, world: World) -> None:
    await world.row("documents")
    await world.execute(
        """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message, document)
        SELECT 'documents', 'p' || lpad(number::text, 2, '0'), 'map', 'BadPrice', 'no price',
            jsonb_build_object('text', repeat('x', 60000)) FROM generate_series(0, 11) number"""
    )
    path, query = gateway.one("documents", "/errors"), {"limit": "200", "documents": "true"}
    page = (await gateway.call("GET", path, params=query)).json()
    assert [item["externalId"] for item in page["items"]] == [f"p{number:02}" for number in range(10)]
    assert all(len(item["document"]["text"]) == 60000 for item in page["items"])
    rest = (await gateway.call("GET", path, params={**query, "cursor": page["next"]})).json()
    assert [item["externalId"] for item in rest["items"]] == ["p10", "p11"]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("items_only", "annotation"), [(False, RETRY_ANNOTATION), (True, RETRY_ITEMS_ANNOTATION)]
)
async def test_retry_annotates_the_object_once_for_each_key(
    gateway: Gateway, world: World, items_only: bool, annotation: str
) -> None:
    name = f"retried-{items_only}".lower()
    job_id = await world.job(name)
    path = gateway.one(name, "/retry")
    problem(await gateway.call("POST", path), 409, "conflict")
    await world.set(job_id, "FAILED")

    async def annotated() -> str:
        body = await world.cluster.kube.get(IMPORT_JOB, world.cluster.namespace, name)
        return str(body["metadata"]["annotations"][annotation]) if body else ""

    async def retry(**headers: str) -> httpx2.Response:
        return await gateway.call("POST", path, json={"itemsOnly": items_only}, headers=headers)

    assert (await retry(**{"Idempotency-Key": "once"})).status_code == 202
    first = await annotated()
    await world.set(job_id, "IN_PROGRESS")
    again = await retry(**{"Idempotency-Key": "once"})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert await annotated() == first
    problem(await retry(**{"Idempotency-Key": "twice"}), 409, "conflict")


async def test_row_without_an_object_is_retried_and_cancelled_by_itself(
    gateway: Gateway, world: World
) -> None:
    await world.row("platform")
    await world.set("platform", "FAILED")
    assert (await gateway.call("POST", gateway.one("platform", "/retry"))).status_code == 202
    assert (await gateway.call("GET", gateway.one("platform"))).json()["phase"] == "Queued"
    cancelled = await gateway.call("POST", gateway.one("platform", "/cancel"))
    assert (cancelled.status_code, cancelled.json()["phase"]) == (202, "Cancelled")
    assert (await gateway.call("POST", gateway.one("platform", "/cancel"))).status_code == 202
    problem(await gateway.call("POST", gateway.one("platform", "/retry")), 409, "conflict")


@pytest.mark.parametrize("items_only", [False, True])
async def test_row_without_an_object_is_retried_once_for_each_key(
    gateway: Gateway, world: World, items_only: bool
) -> None:
    await world.row("keyed")
    await world.set("keyed", "FAILED")
    await world.execute(
        """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message)
        VALUES ('keyed', 'p1', 'map', 'BadPrice', 'no price')"""
    )

    async def retry(key: str) -> httpx2.Response:
        headers, body = {"Idempotency-Key": key}, {"itemsOnly": items_only}
        return await gateway.call("POST", gateway.one("keyed", "/retry"), json=body, headers=headers)

    assert "idempotent-replayed" not in (await retry("once")).headers
    again = await retry("once")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    problem(await retry("twice"), 409, "conflict")


async def test_operator_is_told_of_a_row_that_was_cancelled(gateway: Gateway, world: World) -> None:
    await world.row("told")
    connection = await world.database.dedicated()
    try:
        await connection.execute(f"LISTEN {PROGRESS_CHANNEL}")
        assert (await gateway.call("POST", gateway.one("told", "/cancel"))).status_code == 202
        async with asyncio.timeout(10):
            async for notification in connection.notifies():
                assert notification.payload == "told"
                break
    finally:
        await connection.close()


async def test_cancel_deletes_the_object_and_leaves_a_finished_one(gateway: Gateway, world: World) -> None:
    job_id = await world.job("unwanted")
    assert (await gateway.call("POST", gateway.one("unwanted", "/cancel"))).status_code == 202
    assert await world.cluster.kube.get(IMPORT_JOB, world.cluster.namespace, "unwanted") is None
    done = await world.job("done")
    await world.set(done, "COMPLETED")
    problem(await gateway.call("POST", gateway.one("done", "/cancel")), 409, "conflict")
    assert await world.cluster.kube.get(IMPORT_JOB, world.cluster.namespace, "done") is not None
    assert job_id


async def test_queue_is_paused_and_resumed_by_name(gateway: Gateway, world: World) -> None:
    paused = await gateway.call("POST", "/v1/queue/pause", json={"reason": "moving"})
    health = paused.json()["queues"][0]
    assert (health["queue"], health["paused"], health["pausedReason"]) == ("product-imports", True, "moving")
    assert health["pausedBy"].endswith(":operations")
    resumed = await gateway.call("POST", "/v1/queue/resume")
    assert resumed.json()["queues"][0]["paused"] is False
    problem(await gateway.call("POST", "/v1/queue/pause", json={"queue": "none"}), 404, "not-found")


async def test_intake_is_stopped_and_opened_by_hand(gateway: Gateway) -> None:
    body = {"scope": "intake", "reason": "maintenance"}
    stopped = (await gateway.call("POST", "/v1/queue/pause", json=body)).json()["queues"][0]
    assert (stopped["intakeOpen"], stopped["intakeReason"]) == (False, "maintenance")
    assert stopped["paused"] is False
    opened = (await gateway.call("POST", "/v1/queue/resume", json={"scope": "intake"})).json()["queues"][0]
    assert (opened["intakeOpen"], opened["intakeReason"]) == (True, None)


async def test_queue_health_is_the_same_for_a_while(gateway: Gateway, world: World) -> None:
    await world.row("one")
    first = (await gateway.call("GET", "/health/queue")).json()
    assert (first["queues"][0]["depth"], first["queues"][0]["level"]) == (1, "healthy")
    await world.row("two")
    assert (await gateway.call("GET", "/health/queue")).json() == first
