"""An operator in a namespace of a real cluster, and the test in the place of its workers."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bullmq import Worker as BullWorker
from eventually import eventually

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, WORKER_POOL, Kind
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, notify
from import_core.adapters.redis.queue import QUEUE_PREFIX, connect
from import_core.domain.jobs import DEFAULT_QUEUE, Claim, JobState, Message
from import_local.kubectl import run_kubectl
from import_local.ports import free_port

Json = dict[str, Any]
STOP_SECONDS = 30.0  # its terminationGracePeriodSeconds
PATIENCE_SECONDS = 60.0
"""For what an operator does after its start, or after 15 s where a worker may have ended, on a busy machine."""


@dataclass
class Cluster:
    """A namespace with the operator's rights, and an administrator's access to it."""

    namespace: str
    kube: KubeClient
    admin: Path
    operator_kubeconfig: Path
    worker_kubeconfig: Path

    async def create(self, kind: Kind, name: str, spec: Json, **metadata: Any) -> Json:
        return await self.kube.create(
            kind, self.namespace, {"metadata": {"name": name, **metadata}, "spec": spec}
        )

    async def get(self, kind: Kind, name: str) -> Json:
        body = await self.kube.get(kind, self.namespace, name)
        assert body is not None, f"{kind.kind} {name} is gone"
        return body

    async def provider(self, name: str = "acme-shopify", **spec: Any) -> Json:
        wanted = {
            "companyId": "acme",
            "type": "shopify",
            "baseUrl": "http://127.0.0.1:9",
            "credentialsSecretRef": {"name": name},
        }
        return await self.create(IMPORT_PROVIDER, name, {**wanted, **spec})

    async def job(self, name: str, **spec: Any) -> Json:
        wanted = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}
        return await self.create(IMPORT_JOB, name, {**wanted, **spec})

    async def pool(self, name: str = "workers", *, scaling: Json | None = None, **spec: Any) -> Json:
        template = {"spec": {"containers": [{"name": "worker", "image": "import-worker:dev"}]}}
        return await self.create(WORKER_POOL, name, {"template": template, "scaling": scaling or {}, **spec})

    async def status(self, name: str, kind: Kind = IMPORT_JOB) -> Json:
        return dict((await self.get(kind, name)).get("status") or {})

    async def phase(self, name: str, phase: str) -> Json:
        async def check() -> Json | None:
            status = await self.status(name)
            return status if status.get("phase") == phase else None

        return dict(await eventually(check, seconds=PATIENCE_SECONDS, what=f"{name} {phase}"))

    async def condition(
        self, kind: Kind, name: str, condition: str, status: str, *, reason: str | None = None
    ) -> Json:
        """Wait for a condition; with `reason` for that one: before all is known, another may be said for a moment."""

        async def check() -> Json | None:
            found = (await self.status(name, kind)).get("conditions") or []
            return next(
                (
                    item
                    for item in found
                    if (item["type"], item["status"]) == (condition, status)
                    and reason in {None, item["reason"]}
                ),
                None,
            )

        what = f"{name} {condition}={status} {reason or ''}"
        return dict(await eventually(check, seconds=PATIENCE_SECONDS, what=what))

    async def kubectl(self, *words: str) -> str:
        return await run_kubectl(self.admin, "--namespace", self.namespace, *words)


@dataclass
class Operator:
    """One replica."""

    process: asyncio.subprocess.Process
    log: Path
    health_port: int

    def logged(self, *events: str) -> list[str]:
        """The lines of these events, in the order of the log."""
        wanted = [f'"event": "{event}"' for event in events]
        return [line for line in self.log.read_text().splitlines() if any(one in line for one in wanted)]

    async def leads(self) -> bool:
        return bool(self.logged("lease.acquired"))

    async def wait_leading(self, *, seconds: float = 60.0) -> None:
        """Wait until it leads: its start, and up to a whole Lease where the one before was killed."""

        async def leads_or_ended() -> bool:
            return await self.leads() or self.process.returncode is not None

        await eventually(leads_or_ended, seconds=seconds, what=f"leading ({self.log})")
        assert self.process.returncode is None, self.log.read_text()[-3000:]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            raise AssertionError(f"the operator did not stop in {STOP_SECONDS} s ({self.log})") from None


@dataclass
class Operators:
    """Starts replicas for one test."""

    cluster: Cluster
    database_url: str
    redis_url: str
    folder: Path
    started: list[Operator] = field(default_factory=list)

    async def start(self, **environment: str) -> Operator:
        port = free_port()
        log = self.folder / f"operator-{len(self.started)}.log"
        variables = {
            "PATH": os.environ["PATH"],
            **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE_PROCESS")},
            "KUBECONFIG": str(self.cluster.operator_kubeconfig),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "POD_NAME": f"operator-{len(self.started)}",
            "POD_NAMESPACE": self.cluster.namespace,
            "HEALTH_PORT": str(port),
            **environment,
        }
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "import_operator", env=variables, stdout=output, stderr=output
            )
        operator = Operator(process, log, port)
        self.started.append(operator)
        return operator

    async def leading(self, **environment: str) -> Operator:
        operator = await self.start(**environment)
        await operator.wait_leading()
        return operator


class TakingWorker:
    """Takes messages from BullMQ and claims their jobs, as a worker does; the test says what happens next."""

    def __init__(self, database: Database, redis_url: str, worker_id: str = "worker-1") -> None:
        self.worker_id = worker_id
        self.claims = ClaimStore(database)
        self._database = database
        self._client = connect(redis_url, client_name="taking-worker")
        self._bull = BullWorker(
            DEFAULT_QUEUE,
            None,
            {"autorun": False, "connection": self._client, "prefix": QUEUE_PREFIX, "skipVersionCheck": True},
        )

    async def fetch(self) -> Message:
        """Wait for the next message."""

        async def take() -> Message | None:
            job = await self._bull.getNextJob(self.worker_id)
            return Message.from_data(job.data) if job else None

        return await eventually(take, seconds=PATIENCE_SECONDS, what="a message")  # type: ignore[no-any-return]

    async def take(self, *, lease_seconds: float = 60.0) -> Claim:
        """Fetch and claim; a message that is outdated is dropped, as by a worker."""
        while True:
            message = await self.fetch()
            claim = await self.claims.claim(message, worker_id=self.worker_id, lease_seconds=lease_seconds)
            if claim is not None:
                await self.tell(claim)
                return claim

    async def finish(self, claim: Claim, state: JobState = JobState.COMPLETED, **result: Any) -> None:
        """End the job."""
        await self.claims.finish(claim, state, reason=result.get("reason"), message=result.get("message"))
        await self.tell(claim)

    async def tell(self, claim: Claim) -> None:
        """Notify, as a worker's reporter does."""
        await notify(self._database, PROGRESS_CHANNEL, [claim.job.id])

    async def close(self) -> None:
        """Disconnect."""
        await self._bull.close(force=True)
        await self._client.aclose()
