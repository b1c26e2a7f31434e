"""Sellers' links on a real gateway, PostgreSQL and Valkey: one company alone, for a time, and revocable."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from gateway_world import Events, Gateway, World
from redis.asyncio import Redis

LINKS = "/v1/sessions/links"
COOKIE = "imports-seller"


@pytest_asyncio.fixture(loop_scope="session")
async def sellers(world: World, redis_url: str) -> AsyncIterator[Gateway]:
    async with world.gateway(redis_url=redis_url, reread_seconds=0.1, heartbeat_seconds=0.1) as gateway:
        yield gateway


async def token_of(gateway: Gateway, company: str = "acme", **more: Any) -> tuple[str, str]:
    answer = await gateway.call("POST", LINKS, json={"companyId": company, **more})
    assert answer.status_code == 201, answer.text
    link = answer.json()
    assert link["url"].startswith(f"{gateway.url}/seller#")
    return link["id"], link["url"].partition("#")[2]


async def open_link(gateway: Gateway, token: str, *, origin: str | None = None) -> Any:
    headers = {"Origin": origin or gateway.url}
    return await gateway.call("POST", "/seller/session", caller=None, headers=headers, json={"token": token})


@asynccontextmanager
async def following(gateway: Gateway, token: str, **headers: str) -> AsyncIterator[Events]:
    fields = {"Cookie": f"{COOKIE}={token}", **headers}
    async with gateway.client.stream("GET", "/seller/events", headers=fields) as response:
        yield Events(response)


async def until_told(events: Events, job_id: str, phase: str) -> set[str]:
    """Read until a job is told in a phase; returns the ids of all that were told of."""
    told: dict[str, str] = {}
    while told.get(job_id) != phase:
        told |= {job["id"]: job["phase"] for job in (await events.next()).data["jobs"]}
    return set(told)


async def newest_id(gateway: Gateway, token: str) -> str:
    async with following(gateway, token) as events:
        return (await events.next()).id


async def test_a_link_shows_one_company_and_what_changes_of_it(sellers: Gateway, world: World) -> None:
    own, other = await world.job(), await world.job()
    await world.execute("""UPDATE "ProductImportJob" SET "companyId" = 'zeta' WHERE id = %s""", (other,))
    step = await world.job()
    await world.execute("""UPDATE "ProductImportJob" SET queue = 'quality-control' WHERE id = %s""", (step,))
    _, token = await token_of(sellers)
    answer = await open_link(sellers, token)
    assert answer.status_code == 201
    assert answer.json()["companyId"] == "acme"
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in (f"{COOKIE}={token}", "HttpOnly", "SameSite=strict", "Path=/"))
    async with following(sellers, token) as events:
        assert events.response.status_code == 200
        first = await events.next()
        assert (first.name, [job["id"] for job in first.data["jobs"]]) == ("overview", [own])
        await world.set(other, "FAILED")
        await world.set(own, "COMPLETED")
        assert await until_told(events, own, "Succeeded") == {own}
        later = await world.job()
        assert await until_told(events, later, "Queued") <= {own, later}
        await world.set(later, "CANCELLED")
        assert await until_told(events, later, "Cancelled") == {later}
        last = await newest_id(sellers, token)
    async with following(sellers, token, **{"Last-Event-ID": last}) as events:
        # Whoever has the newest state is told nothing again.
        while not (await events.line()).startswith(":"):
            pass
        await world.execute(
            """UPDATE "ProductImportJob" SET "errorMessage" = 'no more' WHERE id = %s""", (later,)
        )
        told = await events.next()
        assert (told.name, [job["id"] for job in told.data["jobs"]]) == ("change", [later])


async def test_a_link_opens_nothing_else(sellers: Gateway, world: World) -> None:
    await world.job("seller-one")
    _, token = await token_of(sellers)
    fields = {"Cookie": f"{COOKIE}={token}; imports-session={token}"}
    for method, path in (
        ("GET", "/v1/imports"),
        ("GET", sellers.one("seller-one")),
        ("GET", sellers.one("seller-one", "/events")),
        ("GET", "/v1/events"),
        ("GET", "/v1/figures"),
        ("GET", LINKS),
        ("GET", "/v1/me"),
    ):
        answer = await sellers.client.request(method, path, headers=fields)
        assert answer.status_code == 401, path
    answer = await sellers.client.get("/v1/imports", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
    # Nor does an account's token open a seller's page.
    account = {"Cookie": f"{COOKIE}={sellers.cluster.tokens['operations']}"}
    assert (await sellers.client.get("/seller/session", headers=account)).status_code == 401


async def test_only_who_may_makes_lists_and_revokes_links(sellers: Gateway) -> None:
    for caller, status in (("nobody", 403), ("viewer", 403), ("submitter", 201), (None, 401)):
        answer = await sellers.call("POST", LINKS, caller=caller, json={"companyId": "acme"})
        assert answer.status_code == status, caller
    assert (await sellers.call("GET", LINKS, caller="viewer")).status_code == 403
    listed = (await sellers.call("GET", LINKS)).json()["items"]
    assert [(link["companyId"], link["createdBy"].rpartition(":")[2]) for link in listed] == [
        ("acme", "submitter")
    ]
    assert "url" not in listed[0]
    path = f"{LINKS}/{listed[0]['id']}"
    assert (await sellers.call("DELETE", path, caller="viewer")).status_code == 403
    assert (await sellers.call("DELETE", path)).status_code == 204
    assert (await sellers.call("DELETE", path)).status_code == 404
    assert (await sellers.call("GET", LINKS)).json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [{}, {"companyId": ""}, {"companyId": "acme", "minutes": 0}, {"companyId": "acme", "minutes": 100_000}],
)
async def test_a_link_that_makes_no_sense_is_refused(sellers: Gateway, body: Any) -> None:
    assert (await sellers.call("POST", LINKS, json=body)).status_code == 422


async def test_a_revoked_link_ends_open_pages(sellers: Gateway, world: World) -> None:
    await world.job()
    link_id, token = await token_of(sellers)
    async with following(sellers, token) as events:
        await events.next()
        assert (await sellers.call("DELETE", f"{LINKS}/{link_id}")).status_code == 204
        await events.until_ended()
    assert (await open_link(sellers, token)).json()["type"].endswith("link-invalid")
    async with following(sellers, token) as events:
        assert events.response.status_code == 401


async def test_an_expired_a_made_up_and_a_lost_link_open_nothing(sellers: Gateway, redis_url: str) -> None:
    link_id, token = await token_of(sellers)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        [key] = [key async for key in redis.scan_iter(f"imports:seller-link:*{link_id}")]
        assert 0 < await redis.ttl(key) <= 3600
        kept = await redis.get(key)
        assert token.partition(".")[2] not in kept
        for made_up in (f"{link_id}.{'x' * 43}", "x", "0" * 12 + "." + "y" * 43):
            assert (await open_link(sellers, made_up)).status_code == 401
        # Also where Redis keeps it for longer than it should.
        _, soon = await token_of(sellers)
        [other] = [key async for key in redis.scan_iter("imports:seller-link:*") if link_id not in key]
        past = {**json.loads(await redis.get(other)), "expiresAt": 1.0}
        await redis.set(other, json.dumps(past))
        assert (await open_link(sellers, soon)).status_code == 401
        await redis.flushall()
    _, fresh = await token_of(sellers)
    assert (await open_link(sellers, fresh)).status_code == 201
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
    assert (await sellers.call("GET", LINKS)).json()["items"] == []


async def test_pages_of_others_can_neither_open_nor_leave(sellers: Gateway) -> None:
    _, token = await token_of(sellers)
    for origin in ("https://evil.example", "null"):
        assert (await open_link(sellers, token, origin=origin)).status_code == 403
        left = await sellers.client.request("DELETE", "/seller/session", headers={"Origin": origin})
        assert left.status_code == 403
    assert (await sellers.client.request("POST", "/seller/session", json={"token": token})).status_code == 403
    left = await sellers.client.request("DELETE", "/seller/session", headers={"Origin": sellers.url})
    assert left.status_code == 204
    assert f'{COOKIE}=""' in left.headers["set-cookie"]


async def test_without_redis_links_are_unavailable_and_the_rest_works(world: World) -> None:
    async with world.gateway() as gateway:
        answer = await gateway.call("POST", LINKS, json={"companyId": "acme"})
        assert (answer.status_code, "REDIS_URL" in answer.json()["detail"]) == (503, True)
        assert (await gateway.call("GET", "/v1/imports")).status_code == 200
    async with world.gateway(redis_url="redis://127.0.0.1:1/0") as gateway:
        assert (await gateway.call("POST", LINKS, json={"companyId": "acme"})).status_code == 503
        assert (await open_link(gateway, "0" * 12 + "." + "y" * 43)).status_code == 503
