"""A gateway over real HTTP, in a namespace of a real cluster, with a database of the test's own."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.search.merged import VectorSearch
from import_core.domain.jobs import JobRequest, ObjectReference
from import_gateway.app import get_app
from import_gateway.searching import opened_search
from import_gateway.services import Services, get_services
from import_gateway.serving import AppServer
from import_gateway.settings import GatewaySettings
from import_local.kubectl import run_kubectl

Json = dict[str, Any]
AUDIENCE = "import-gateway"
ROOT = Path(__file__).parents[3]
RBAC_KINDS = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole"}
CALLERS = {
    "viewer": "imports-viewer",
    "submitter": "imports-submitter",
    "searcher": "imports-searcher",
    "operations": "imports-operations",
}
SPEC = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}


def manifests(namespace: str) -> list[Json]:
    """The rights of deploy/base, and a ServiceAccount for each role of callers and for one without any."""
    found = [
        document
        for file in sorted((ROOT / "deploy" / "base").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
        if document.get("kind") in RBAC_KINDS
    ]
    found.append(
        binding(
            "ClusterRoleBinding", f"import-gateway-{namespace}", "import-gateway", "import-gateway", namespace
        )
    )
    for caller, role in CALLERS.items():
        found.append(account(caller))
        found.append(binding("RoleBinding", caller, role, caller, namespace))
    return [*found, account("nobody")]


def account(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def binding(kind: str, name: str, role: str, subject: str, namespace: str) -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole" if kind.startswith("Cluster") else "Role",
            "name": role,
        },
        "subjects": [{"kind": "ServiceAccount", "name": subject, "namespace": namespace}],
    }


@dataclass
class Cluster:
    """A namespace with the gateway's rights and callers; shared by the tests of the folder."""

    namespace: str
    admin: Path
    gateway_kubeconfig: Path
    kube: KubeClient
    tokens: dict[str, str]

    async def token(self, caller: str, *, audience: str = AUDIENCE, **options: str) -> str:
        words = [f"--{name}={value}" for name, value in options.items()]
        made = await run_kubectl(
            self.admin, "-n", self.namespace, "create", "token", caller, f"--audience={audience}", *words
        )
        return made.strip()


