"""The probes' server."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest_asyncio
from prometheus_client import REGISTRY

from import_core.observability.health import HealthServer


class Readiness:
    ready = False


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[tuple[HealthServer, Readiness]]:
    readiness = Readiness()
    running = HealthServer(
        "127.0.0.1", 0, registry=REGISTRY, not_ready=lambda: None if readiness.ready else "starting"
    )
    serving = asyncio.create_task(running.run())
    yield running, readiness
    running.stop()
    await serving


async def get(server: HealthServer, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{server.port}{path}")


async def test_probes_tell_the_truth(server: tuple[HealthServer, Readiness]) -> None:
    running, readiness = server
    assert (await get(running, "/healthz")).status_code == 200
    refused = await get(running, "/readyz")
    assert (refused.status_code, refused.json()["reason"]) == (503, "starting")
    readiness.ready = True
    assert (await get(running, "/readyz?verbose")).status_code == 200
    assert (await get(running, "/secrets")).status_code == 404


async def test_metrics_are_served(server: tuple[HealthServer, Readiness]) -> None:
    answer = await get(server[0], "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE" in answer.text


async def test_rubbish_is_refused(server: tuple[HealthServer, Readiness]) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"http://127.0.0.1:{server[0].port}/healthz")
    assert answer.status_code == 405
    assert (await get(server[0], "/healthz")).status_code == 200
