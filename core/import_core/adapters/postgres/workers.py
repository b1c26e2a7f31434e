"""Worker processes: who is there, and which have gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.draining import SWEEP as SWEEP_DRAINS
from import_core.adapters.postgres.pool import Database

REGISTER = """
INSERT INTO imports.worker (worker_id, queue, namespace, pod_name, pod_uid, concurrency, started_at)
VALUES (%s, %s, %s, %s, %s, %s, coalesce(%s, clock_timestamp()))
ON CONFLICT (worker_id) DO UPDATE SET seen_at = clock_timestamp(), state = 'ready'
"""
SEEN = "UPDATE imports.worker SET seen_at = clock_timestamp(), state = %s WHERE worker_id = %s"
REMOVE = "DELETE FROM imports.worker WHERE worker_id = ANY(%s)"
# Processes of a pod other than the one that runs in it now: a restarted container's earlier processes.
OF_PODS = "SELECT worker_id, pod_uid, started_at FROM imports.worker WHERE pod_uid = ANY(%s)"
# Rows of processes that were never seen to end go after a day; their claims ended with their leases.
SWEEP = "DELETE FROM imports.worker WHERE seen_at < clock_timestamp() - interval '1 day'"
# Whether any provider can have been called so far. Every part is one probe, the cheapest first.
EVER_RAN = """
SELECT EXISTS (SELECT FROM imports.checkpoint) OR EXISTS (SELECT FROM imports.claim)
    OR EXISTS (SELECT FROM imports.worker WHERE first_job_at IS NOT NULL)
    OR EXISTS (SELECT FROM imports.connection WHERE checked_at IS NOT NULL)
    OR EXISTS (SELECT FROM "ProductImportJob" WHERE status IN ('IN_PROGRESS', 'COMPLETED', 'FAILED'))
"""


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One worker process; `worker_id` is its own random id, never the pod's name."""

    worker_id: str
    queue: str
    namespace: str
    pod_name: str
    pod_uid: str
    concurrency: int
    started_at: datetime | None = None
    """By the node's clock: it is compared with the container's times in the pod's status, never with ours."""


class WorkerStore:
    """Worker processes in PostgreSQL. Methods raise DatabaseUnavailableError when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, worker: WorkerProcess) -> None:
        """Enter a worker process that has started."""
        async with self._database.connection() as connection:
            await connection.execute(
                REGISTER,
                (
                    worker.worker_id,
                    worker.queue,
                    worker.namespace,
                    worker.pod_name,
                    worker.pod_uid,
                    worker.concurrency,
                    worker.started_at,
                ),
            )

    async def seen(self, worker_id: str, *, state: str) -> None:
        """Tell that the process is alive; `state` is ready, draining, drained or stopping."""
        async with self._database.connection() as connection:
            await connection.execute(SEEN, (state, worker_id))

    async def remove(self, worker_ids: Sequence[str]) -> None:
        """Forget processes that have ended."""
        async with self._database.connection() as connection:
            await connection.execute(REMOVE, (list(worker_ids),))

    async def of_pods(self, pod_uids: Sequence[str]) -> list[tuple[str, str, datetime]]:
        """(worker id, pod uid, start) of the processes entered for these pods."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(OF_PODS, (list(pod_uids),))
            return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]

    async def sweep(self) -> None:
        """Forget processes not seen for a day, and requests to drain that no process is left for."""
        async with self._database.connection() as connection:
            await connection.execute(SWEEP)
            await connection.execute(SWEEP_DRAINS)

    async def nothing_ever_ran(self) -> bool:
        """Whether this installation is new: no job was ever claimed and no connection ever checked."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(EVER_RAN)).fetchone()
            return row is not None and not row[0]