@dataclass
class Gateway:
    """A running replica and a client of it."""

    url: str
    services: Services
    server: AppServer
    client: httpx2.AsyncClient
    cluster: Cluster
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def call(
        self, method: str, path: str, *, caller: str | None = "operations", **options: Any
    ) -> httpx2.Response:
        headers = dict(options.pop("headers", {}))
        if caller is not None:
            headers["Authorization"] = f"Bearer {self.cluster.tokens[caller]}"
        return await self.client.request(method, path, headers=headers, **options)

    def one(self, name: str, tail: str = "") -> str:
        return f"/v1/imports/{self.cluster.namespace}/{name}{tail}"

    @asynccontextmanager
    async def events(
        self, path: str, *, last_id: str | None = None, caller: str = "viewer"
    ) -> AsyncIterator["Events"]:
        headers = {"Authorization": f"Bearer {self.cluster.tokens[caller]}"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        async with self.client.stream("GET", path, headers=headers) as response:
            yield Events(response)


@dataclass
class Event:
    name: str
    id: str
    data: Json


class Events:
    """Reads a stream as a browser does."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def line(self) -> str:
        """The next line; heartbeats among them."""
        async with asyncio.timeout(20):
            return await anext(self._lines)

    async def next(self) -> Event:
        """The next event. Raises StopAsyncIteration at the end of the stream."""
        found: dict[str, str] = {}
        while True:
            line = await self.line()
            if not line and "data" in found:
                return Event(found["event"], found["id"], json.loads(found["data"]))
            name, _, value = line.partition(": ")
            if name:
                found[name] = value

    async def until_ended(self) -> None:
        """Read to the end."""
        async with asyncio.timeout(20):
            async for _ in self._lines:
                pass


class World:
    """Jobs as objects and rows, and gateways that show them."""

    def __init__(self, cluster: Cluster, database: Database, database_url: str) -> None:
        self.cluster = cluster
        self.database = database
        self.database_url = database_url
        self.jobs = JobStore(database)

    @asynccontextmanager
    async def gateway(
        self, *, kubeconfig: Path | None = None, vectors: VectorSearch | None = None, **settings: Any
    ) -> AsyncIterator[Gateway]:
        """Run a replica; the settings are those of the environment, by field."""
        from lightkube.config.kubeconfig import KubeConfig

        values = {
            "database_url": self.database_url,
            "pod_namespace": self.cluster.namespace,
            "http_port": 0,
            "reread_seconds": 0.5,
            "calls_per_minute": 100_000,
            "calls_burst": 10_000,
            # A busy machine has time for its answers.
            "search_seconds": 10.0,
        }
        chosen = GatewaySettings(**{**values, **settings})
        database = Database(chosen.database_url.get_secret_value(), application="gateway", maximum=8)
        await database.open()
        configuration = KubeConfig.from_file(kubeconfig or self.cluster.gateway_kubeconfig)
        async with (
            KubeClient(configuration, field_manager="import-gateway") as kube,
            opened_search(chosen, database, vectors=vectors) as search,
        ):
            services = get_services(chosen, database, kube, search=search, not_ready=lambda: None)
            server = AppServer(get_app(services), "127.0.0.1", chosen.http_port, close_seconds=2)
            tasks = [asyncio.create_task(server.run()), asyncio.create_task(services.hub.run())]
            url = f"http://127.0.0.1:{server.port}"
            async with httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
                yield Gateway(url, services, server, client, self.cluster, tasks)
            services.hub.close()
            server.stop()
            await asyncio.gather(*tasks)
        await database.close()

    async def job(self, name: str | None = None, **spec: Any) -> str:
        """Create an ImportJob and record it, as the operator does; returns the id."""
        name = name or f"job-{uuid.uuid4().hex[:8]}"
        body = await self.cluster.kube.create(
            IMPORT_JOB, self.cluster.namespace, {"metadata": {"name": name}, "spec": {**SPEC, **spec}}
        )
        await self.record(body)
        return str(body["metadata"]["uid"])

    async def record(self, body: Json) -> None:
        metadata = body["metadata"]
        origin = ObjectReference(metadata["namespace"], metadata["name"], metadata["uid"])
        await self.jobs.record(
            [
                JobRequest(
                    metadata["uid"],
                    body["spec"]["companyId"],
                    body["spec"]["providerRef"]["name"],
                    metadata["namespace"],
                    body["spec"],
                    origin=origin,
                    generation=1,
                )
            ]
        )

    async def row(self, job_id: str, *, company: str = "acme", namespace: str | None = None) -> str:
        """Insert a row as the platform does, without an object."""
        await self.execute(
            """INSERT INTO "ProductImportJob" (id, "companyId", provider, namespace) VALUES (%s, %s, 'shop', %s)""",
            (job_id, company, namespace),
        )
        return job_id

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        async with self.database.connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def set(self, job_id: str, status: str, *, notify: bool = True, **columns: Any) -> None:
        """Change a row, and tell of it as a worker does."""
        assignments = "".join(f', "{name}" = %s' for name in columns)
        await self.execute(
            f'UPDATE "ProductImportJob" SET status = %s, "updatedAt" = now(){assignments} WHERE id = %s',
            (status, *columns.values(), job_id),
        )
        if notify:
            await self.execute("SELECT pg_notify('imports_progress', %s)", (job_id,))

    async def checkpoint(self, job_id: str, **progress: int) -> None:
        """Commit counters, and tell of it as a worker does."""
        await self.execute(
            """INSERT INTO imports.checkpoint (job_id, version, progress, pages) VALUES (%s, 1, %s, 1)
            ON CONFLICT (job_id) DO UPDATE SET progress = excluded.progress""",
            (job_id, json.dumps(progress)),
        )
        await self.execute("SELECT pg_notify('imports_progress', %s)", (job_id,))

    async def pool(self, name: str, queue: str | None = None) -> None:
        template = {"spec": {"containers": [{"name": "worker", "image": "import-worker:dev"}]}}
        spec = {"template": template} | ({"queue": queue} if queue else {})
        await self.cluster.kube.create(
            WORKER_POOL, self.cluster.namespace, {"metadata": {"name": name}, "spec": spec}
        )
