"""Looks at a running installation every few seconds: rows, workers, connections, Redis, processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import LEASE, WORKER_POOL
from import_core.domain.errors import ImportOperatorError
from import_local.demo.manifests import NAMESPACE, POOL
from import_local.installation import Installation
from import_local.load.processes import ServerPorts, sample_processes
from import_local.load.timeline import ProcessSample, Sample

QUESTION_SECONDS = 5.0
OPERATOR_LEASE = "import-operator"
WORK = """
SELECT count(*) FILTER (WHERE status = 'PENDING' AND coalesce("notBefore", now()) <= now()),
       (SELECT count(*) FROM imports.claim),
       count(*) FILTER (WHERE status = 'PENDING' AND "notBefore" > now()),
       count(*) FILTER (WHERE status = 'COMPLETED'), count(*) FILTER (WHERE status IN ('FAILED', 'CANCELLED'))
FROM "ProductImportJob" WHERE "parentId" IS NULL
"""
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"

Answer = TypeVar("Answer")


@dataclass
class Sampler:
    """Samples into `samples`, and a line each into `file` if one is named. `seen` gets every sample."""

    installation: Installation
    kube: KubeClient
    every_seconds: float
    file: Path | None = None
    seen: Callable[[Sample], None] | None = None
    samples: list[Sample] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _leader: str = field(default="", init=False)
    """The pod of the operator that leads; the last known one while the API server is away."""

    async def run(self) -> None:
        """Sample until it is cancelled."""
        ports = ServerPorts.of(self.installation)
        while True:
            began = time.monotonic()
            sample = await self._look(ports)
            self.samples.append(sample)
            if self.file is not None:
                await asyncio.to_thread(_append, self.file, sample.to_json())
            if self.seen is not None:
                self.seen(sample)
            await asyncio.sleep(max(0.0, self.every_seconds - (time.monotonic() - began)))

    async def _look(self, ports: ServerPorts) -> Sample:
        at = time.monotonic() - self.started
        rows, redis, pool, processes = await asyncio.gather(
            _known(self._ask_postgres()),
            _known(self._ask_redis()),
            _known(self._ask_pool()),
            asyncio.to_thread(sample_processes, self.installation, ports),
        )
        # Once they were looked at: one that held by then what a leader holds had the Lease before.
        leader = await _known(self._ask_leader())
        due, claimed, later, completed, failed, connections = rows or (None,) * 6
        redis_bytes, redis_keys, clients = redis or (None,) * 3
        desired, ready = pool or (None, None)
        self._leader = leader or self._leader
        return Sample(
            at=round(at, 2),
            due=due,
            claimed=claimed,
            later=later,
            completed=completed,
            failed=failed,
            desired=desired,
            ready=ready,
            postgres_connections=connections,
            redis_connections=clients,
            redis_bytes=redis_bytes,
            redis_keys=redis_keys,
            processes=tuple(with_leader(each, self._leader) for each in processes),
        )

    async def _ask_postgres(self) -> tuple[int, ...]:
        async with await psycopg.AsyncConnection.connect(
            self.installation.database_url,
            autocommit=True,
            connect_timeout=3,
            application_name="load sampler",
        ) as connection:
            work = await (await connection.execute(WORK)).fetchone()
            open_now = await (await connection.execute(CONNECTIONS)).fetchone()
        if work is None or open_now is None:
            raise psycopg.OperationalError("a count gave no row")
        return (*(int(number) for number in work), int(open_now[0]) - 1)

    async def _ask_redis(self) -> tuple[int, int, int]:
        client = Redis.from_url(self.installation.redis_url, socket_timeout=3, socket_connect_timeout=3)
        try:
            information: Mapping[str, Any] = await client.info("memory")
            clients: Mapping[str, Any] = await client.info("clients")
            return (
                int(information["used_memory"]),
                int(await client.dbsize()),
                int(clients["connected_clients"]) - 1,
            )
        finally:
            await client.aclose()

    async def _ask_leader(self) -> str:
        lease = await self.kube.get(LEASE, NAMESPACE, OPERATOR_LEASE)
        return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "").rpartition("_")[0]

    async def _ask_pool(self) -> tuple[int, int]:
        pool = await self.kube.get(WORKER_POOL, NAMESPACE, POOL)
        status = (pool or {}).get("status") or {}
        return int(status.get("desiredReplicas") or 0), int(status.get("readyReplicas") or 0)


def with_leader(process: ProcessSample, leader: str) -> ProcessSample:
    """An operator that takes over does from then on what it did not do before: it is judged as another process."""
    if process.role != "operator":
        return process
    place = "leading" if process.key.split()[0] == leader else "standing by"
    return replace(process, key=f"{process.key} {place}")


async def _known(question: Awaitable[Answer]) -> Answer | None:
    """The answer, or None from a server that is away: a fault test may have taken it."""
    try:
        async with asyncio.timeout(QUESTION_SECONDS):
            return await question
    except (psycopg.Error, RedisError, ImportOperatorError, OSError, TimeoutError):
        return None


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
