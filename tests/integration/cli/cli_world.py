"""Commands in process against a namespace and a database of the test's own, and a wire that can be cut."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from import_cli import watch_command
from import_cli.main import app
from import_cli.sources import Sources
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, WORKER_POOL, Kind
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.quality import Decided, write_decisions
from import_core.adapters.tasks import end_tasks
from import_core.domain.jobs import JobRequest, ObjectReference
from import_core.domain.quality import DecidedBy, Decision, Reason, Verdict
from import_local.kubectl import run_kubectl

Json = dict[str, Any]


class Screen(io.StringIO):
    """What a command prints, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._written = asyncio.Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        # A progress bar draws from a thread of its own.
        self._loop.call_soon_threadsafe(self._written.set)
        return count

    async def until(self, *texts: str) -> str:
        """Wait until all of these were printed; they may be anywhere."""
        try:
            async with asyncio.timeout(30):
                while not all(text in self.getvalue() for text in texts):
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            raise AssertionError(f"{texts} not all in:\n{self.getvalue()}") from None
        return self.getvalue()


@dataclass
class Watching:
    """A `watch` that goes on."""

    screen: Screen
    task: asyncio.Task[int]

    async def ends(self) -> tuple[int, str]:
        """Wait for the exit code; returns it and all that was printed."""
        async with asyncio.timeout(30):
            code = await self.task
        return code, self.screen.getvalue()


