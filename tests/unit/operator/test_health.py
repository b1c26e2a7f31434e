"""The probes' server."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest_asyncio

from import_operator.health import HealthServer


class Readiness:
    ready = False


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[tuple[HealthServer, Readiness]]:
    readiness = Readiness()
    running = HealthServer("127.0.0.1", 0, ready=lambda: readiness.ready)
    await running.start()
    yield running, readiness
    await running.stop()


async def get(server: HealthServer, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{server.port}{path}")


async def test_probes_tell_the_truth(server: tuple[HealthServer, Readiness]) -> None:
    running, readiness = server
    assert (await get(running, "/healthz")).status_code == 200
    assert (await get(running, "/readyz")).status_code == 503
    readiness.ready = True
    assert (await get(running, "/readyz?verbose")).status_code == 200
    assert (await get(running, "/secrets")).status_code == 404


async def test_metrics_are_served(server: tuple[HealthServer, Readiness]) -> None:
    answer = await get(server[0], "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE" in answer.text


async def test_rubbish_is_refused(server: tuple[HealthServer, Readiness]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server[0].port)
    writer.write(b"POST /healthz HTTP/1.1\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 405")
    writer.close()
    assert (await get(server[0], "/healthz")).status_code == 200
