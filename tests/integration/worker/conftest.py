"""A whole worker's surroundings: real PostgreSQL, Valkey and S3, sample providers; Kubernetes is a dictionary."""

import asyncio
import base64
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.jobs import JobRequest, JobRow, Message, ObjectReference
from import_local.parts.objectstore import Bucket
from import_local.ports import free_port
from import_local.samples.app import KEEP_ALIVE_SECONDS, RunningSamples, SampleServer, serve_samples
from import_local.samples.settings import GRAPH_CATALOGUE
from import_worker.runner import StopSignal, Worker
from import_worker.settings import WorkerSettings

NAMESPACE = "imports"


@dataclass
class Directory:
    """ImportProviders and Secrets, as the worker's port to Kubernetes reads them."""

    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)

    async def get_provider(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self.providers.get(name) if namespace == NAMESPACE else None

    async def get_secret(self, namespace: str, name: str) -> dict[str, str] | None:
        return self.secrets.get(name) if namespace == NAMESPACE else None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker_samples() -> AsyncIterator[RunningSamples]:
    async with serve_samples() as running:
        yield running


@pytest.fixture
def samples(worker_samples: RunningSamples) -> RunningSamples:
    for account in worker_samples.sample.accounts():
        account.reset()
    return worker_samples


@dataclass
class Stage:
    """What a test works with: submit jobs, start workers, look at the results."""

    database: Database
    jobs: JobStore
    queue: JobQueue
    store: ObjectStore
    directory: Directory
    samples: RunningSamples
    settings: WorkerSettings

    def connect(self, kind: str, catalogue: str, *, company: str = "acme", **spec: Any) -> str:
        """Make an ImportProvider for a sample catalogue; returns its name."""
        name = f"{company}-{kind}-{catalogue}"
        base_url = {
            "shopify": f"{self.samples.shopify_url}/{catalogue}",
            "roastify": f"{self.samples.roastify_url}/{catalogue}/v1",
            "whatsapp": f"{self.samples.graph_url}/{catalogue}",
        }[kind]
        credentials = {
            "shopify": {"accessToken": "shpat_example"},
            "roastify": {"apiKey": "rty_test_example"},
            "whatsapp": {"accessToken": "EAAexample"},
        }
        if kind == "whatsapp":
            spec = {"whatsapp": {"mode": "Graph", "graph": {"catalogId": GRAPH_CATALOGUE}}, **spec}
        self.directory.secrets.setdefault(name, credentials[kind])
        self.directory.providers[name] = {
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "generation": 1},
            "spec": {
                "companyId": company,
                "type": kind,
                "baseUrl": base_url,
                "credentialsSecretRef": {"name": name},
                "rateLimit": {"requests": 10_000, "perSeconds": 1},
                **spec,
            },
        }
        return name

    async def submit(self, job_id: str, provider: str, *, company: str = "acme", **spec: Any) -> Message:
        """Record a job and hand it over, as operator and dispatcher do."""
        await self.record(job_id, provider, company=company, **spec)
        return await self.dispatch(job_id)

    async def record(self, job_id: str, provider: str, *, company: str = "acme", **spec: Any) -> None:
        """Record a job, as the operator does."""
        full = {"companyId": company, "providerRef": {"name": provider}, **spec}
        origin = ObjectReference(NAMESPACE, f"object-{job_id}", job_id)
        await self.jobs.record([JobRequest(job_id, company, provider, NAMESPACE, full, origin, generation=1)])

    async def dispatch(self, job_id: str) -> Message:
        """Hand a due row over."""
        (row,) = await self.rows(
            """UPDATE "ProductImportJob" SET dispatch = coalesce(dispatch, 0) + 1, "dispatchedAt" = now()
            WHERE id = %s RETURNING dispatch""",
            job_id,
        )
        message = Message(job_id, row[0])
        await self.queue.add([message])
        return message

    async def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.database.connection() as connection:
            cursor = await connection.execute(statement, parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def job(self, job_id: str) -> JobRow:
        return (await self.jobs.read([job_id]))[job_id]

    async def until(self, job_id: str, is_so: Callable[[JobRow], bool], *, seconds: float = 60) -> JobRow:
        """The job once it is so."""
        async with asyncio.timeout(seconds):
            while not is_so(job := await self.job(job_id)):  # noqa: ASYNC110 - looks from outside
                await asyncio.sleep(0.05)
        return job

    async def finished(self, job_id: str, *, seconds: float = 60) -> JobRow:
        return await self.until(job_id, lambda job: job.state.is_final, seconds=seconds)

    async def keys(self) -> list[str]:
        return sorted([info.key async for info in self.store.list()])

    @asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[Worker]:
        """Run a worker in this event loop; it is stopped gracefully at the end."""
        stop = StopSignal()
        worker = Worker(self.settings.model_copy(update=settings), self.directory, stop)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            stop.ask()
            stop.ask()
            assert await asyncio.wait_for(task, 30) == 0


@pytest_asyncio.fixture(loop_scope="session")
async def stage(
    database_url: str,
    redis_url: str,
    object_store: Bucket,
    samples: RunningSamples,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Stage]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_access_key)
    settings = WorkerSettings(
        database_url=database_url,
        redis_url=redis_url,
        s3_bucket=object_store.name,
        s3_endpoint_url=object_store.endpoint_url,
        aws_region=object_store.region,
        image_allow=samples.base_url.removeprefix("http://"),
        provider_allow="127.0.0.1",
        health_port=0,
        pod_ip="127.0.0.1",
        stop_seconds=5,
    )
    database = Database(database_url, application="tests", maximum=4)
    await database.open(wait_seconds=10)
    redis = connect(redis_url, client_name="tests")
    store = ObjectStore(object_store.name, endpoint_url=object_store.endpoint_url, region=object_store.region)
    yield Stage(database, JobStore(database), JobQueue(redis), store, Directory(), samples, settings)
    await redis.aclose()
    await database.close()


