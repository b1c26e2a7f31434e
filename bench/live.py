"""Live events: from a committed change to 1,000 listeners' screens, beside a bare LISTEN in the same run.

A gateway as a process of its own, a real API server that reviews the listeners' token, 1,000 event streams on
1,000 jobs, 200 changes a second. Run with `python -m bench live`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from bench.places import state_folder
from bench.table import percentile, print_table
from import_core.adapters.postgres import migrate
from import_local.kubectl import apply_definitions, run_kubectl
from import_local.parts.control_plane import ControlPlane
from import_local.parts.postgres import PostgresServer
from import_local.ports import free_port
from import_local.processes import base_environment

LISTENERS = 1_000
PER_SECOND = 200
SECONDS = 30
WARM_UP_SECONDS = 3
BATCHES_PER_SECOND = 10
"""As workers do it: each tells of its jobs in one notification a second."""
NAMESPACE = "imports"
PROJECT = Path(__file__).resolve().parents[1]

INSERT = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, status, namespace, "startedAt")
SELECT 'job-' || n, 'bench', 'bench', 'IN_PROGRESS', %s, now() FROM generate_series(0, %s) n
"""
CHANGE = """
INSERT INTO imports.checkpoint (job_id, version, progress, pages)
SELECT id, 1, jsonb_build_object('products_total', 1000000, 'products_imported', %(number)s::int), 1
FROM unnest(%(ids)s::text[]) AS t (id)
ON CONFLICT (job_id) DO UPDATE SET progress = excluded.progress
"""
_DONE = re.compile(rb'"id":"(job-\d+)".*?"productsImported":(\d+)')


class Clock:
    """When each change was committed, and how long it took to be seen."""

    def __init__(self) -> None:
        self.sent: dict[int, float] = {}
        self.streams: list[float] = []
        self.bare: list[float] = []
        self.expected = 0
        self.first = sys.maxsize
        """What was sent before is warm-up."""

    def seen(self, number: int, *, by: list[float]) -> None:
        """A change has arrived."""
        sent_at = self.sent.get(number)
        if sent_at is not None and number >= self.first:
            by.append(time.perf_counter() - sent_at)


async def main() -> None:
    """Run and print."""
    clock = Clock()
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
        control_plane = ControlPlane(folder / "control-plane", log_folder=folder, durable=False)
        await asyncio.gather(postgres.start(), control_plane.start())
        try:
            url = await postgres.create_database("bench")
            await migrate(url)
            token = await _prepare(control_plane.kubeconfig)
            await _measure(url, control_plane.kubeconfig, token, folder, clock)
        finally:
            await asyncio.gather(postgres.stop(), control_plane.stop())
    print(
        f"{LISTENERS:,} event streams of one gateway, {PER_SECOND} changes a second for {SECONDS} s; "
        f"{len(clock.streams):,} of {clock.expected:,} changes arrived\n"
    )
    rows = [
        ("committed → heard by a bare LISTEN", clock.bare),
        ("committed → received on the listener's event stream", clock.streams),
    ]
    print_table(
        ("milliseconds", "p50", "p95", "max"),
        [
            (name, *(f"{percentile(values, share) * 1000:.0f}" for share in (0.5, 0.95, 1.0)))
            for name, values in rows
        ],
    )


async def _prepare(kubeconfig: Path) -> str:
    """Definitions, namespace, and a caller who may see imports; returns its token."""
    await apply_definitions(kubeconfig, PROJECT / "crds")
    await run_kubectl(kubeconfig, "create", "namespace", NAMESPACE)
    for words in (
        ("serviceaccount", "listener"),
        ("role", "viewer", "--verb=get,list", "--resource=importjobs.imports.avnz.io"),
        ("rolebinding", "viewer", "--role=viewer", f"--serviceaccount={NAMESPACE}:listener"),
    ):
        await run_kubectl(kubeconfig, "-n", NAMESPACE, "create", *words)
    made = await run_kubectl(
        kubeconfig, "-n", NAMESPACE, "create", "token", "listener", "--audience=import-gateway"
    )
    return made.strip()


async def _measure(url: str, kubeconfig: Path, token: str, folder: Path, clock: Clock) -> None:
    port = free_port()
    environment = base_environment(
        DATABASE_URL=url,
        KUBECONFIG=str(kubeconfig),
        HTTP_PORT=str(port),
        HEALTH_PORT=str(free_port()),
        ADMISSION_PORT=str(free_port()),
        POD_NAMESPACE=NAMESPACE,
        CALLS_BURST=str(2 * LISTENERS),
        CALLER_LISTENERS_LIMIT=str(2 * LISTENERS),
        DRAIN_SECONDS="0",
        PATH=os.environ["PATH"],
    )
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(INSERT, (NAMESPACE, LISTENERS - 1))
        with (folder / "gateway.log").open("wb") as log:
            gateway = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "import_gateway"), env=environment, stdout=log, stderr=log
            )
        tasks: list[asyncio.Task[None]] = []
        try:
            await _wait_for(port)
            tasks.append(asyncio.create_task(_listen(url, clock)))
            ready = asyncio.Semaphore(0)
            for number in range(LISTENERS):
                tasks.append(asyncio.create_task(_follow(port, token, number, clock, ready)))
                if number % 50 == 49:  # browsers don't all come at once either
                    for _ in range(50):
                        await ready.acquire()
            await _change(connection, clock)
            await _until_arrived(clock)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            gateway.terminate()
            await gateway.wait()


async def _change(connection: psycopg.AsyncConnection[TupleRow], clock: Clock) -> None:
    """Change PER_SECOND jobs each second, round and round, and tell of them as workers do."""
    size = PER_SECOND // BATCHES_PER_SECOND
    started_at, position = time.perf_counter(), 0
    for number in range(1, (SECONDS + WARM_UP_SECONDS) * BATCHES_PER_SECOND + 1):
        await asyncio.sleep(max(0.0, started_at + number / BATCHES_PER_SECOND - time.perf_counter()))
        ids = [f"job-{(position + offset) % LISTENERS}" for offset in range(size)]
        position += size
        await connection.execute(CHANGE, {"ids": ids, "number": number})
        clock.sent[number] = time.perf_counter()
        await connection.execute("SELECT pg_notify('imports_progress', %s)", (",".join(ids),))
        await connection.execute("SELECT pg_notify('bench', %s)", (str(number),))
        if number == WARM_UP_SECONDS * BATCHES_PER_SECOND:
            clock.first = number + 1
        elif number >= clock.first:
            clock.expected += size


async def _until_arrived(clock: Clock) -> None:
    """Give the last changes a moment; what does not arrive shows in the count."""
    for _ in range(50):
        if len(clock.streams) >= clock.expected:
            return
        await asyncio.sleep(0.1)


async def _listen(url: str, clock: Clock) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("LISTEN bench")
        async for notification in connection.notifies():
            clock.seen(int(notification.payload), by=clock.bare)


async def _follow(port: int, token: str, number: int, clock: Clock, ready: asyncio.Semaphore) -> None:
    """Read one event stream: plain HTTP/1.1, as little work as can be on the two cores that are shared."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"/v1/imports/{NAMESPACE}/job-{number}/events"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    try:
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{path}: {status!r}")
        first = True
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            if first:
                first = False
                ready.release()
            elif found := _DONE.search(line):
                clock.seen(int(found[2]), by=clock.streams)
    finally:
        writer.close()


async def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError("the gateway does not answer")
