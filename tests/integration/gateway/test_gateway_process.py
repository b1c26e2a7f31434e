"""The process itself: starts without its neighbours, says that it stops, ends its streams and goes with 0."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from eventually import eventually
from gateway_world import SPEC, Cluster, World
from scraping import Scraped, scrape

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.correlation import CORRELATION_ANNOTATION
from import_local.ports import free_port


class GatewayProcess:
    """A replica as a child process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, health_port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.health_url = f"http://127.0.0.1:{health_port}"
        self.log = log

    def logged(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def running(cluster: Cluster, folder: Path, **environment: str) -> AsyncIterator[GatewayProcess]:
    port, health_port, log = free_port(), free_port(), folder / "gateway.log"
    variables = {
        "PATH": os.environ["PATH"],
        **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE_PROCESS")},
        "KUBECONFIG": str(cluster.gateway_kubeconfig),
        "POD_NAMESPACE": cluster.namespace,
        "HTTP_PORT": str(port),
        "HEALTH_PORT": str(health_port),
        "ADMISSION_PORT": str(free_port()),
        # For so long a stopping replica can be asked how it is: a busy machine must not miss that.
        "DRAIN_SECONDS": "5",
        **environment,
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "import_gateway"), env=variables, stdout=output, stderr=output
        )
    gateway = GatewayProcess(process, port, health_port, log)

    async def answers() -> bool:
        assert process.returncode is None, log.read_text()
        async with httpx2.AsyncClient(trust_env=False) as client:
            try:
                return (await client.get(f"{gateway.url}/healthz")).status_code == 200
            except httpx2.TransportError:
                return False

    try:
        await eventually(answers, seconds=40)
        yield gateway
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def without_waiting(line: str) -> dict[str, Any]:
    """What a stream's line tells of an import but why it waits, and for how long."""
    told: dict[str, Any] = json.loads(line.removeprefix("data:"))
    return {name: value for name, value in told.items() if name not in {"estimate", "waitingReason"}}


async def test_stop_is_announced_and_ends_streams(world: World, tmp_path: Path) -> None:
    await world.row("open")
    cluster = world.cluster
    headers = {"Authorization": f"Bearer {cluster.tokens['viewer']}"}
    async with (
        running(cluster, tmp_path, DATABASE_URL=world.database_url) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False, timeout=20) as client,
        client.stream("GET", f"/v1/imports/{cluster.namespace}/open/events") as stream,
    ):
        assert stream.status_code == 200
        lines = stream.aiter_lines()
        while not (first := await anext(lines)).startswith("data:"):
            pass
        told = without_waiting(first)
        gateway.process.send_signal(signal.SIGTERM)

        async def unready() -> bool:
            return (await client.get(f"{gateway.health_url}/readyz")).json()["reason"] == "stopping"

        await eventually(unready)
        assert (await client.get("/v1/me")).status_code == 200, "others may still send some"
        async with asyncio.timeout(30):
            # Its place in the queue may still be told, and nothing else of it; then the stream ends as a whole answer.
            async for line in lines:
                if line.startswith("data:"):
                    assert without_waiting(line) == told
            assert await gateway.process.wait() == 0
        assert gateway.logged("gateway.stopped")
        text = gateway.log.read_text()
        assert cluster.tokens["viewer"] not in text
        assert gateway.logged("request.answered")


async def test_it_starts_while_the_database_is_away_and_serves_metrics(world: World, tmp_path: Path) -> None:
    url = f"postgresql://postgres:secret-word@127.0.0.1:{free_port()}/none"
    headers = {"Authorization": f"Bearer {world.cluster.tokens['viewer']}"}
    async with (
        running(world.cluster, tmp_path, DATABASE_URL=url, REQUEST_SECONDS="1") as gateway,
        httpx2.AsyncClient(trust_env=False, timeout=20) as client,
    ):
        answer = await client.get(f"{gateway.url}/v1/imports", headers=headers)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        metrics = (await client.get(f"{gateway.health_url}/metrics")).text
        assert 'imports_http_requests_total{method="GET",route="/v1/imports",status="503"} 1.0' in metrics
        assert "secret-word" not in gateway.log.read_text()
        assert (await client.get(f"{gateway.url}/metrics")).status_code == 404, "not on the published port"


async def test_a_submission_is_tied_to_its_import_and_counted(world: World, tmp_path: Path) -> None:
    cluster = world.cluster
    headers = {"Authorization": f"Bearer {cluster.tokens['submitter']}", "X-Request-Id": "order-99"}
    async with (
        running(cluster, tmp_path, DATABASE_URL=world.database_url) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False, timeout=20) as client,
    ):
        key = {"Idempotency-Key": "tied"}
        answer = await client.post("/v1/imports", json={"spec": SPEC}, headers=key)
        assert (answer.status_code, answer.headers["x-request-id"]) == (201, "order-99")
        again = {**key, "X-Request-Id": "order-99-again"}
        assert (await client.post("/v1/imports", json={"spec": SPEC}, headers=again)).status_code == 200
        body = await cluster.kube.get(IMPORT_JOB, cluster.namespace, answer.json()["name"])
        assert body is not None
        assert body["metadata"]["annotations"][CORRELATION_ANNOTATION] == "order-99"
        submitted = gateway.logged("import.submitted")
        assert [(line["jobId"], line["correlationId"], line["requestId"]) for line in submitted] == [
            (body["metadata"]["uid"], "order-99", "order-99"),
            (body["metadata"]["uid"], "order-99", "order-99-again"),
        ]

        async def neighbour_asked() -> Scraped | None:
            # PostgreSQL is asked for a sign of life beside the API, which may answer sooner.
            scraped = await scrape(f"{gateway.health_url}/metrics")
            return scraped if scraped.value("imports_neighbour_up", neighbour="PostgreSQL") == 1 else None

        found = await eventually(neighbour_asked)
        posted = {"method": "POST", "route": "/v1/imports"}
        assert found.value("imports_http_requests_total", status="201", **posted) == 1
        assert found.value("imports_http_request_duration_seconds_count", **posted) == 2
        assert found.value("imports_http_requests_in_progress") == 0
        assert found.value("imports_admission_reviews_total", result="failed") == 0
        assert found.total("imports_build_info", process="gateway") == 1
        assert cluster.tokens["submitter"] not in gateway.log.read_text()


async def test_wrong_settings_end_with_2_and_name_the_variable(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HTTP_PORT": "none"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "import_gateway"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, problems = await process.communicate()
    assert process.returncode == 2
    assert b"HTTP_PORT" in problems
    assert b"DATABASE_URL" in problems