@pytest.fixture
def images_may_come(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Event]:
    """The sample answers no request for an image until this is set: a job waits where the test wants it."""
    yield from _holding(monkeypatch, "import_local.samples.image_routes.delay")


@pytest.fixture
def calls_may_be_answered(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Event]:
    """The same for calls of the provider's API."""
    yield from _holding(monkeypatch, "import_local.samples.serving.delay")


def _holding(monkeypatch: pytest.MonkeyPatch, delay: str) -> Iterator[asyncio.Event]:
    go_on = asyncio.Event()

    async def wait(_seconds: float) -> None:
        await go_on.wait()

    monkeypatch.setattr(delay, wait)
    yield go_on
    go_on.set()


class ApiServer(SampleServer):
    """Answers GET of ImportProviders and Secrets, as much of an API server as a worker needs."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.listener = socket.create_server(("127.0.0.1", 0))
        api = f"/apis/imports.avnz.io/v1alpha1/namespaces/{NAMESPACE}/importproviders/{{name}}"
        app = Starlette(
            routes=[
                Route(api, self._provider),
                Route(f"/api/v1/namespaces/{NAMESPACE}/secrets/{{name}}", self._secret),
            ]
        )
        super().__init__(
            uvicorn.Config(app, lifespan="off", log_config=None, timeout_keep_alive=KEEP_ALIVE_SECONDS)
        )

    def kubeconfig(self) -> str:
        """The file that leads to this server."""
        server = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": server}}],
                "users": [{"name": "test", "user": {"token": "none"}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )

    async def _provider(self, request: Request) -> Response:
        found = self._directory.providers.get(request.path_params["name"])
        return _object("ImportProvider", found)

    async def _secret(self, request: Request) -> Response:
        values = self._directory.secrets.get(request.path_params["name"])
        data = values and {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        return _object("Secret", data and {"metadata": {"name": "s"}, "data": data})


def _object(kind: str, body: dict[str, Any] | None) -> Response:
    if body is None:
        status = {"apiVersion": "v1", "kind": "Status", "message": "not found", "code": 404}
        return JSONResponse(status, 404)
    return JSONResponse({"apiVersion": "v1", "kind": kind, **body})


@dataclass
class WorkerProcess:
    """A real `python -m import_worker`."""

    process: asyncio.subprocess.Process
    address: str
    log: Path

    async def get(self, path: str) -> tuple[int, str]:
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
            answer = await client.get(f"http://{self.address}{path}")
            return answer.status_code, answer.text

    async def ended(self, *, seconds: float = 60) -> int:
        return await asyncio.wait_for(self.process.wait(), seconds)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


StartProcess = Callable[..., Awaitable[WorkerProcess]]


@pytest_asyncio.fixture(loop_scope="session")
async def start_process(stage: Stage, object_store: Bucket, tmp_path: Path) -> AsyncIterator[StartProcess]:
    """Start worker processes on loopback; those still running are killed at the end."""
    api = ApiServer(stage.directory)
    serving = asyncio.create_task(api.serve(sockets=[api.listener]))
    (tmp_path / "kubeconfig").write_text(api.kubeconfig())
    started: list[WorkerProcess] = []

    async def start(**settings: str) -> WorkerProcess:
        port = free_port()
        log = tmp_path / f"worker-{len(started)}.log"
        environment = {
            "PATH": os.environ["PATH"],
            **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE_PROCESS")},
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "DATABASE_URL": stage.settings.database_url.get_secret_value(),
            "REDIS_URL": stage.settings.redis_url.get_secret_value(),
            "S3_ENDPOINT_URL": object_store.endpoint_url,
            "S3_BUCKET": object_store.name,
            "AWS_ACCESS_KEY_ID": object_store.access_key_id,
            "AWS_SECRET_ACCESS_KEY": object_store.secret_access_key,
            "AWS_REGION": object_store.region,
            "IMAGE_ALLOW": stage.settings.image_allow,
            "PROVIDER_ALLOW": stage.settings.provider_allow,
            "POD_IP": "127.0.0.1",
            "HEALTH_PORT": str(port),
            **settings,
        }
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "import_worker", stdout=output, stderr=output, env=environment
            )
        worker = WorkerProcess(process, f"127.0.0.1:{port}", log)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.process.returncode is None:
            worker.process.kill()
            await worker.process.wait()
    api.should_exit = True
    await serving
