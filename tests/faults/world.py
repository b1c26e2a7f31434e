"""A whole installation as the fault tests see it: who runs, what is held, and how to hurt it."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from e2e.world import NAMESPACE, Json, World
from redis.asyncio import Redis

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import LEASE
from import_core.domain.steps import StepKind
from import_local.demo.manifests import POOL, WORKERS
from import_local.faults.installed import Faults
from import_local.installation import Installation
from import_local.kubelet.processes import ProcessId, is_alive, send_signal, wait_for_end
from import_local.kubelet.records import PodRecord

LEASE_NAME = "import-operator"
OPERATOR = "import-operator"
POLL_SECONDS = 0.25
SQL_SECONDS = 30.0
HELD = """
SELECT w.pod_name, count(*) FROM imports.claim k JOIN imports.worker w USING (worker_id) GROUP BY w.pod_name
"""
HELD_BY = """
SELECT k.job_id, k.claim_id FROM imports.claim k JOIN imports.worker w USING (worker_id)
WHERE w.pod_name = %s
"""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class PodProcess:
    """The main process of a pod's container, as it runs now."""

    pod: str
    uid: str
    process: ProcessId
    folder: Path

    @property
    def started_at(self) -> datetime:
        """When the process was started, by this machine's clock."""
        return datetime.fromtimestamp((self.folder / "child").stat().st_mtime, UTC)

    @property
    def is_alive(self) -> bool:
        """Whether exactly this process still runs."""
        return is_alive(self.process)

    def read_log(self) -> list[dict[str, Any]]:
        """The structured lines that it has written so far, the older of its two files left out."""
        lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        texts = (line.split(" ", 3)[3] for line in lines if line.count(" ") >= 3)
        return [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}")]


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who holds the operators' Lease ("": nobody), and since when by its own clock."""

    identity: str
    since: datetime | None

    @property
    def pod(self) -> str:
        """The holder's pod."""
        return self.identity.rpartition("_")[0]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was broken, when (UTC), and whose process it was, if one's."""

    kind: str
    at: datetime
    pod: str | None = None