class CliWorld:
    """A namespace, a database, and the commands that look at them."""

    def __init__(self, namespace: str, kube: KubeClient, kubeconfig: Path, database: Database) -> None:
        self.namespace = namespace
        self.kube = kube
        self.kubeconfig = kubeconfig
        self.database = database
        self.jobs = JobStore(database)

    async def invoke(self, *arguments: str, **environment: str | None) -> Result:
        """Run a command as the program does; standard output is no terminal."""
        return await asyncio.to_thread(
            CliRunner().invoke,
            app,
            [*arguments],
            env={"IMPORTS_NAMESPACE": self.namespace, **environment},
        )

    async def on_terminal(
        self, run: Callable[[Sources, Console], Coroutine[Any, Any, int]], *, width: int = 160
    ) -> str:
        """Run a command's coroutine on a terminal and return what it printed."""
        screen = Screen()
        async with Sources(self.namespace) as sources:
            assert await run(sources, Console(file=screen, force_terminal=True, width=width)) == 0
        return screen.getvalue()

    @asynccontextmanager
    async def watching(
        self, job: str, *, terminal: bool = False, timeout: float | None = None
    ) -> AsyncIterator[Watching]:
        """Start `watch JOB`; it is ended with the block."""
        screen = Screen()
        console = Console(file=screen, force_terminal=terminal, width=160)
        async with Sources(self.namespace) as sources:
            task = asyncio.create_task(watch_command.run(sources, console, job=job, timeout_seconds=timeout))
            try:
                yield Watching(screen, task)
            finally:
                await end_tasks([task])

    async def _create(self, kind: Kind, name: str, spec: Json, status: Json | None) -> Json:
        created = await self.kube.create(kind, self.namespace, {"metadata": {"name": name}, "spec": spec})
        if status is not None:
            await self.kube.patch_status(kind, self.namespace, name, status, resource_version=None)
        return created

    async def job(self, name: str, status: Json | None = None, *, company: str = "acme") -> str:
        """Create an ImportJob; returns its uid, which is the row's id."""
        spec = {"companyId": company, "providerRef": {"name": "shop"}}
        return str((await self._create(IMPORT_JOB, name, spec, status))["metadata"]["uid"])

    async def job_status(self, name: str, **status: Any) -> None:
        await self.kube.patch_status(IMPORT_JOB, self.namespace, name, status, resource_version=None)

    async def delete_job(self, name: str) -> None:
        await run_kubectl(
            self.kubeconfig, "--namespace", self.namespace, "delete", "importjob", name, "--wait=false"
        )

    async def provider(self, name: str, *, message: str | None = None, **conditions: str) -> None:
        """Create an ImportProvider; conditions by type, all "True" where not given."""
        spec = {
            "companyId": "acme",
            "type": "shopify",
            "baseUrl": "http://127.0.0.1:9",
            "credentialsSecretRef": {"name": name},
        }
        states = {"Ready": "True", "Reachable": "True", "CredentialsValid": "True", **conditions}
        status = {
            "message": message,
            "conditions": [condition(kind, state) for kind, state in states.items()],
        }
        await self._create(IMPORT_PROVIDER, name, spec, status)

    async def pool(self, name: str = "workers", status: Json | None = None, **spec: Any) -> None:
        template = {"spec": {"containers": [{"name": "worker", "image": "import-worker:dev"}]}}
        await self._create(WORKER_POOL, name, {"template": template, **spec}, status)

    async def row(self, job_id: str, name: str | None = None, **values: Any) -> None:
        """Record a job; with a name it came from that object."""
        origin = ObjectReference(self.namespace, name, job_id) if name else None
        request = {
            "company_id": "acme",
            "provider": "shop",
            "namespace": self.namespace,
            "spec": {},
            **values,
        }
        await self.jobs.record([JobRequest(id=job_id, origin=origin, generation=1, **request)])

    async def sql(self, statement: str, *parameters: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement, parameters or None)

    async def finish(
        self, job_id: str, state: str = "FAILED", *, reason: str = "", message: str = ""
    ) -> None:
        await self.sql(
            """UPDATE "ProductImportJob" SET status = %s, "failureReason" = %s, "errorMessage" = %s,
            "startedAt" = now() - interval '1 minute', "completedAt" = clock_timestamp() WHERE id = %s""",
            state,
            reason or None,
            message or None,
            job_id,
        )

    async def item_error(self, job_id: str, external_id: str, **values: str) -> None:
        row = {"stage": "map", "url": "", "reason": "InvalidPrice", "message": "price: no number", **values}
        await self.sql(
            """INSERT INTO imports.item_error (job_id, external_id, stage, url, reason, message, document)
            VALUES (%s, %s, %s, %s, %s, %s, %s)""",
            *(job_id, external_id, row["stage"], row["url"], row["reason"], row["message"]),
            row.get("document"),
        )

    async def flagged(
        self, product_id: str, *codes: str, company: str = "acme", verdict: Verdict = Verdict.FLAGGED
    ) -> None:
        """A product that quality control decided on; flagged for a person unless said otherwise."""
        await self.sql(
            """INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title)
            VALUES (%s, %s, %s, 'shopify', %s)""",
            *(product_id, company, product_id, f"The {product_id}"),
        )
        reasons = tuple(Reason(code, f"Because of {code}.") for code in codes or ("NotJudged",))
        decision = Decision(verdict, DecidedBy.RULES, reasons)
        async with self.database.connection() as connection:
            await write_decisions(connection, [Decided(product_id, company, "h1", decision)])


def condition(kind: str, state: str, *, reason: str = "Checked") -> Json:
    """A standard condition."""
    return {
        "type": kind,
        "status": state,
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


@asynccontextmanager
async def database_away(server_url: str, database_url: str) -> AsyncIterator[None]:
    """Have the server refuse the database to everybody, ending all sessions in it."""
    name = database_url.rsplit("/", 1)[1].split("?", maxsplit=1)[0]
    async with await psycopg.AsyncConnection.connect(server_url, autocommit=True) as connection:
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


class Wire:
    """A TCP connection to the API server that can be cut or go silent."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._document = yaml.safe_load(kubeconfig.read_text())
        self._target = int(self._document["clusters"][0]["cluster"]["server"].rsplit(":", 1)[1])
        self._path = folder / "wire.yaml"
        self._server: asyncio.Server | None = None
        self._port = 0
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> Path:
        """Accept connections; returns a kubeconfig that goes through the wire."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self._document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self._port}"
        self._path.write_text(yaml.safe_dump(self._document))
        return self._path

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            self._pipes.add(asyncio.create_task(self._pipe(source, sink)))

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        sink.close()

    async def silence(self) -> None:
        """Forward nothing more on the connections there are; new ones work."""
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        self._pipes.clear()

    async def cut(self) -> None:
        """End all connections and accept no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.silence()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
