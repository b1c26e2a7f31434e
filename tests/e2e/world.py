"""What e2e tests do with a whole installation: apply objects, wait for their status, read the stores."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from eventually import eventually
from obstore.store import S3Store

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, POD, Kind
from import_local.binaries import find_kubectl
from import_local.demo.manifests import POOL
from import_local.demo.measures import open_store
from import_local.installation import Installation
from import_operator.deployments import POOL_LABEL

NAMESPACE = "imports"
KUBECTL_IMPORTS = str(Path(sys.executable).with_name("kubectl-imports"))
FINAL = frozenset({"Succeeded", "Failed", "Cancelled"})
COMMAND_SECONDS = 200.0
"""More than what the commands of tests and pages are told to wait at most: they say themselves what did not come."""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command said."""

    code: int
    out: str
    err: str


class World:
    """A running installation as tests see it."""

    def __init__(self, installation: Installation, kube: KubeClient) -> None:
        self.installation = installation
        self.kube = kube
        self.environment = {**os.environ, **installation.environment}

    @property
    def sample_root(self) -> str:
        """Address of the sample server without a provider's path."""
        return self.installation.shopify_url.rsplit("/shopify", 1)[0]

    async def run(self, *command: str, stdin: str = "", environment: dict[str, str] | None = None) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**self.environment, **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Outcome(process.returncode or 0, out.decode(), err.decode())

    async def kubectl(self, *arguments: str, stdin: str = "", kubeconfig: str | None = None) -> Outcome:
        environment = {"KUBECONFIG": kubeconfig} if kubeconfig else None
        return await self.run(str(find_kubectl()), *arguments, stdin=stdin, environment=environment)

    async def service_account(self, name: str) -> str:
        """Kubeconfig with a token of one of the installation's own ServiceAccounts."""
        outcome = await self.kubectl("create", "token", name, "-n", NAMESPACE)
        assert outcome.code == 0, outcome.err
        cluster = self.installation.cluster()
        assert cluster is not None
        return str(cluster.kubeconfig_with_token(f"test-{name}", outcome.out.strip(), namespace=NAMESPACE))

    async def imports(self, *arguments: str) -> Outcome:
        return await self.run(KUBECTL_IMPORTS, *arguments)

    async def apply(self, *objects: Json) -> None:
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        outcome = await self.kubectl("apply", "-f", "-", stdin=document)
        assert outcome.code == 0, outcome.err

    async def until(
        self, kind: Kind, name: str, condition: Callable[[Json], bool], *, seconds: float = 90
    ) -> Json:
        latest: Json | None = None
        try:
            async with asyncio.timeout(seconds):
                async for version in self.kube.watch_one(kind, NAMESPACE, name):
                    latest = version
                    if version is not None and condition(version):
                        return version
        except TimeoutError:
            pass
        raise AssertionError(f"{name} did not get there; last: {json.dumps((latest or {}).get('status'))}")

    async def finished(self, job: str, *, seconds: float = 120) -> Json:
        """The status of a job that has ended."""
        version = await self.until(
            IMPORT_JOB, job, lambda v: (v.get("status") or {}).get("phase") in FINAL, seconds=seconds
        )
        status: Json = version["status"]
        return status

    async def only_workers(self, number: int) -> None:
        """Wait until the pool has so many pods, those that stop included."""

        async def look() -> bool:
            found = [pod async for pod in self.kube.list(POD, NAMESPACE, labels={POOL_LABEL: POOL})]
            return len(found) == number and not any("deletionTimestamp" in pod["metadata"] for pod in found)

        await eventually(look, seconds=90, what=f"{number} workers and none that stops")

    async def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(
            self.installation.database_url, autocommit=True, connect_timeout=30
        ) as connection:
            cursor = await connection.execute(statement, parameters)  # type: ignore[arg-type]
            return await cursor.fetchall() if cursor.description else []

    def store(self) -> S3Store:
        return open_store(self.installation.environment)

    async def objects(self, prefix: str) -> dict[str, tuple[int, str]]:
        """Size and time of the last PUT of every object below a prefix."""
        found: dict[str, tuple[int, str]] = {}
        async for batch in self.store().list(prefix=prefix):
            for entry in batch:
                found[entry["path"]] = (entry["size"], str(entry["last_modified"]))
        return found


def secret(name: str, **values: str) -> Json:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def provider(name: str, *, company: str, kind: str, url: str, secret_name: str | None = None) -> Json:
    return {
        "apiVersion": "imports.avnz.io/v1alpha1",
        "kind": "ImportProvider",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "companyId": company,
            "type": kind,
            "baseUrl": url,
            "credentialsSecretRef": {"name": secret_name or name},
        },
    }


def job(name: str, *, company: str, provider_name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "imports.avnz.io/v1alpha1",
        "kind": "ImportJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"companyId": company, "providerRef": {"name": provider_name}, **spec},
    }


def condition_of(status: Json, kind: str) -> Json:
    """The condition of a type, or an empty one."""
    return next((c for c in status.get("conditions") or [] if c["type"] == kind), {})
