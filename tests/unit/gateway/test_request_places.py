"""Requests of strangers take no room from those who are known, nor from the health routes."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import Response

from import_core.domain.callers import Caller
from import_gateway import process
from import_gateway.access import gatekeeper
from import_gateway.access.gatekeeper import Gatekeeper, NotAuthenticatedError, TooManyCallsError
from import_gateway.api import endpoint, sessions
from import_gateway.api.endpoint import PathEndpoint, UnderWay
from import_gateway.api.operation import Operation
from import_gateway.api.problems import ProblemError
from import_gateway.api.routes import get_api_routes
from import_gateway.settings import GatewaySettings

SETTINGS: dict[str, Any] = {"database_url": "postgresql://none", "pod_namespace": "shop"}


class Reviewer:
    """Knows the token `good`, and lets it do everything; hangs for those that begin with `slow`."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def review(self, _resource: Any, body: dict[str, Any]) -> dict[str, Any]:
        token = body["spec"].get("token")
        if token is None:
            return {"status": {"allowed": True}}
        self.tokens.append(token)
        if token.startswith("slow"):
            await asyncio.Event().wait()
        if not token.startswith("good"):
            return {"status": {"authenticated": False}}
        user = {"username": token}
        return {"status": {"authenticated": True, "audiences": ["import-gateway"], "user": user}}


def make_client(kube: Any) -> httpx2.AsyncClient:
    settings = GatewaySettings(**SETTINGS)
    services: Any = SimpleNamespace(
        settings=settings, access=Gatekeeper(kube, settings), not_ready=lambda: None
    )
    app = Starlette(routes=get_api_routes(services))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://gateway")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def never() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


async def end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_slow_sign_ins_keep_nobody_else_out() -> None:
    async with make_client(Reviewer()) as client:
        slow = [
            asyncio.create_task(client.post("/session", content=never()))
            for _ in range(endpoint.REQUESTS_AT_ONCE + 10)
        ]
        refused, _ = await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status_code for task in refused} == {503}
        assert (await client.get("/v1/me", headers=bearer("good"))).status_code == 200
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        await end(slow)


async def test_tokens_that_nobody_recognises_keep_no_caller_out() -> None:
    async with make_client(Reviewer()) as client:
        assert (await client.get("/v1/me", headers=bearer("good"))).status_code == 200
        slow = [
            asyncio.create_task(client.get("/v1/me", headers=bearer(f"slow-{number}")))
            for number in range(endpoint.REQUESTS_AT_ONCE + 10)
        ]
        refused, _ = await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status_code for task in refused} == {503}
        assert (await client.get("/v1/me", headers=bearer("good"))).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
        await end(slow)


async def test_sign_in_must_send_its_body_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "BODY_SECONDS", 0.01)
    async with make_client(Reviewer()) as client:
        answer = await client.post("/session", content=never())
        assert answer.status_code == 408
        assert answer.json()["type"].endswith("too-slow")


async def test_tokens_that_stand_for_nobody_push_no_good_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatekeeper, "MOST_REMEMBERED", 10)
    kube: Any = Reviewer()
    access = Gatekeeper(kube, GatewaySettings(**SETTINGS))
    await access.authenticate("good")
    for number in range(20):
        with pytest.raises(NotAuthenticatedError):
            await access.authenticate(f"made-up-{number}")
    await access.authenticate("good")
    assert kube.tokens.count("good") == 1
    assert access.knows("good")
    assert not access.knows("made-up-1")


async def test_token_that_was_taken_back_is_a_strangers() -> None:
    now = 0.0
    kube: Any = Reviewer()
    access = Gatekeeper(kube, GatewaySettings(**SETTINGS), clock=lambda: now)
    await access.authenticate("good")
    now = 31.0
    assert access.knows("good"), "it is asked about once more among those who are known"

    async def nobody(_resource: Any, _body: Any) -> dict[str, Any]:
        return {"status": {"authenticated": False}}

    kube.review = nobody
    with pytest.raises(NotAuthenticatedError):
        await access.authenticate("good")
    assert not access.knows("good")


async def test_large_answer_keeps_its_place_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "SIGN_INS_AT_ONCE", 1)
    services: Any = SimpleNamespace(settings=GatewaySettings(**{**SETTINGS, "request_seconds": 5}))

    async def answer(_call: Any) -> Response:
        return Response(b"x" * 200_000)

    operation = Operation(
        method="GET", path="/large", handler=answer, id="large", summary="Large", answers={}, public=True
    )
    under_way = UnderWay()
    app = PathEndpoint(services, [operation], under_way)
    read, begun = asyncio.Event(), asyncio.Event()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body"):
            begun.set()
            await read.wait()

    async def call() -> int:
        first = len(sent)
        scope = {"type": "http", "method": "GET", "path": "/large", "headers": [], "path_params": {}}
        await app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
        return int(sent[first]["status"])

    slow = asyncio.create_task(call())
    await begun.wait()
    with pytest.raises(ProblemError), under_way.sign_ins:
        pass
    read.set()
    assert await slow == 200
    assert b"".join(message.get("body", b"") for message in sent) == b"x" * 200_000
    assert max(len(message.get("body", b"")) for message in sent) == endpoint.PIECE
    with under_way.sign_ins:
        pass  # there is room again


async def test_who_does_not_read_his_answer_loses_his_place() -> None:
    services: Any = SimpleNamespace(settings=GatewaySettings(**{**SETTINGS, "request_seconds": 0.01}))

    async def answer(_call: Any) -> Response:
        return Response(b"x" * 200_000)

    operation = Operation(
        method="GET", path="/large", handler=answer, id="large", summary="Large", answers={}, public=True
    )
    app = PathEndpoint(services, [operation], UnderWay())

    async def send(_message: Any) -> None:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/large", "headers": [], "path_params": {}}
    async with asyncio.timeout(10):
        await app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]


async def test_calls_are_limited_for_an_account_whichever_token_it_shows() -> None:
    kube: Any = Reviewer()
    access = Gatekeeper(kube, GatewaySettings(**{**SETTINGS, "calls_burst": 1}))
    access.count_call(Caller("a", extra={"credential-id": ("1",)}))
    with pytest.raises(TooManyCallsError):
        access.count_call(Caller("a", extra={"credential-id": ("2",)}))
    access.count_call(Caller("b"))


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SPARE_CONNECTIONS", 1)
    settings = GatewaySettings(**{**SETTINGS, "http_port": 0, "listeners_limit": 2})
    services: Any = SimpleNamespace(settings=settings, not_ready=lambda: None)
    server = process.get_server(Starlette(routes=get_api_routes(services)), settings)
    running = asyncio.create_task(server.run())
    idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        assert (await client.get("/healthz")).status_code == 503
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while (await client.get("/healthz")).status_code == 503:  # noqa: ASYNC110 - the server says nothing
                await asyncio.sleep(0.01)
    server.stop()
    await running