class FaultWorld(World):
    """One installation for all scenarios; each scenario draws from `random_for(name)`."""

    def __init__(self, installation: Installation, kube: KubeClient, *, seed: int) -> None:
        super().__init__(installation, kube)
        self.seed = seed

    @property
    def faults(self) -> Faults:
        """What can be broken beside the pods."""
        return self.installation.faults

    @property
    def shopify_url(self) -> str:
        """Sample shops as the workers reach them: by a link that can be broken."""
        return self.faults.shopify_url

    @property
    def roastify_url(self) -> str:
        """Sample Roastify accounts as the workers reach them."""
        return self.faults.roastify_url

    @property
    def sample_root(self) -> str:
        """The sample server as the workers reach it: images have addresses below it."""
        return self.shopify_url.rsplit("/shopify", 1)[0]

    def random_for(self, scenario: str) -> random.Random:
        """The scenario's own source: the same seed gives the same choices, whatever ran before."""
        return random.Random(f"{self.seed}/{scenario}")

    def workers(self) -> list[PodProcess]:
        """Worker processes of imports that run now, in the order of their pods' names."""
        return self._processes(f"{WORKERS}-", "worker")

    def step_workers(self, *kinds: StepKind) -> list[PodProcess]:
        """Worker processes of these steps after imports (all) that run now."""
        return [
            worker
            for kind in kinds or StepKind
            for worker in self._processes(f"{kind.value}-workers-", "worker")
        ]

    async def ready(self) -> list[PodProcess]:
        """Worker processes that have started in full: each has entered itself in PostgreSQL."""
        entered = dict(
            await self.rows("SELECT pod_uid, max(started_at) FROM imports.worker GROUP BY pod_uid")
        )
        return [
            worker
            for worker in self.workers()
            if worker.uid in entered and entered[worker.uid] >= worker.started_at
        ]

    async def busiest(self, *, jobs: int = 3) -> PodProcess:
        """The worker that holds most jobs, once one holds at least so many."""

        async def look() -> PodProcess | None:
            held = {str(row[0]): int(row[1]) for row in await self.rows(HELD)}
            best = max(self.workers(), key=lambda worker: held.get(worker.pod, 0), default=None)
            return best if best is not None and held.get(best.pod, 0) >= jobs else None

        return await self.eventually(look, f"a worker holds {jobs} jobs", seconds=60)

    async def held_by(self, worker: PodProcess) -> dict[str, str]:
        """What the worker's pod holds: claim ids by job id."""
        return {str(row[0]): str(row[1]) for row in await self.rows(HELD_BY, worker.pod)}

    def operators(self) -> list[PodProcess]:
        """Operator processes that run now."""
        return self._processes(f"{OPERATOR}-", "operator")

    async def lease(self) -> Leadership:
        """Who leads and since when, by the Lease."""
        lease = await self.kube.get(LEASE, NAMESPACE, LEASE_NAME)
        spec = (lease or {}).get("spec") or {}
        since = spec.get("acquireTime")
        return Leadership(
            str(spec.get("holderIdentity") or ""), datetime.fromisoformat(since) if since else None
        )

    async def leading_operator(self, *, seconds: float = 60) -> PodProcess:
        """The process that leads, once there is one."""

        async def find() -> PodProcess | None:
            leader = (await self.lease()).pod
            return next((process for process in self.operators() if process.pod == leader), None)

        return await self.eventually(find, "an operator leads", seconds=seconds)

    async def successor_of(self, identity: str, *, seconds: float = 60) -> Leadership:
        """The Lease once somebody else than `identity` holds it."""

        async def find() -> Leadership | None:
            lease = await self.lease()
            return lease if lease.identity not in {"", identity} else None

        return await self.eventually(find, "another operator leads", seconds=seconds)

    def kill(self, target: PodProcess, kind: str) -> Fault:
        """Kill a process with SIGKILL, and tell when."""
        return self.signal(target, signal.SIGKILL, kind)

    def signal(self, target: PodProcess, number: signal.Signals, kind: str) -> Fault:
        """Send a signal to exactly this process, and tell when."""
        fault = Fault(kind, datetime.now(UTC), target.pod)
        send_signal(target.process, number)
        return fault

    async def killed(self, target: PodProcess, kind: str) -> Fault:
        """Kill a process and wait until it is gone."""
        fault = self.kill(target, kind)
        async with asyncio.timeout(30):
            await wait_for_end(target.process)
        return fault

    async def eventually(
        self, look: Callable[[], Awaitable[Found | None]], what: str, *, seconds: float
    ) -> Found:
        """Ask until the answer is neither None nor False. Raises AssertionError after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            found = await look()
            if found is not None and found is not False:
                return found
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
            await asyncio.sleep(POLL_SECONDS)

    async def worker_deployments(self, pool: str = POOL) -> list[Json]:
        """The Deployments of a pool, the one of imports if not said otherwise: two while a template is rolled out."""
        outcome = await self.kubectl(
            "get", "deployments", "-n", NAMESPACE, "-l", f"imports.avnz.io/pool={pool}", "-o", "json"
        )
        return list(json.loads(outcome.out)["items"]) if outcome.code == 0 else []

    async def ready_workers(self, number: int, *, pool: str = POOL, seconds: float = 120) -> None:
        """Wait until so many workers of a pool are ready in the eyes of the API server."""

        async def look() -> bool:
            deployments = await self.worker_deployments(pool)
            if len(deployments) != 1:
                return False
            status = deployments[0].get("status") or {}
            return status.get("readyReplicas") == number and status.get("updatedReplicas") == number

        await self.eventually(look, f"{number} workers of {pool} are ready", seconds=seconds)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """A connection of the tests' own, straight to the present primary."""
        async with await psycopg.AsyncConnection.connect(
            self.installation.database_url,
            autocommit=True,
            connect_timeout=5,
            application_name="faults",
            options=f"-c statement_timeout={int(SQL_SECONDS)}s",
        ) as connection:
            yield connection

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        """A client of the tests' own."""
        client = Redis.from_url(
            self.installation.redis_url, decode_responses=True, socket_timeout=5, socket_connect_timeout=5
        )
        try:
            yield client
        finally:
            await client.aclose()

    async def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of one statement, on a connection of the tests' own."""
        async with self.database() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    def _processes(self, prefix: str, container: str) -> list[PodProcess]:
        # The kubelet's own files: asking the API server would tell of the past, and not while it is away.
        found = []
        for file in sorted((self.installation.state.kubelet / "pods").glob("*/pod.json")):
            record = _read_record(file)
            if record is None or not record.name.startswith(prefix):
                continue
            attempts = record.list_attempts(container)
            process = attempts[-1].read_process("child") if attempts else None
            if process is not None and is_alive(process):
                found.append(PodProcess(record.name, record.uid, process, attempts[-1].folder))
        return sorted(found, key=lambda process: process.pod)


def choose(source: random.Random, processes: Sequence[PodProcess]) -> PodProcess | None:
    """One of the processes by chance; None where there is none right now."""
    return source.choice(processes) if processes else None


def _read_record(file: Path) -> PodRecord | None:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # the pod has just been forgotten
        return None
    return PodRecord(folder=file.parent, **fields)
