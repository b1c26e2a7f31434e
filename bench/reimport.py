"""CPU seconds of a worker that imports an unchanged catalogue again, divided by its first import; and what it writes.

Written are versions of product and image rows (xmin) and objects of the bucket that were not there before.

The worker is this process, with real PostgreSQL, Valkey and S3; the sample shop is a process of its own. Run with
`python -m bench reimport`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx2
import structlog
from obstore.store import S3Store

from bench.places import state_folder
from bench.table import median_of, print_table
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.jobs import JobRequest, JobState, Message
from import_local.demo import measures
from import_local.parts.objectstore import Bucket, ObjectStoreServer
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer
from import_local.samples.app import serve_samples
from import_worker.runner import StopSignal, Worker
from import_worker.settings import WorkerSettings

PRODUCTS, IMAGES = 150, 2
ROUNDS = 3
MOST_OF_FIRST = 0.10
NAMESPACE = "imports"
RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("first import", {"mode": "Incremental"}),
    ("again, incremental", {"mode": "Incremental"}),
    ("again, full", {"mode": "Full"}),
)
HAND_OVER = """
UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() WHERE id = %s
"""


class Shops:
    """One ImportProvider for each round, and its Secret, as the worker reads them from Kubernetes."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def get_provider(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The ImportProvider whose name is that of a sample catalogue."""
        del namespace
        return {
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": name, "generation": 1},
            "spec": {
                "companyId": name,
                "type": "shopify",
                "baseUrl": f"{self._address}/shopify/{name}",
                "credentialsSecretRef": {"name": name},
                "rateLimit": {"requests": 10_000, "perSeconds": 1},
            },
        }

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The token that the sample shops take."""
        del namespace, name
        return {"accessToken": "shpat_example"}


def serve(ready: Connection) -> None:
    """Serve the sample shops in a process of their own."""

    async def run() -> None:
        async with serve_samples() as running:
            ready.send(running.base_url)
            await asyncio.Event().wait()

    asyncio.run(run())


@dataclass(frozen=True, slots=True)
class Taken:
    """What one import took and wrote."""

    seconds: float
    """CPU of this process."""
    written: int


class Written:
    """Counts what was not there at the look before: rows' versions and objects."""

    def __init__(self, database_url: str, store: S3Store) -> None:
        self._database_url = database_url
        self._store = store
        self._known: frozenset[object] = frozenset()

    async def new(self, company: str) -> int:
        """Look at a company's rows and at all objects."""
        rows = await measures.row_versions(self._database_url, company)
        objects = (await measures.stored_objects(self._store)).versions
        new = len((rows | objects) - self._known)
        self._known |= rows | objects
        return new


async def lift_limit(address: str, shop: str) -> None:
    """Let the shop's points for GraphQL calls come back at once: waiting for them took nearly all of a run's time."""
    async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=10) as client:
        (await client.put(f"/control/shopify/{shop}/faults", json={"rateScale": 10_000})).raise_for_status()


async def cpu_of_job(
    database: Database, queue: JobQueue, shop: str, number: int, spec: dict[str, Any]
) -> float:
    """CPU seconds of this process from a job's submission to its end."""
    job_id, jobs = f"{shop}-{number}", JobStore(database)
    full = {"companyId": shop, "providerRef": {"name": shop}, "reimport": spec}
    start = time.process_time()
    await jobs.record([JobRequest(job_id, shop, shop, NAMESPACE, full)])
    async with database.connection() as connection:
        await connection.execute(HAND_OVER, (job_id,))
    await queue.add([Message(job_id, 1)])
    while not (job := (await jobs.read([job_id]))[job_id]).state.is_final:  # noqa: ASYNC110 - looks from outside
        await asyncio.sleep(0.2)
    if job.state is not JobState.COMPLETED:
        raise RuntimeError(f"the job ended as {job.state}: {job.message}")
    return time.process_time() - start


async def measure(
    url: str, redis_url: str, settings: WorkerSettings, address: str, written: Written
) -> list[list[Taken]]:
    """Each run, by round; the first round warms up and is left out."""
    database, redis = Database(url, application="bench", maximum=2), connect(redis_url, client_name="bench")
    await database.open(wait_seconds=10)
    stop = StopSignal()
    working = asyncio.create_task(Worker(settings, Shops(address), stop).run())
    rounds = []
    for turn in range(ROUNDS + 1):
        shop = f"tiny-{PRODUCTS}-{IMAGES}-{turn + 1}"
        await lift_limit(address, shop)
        taken = [
            Taken(await cpu_of_job(database, JobQueue(redis), shop, number, spec), await written.new(shop))
            for number, (_, spec) in enumerate(RUNS)
        ]
        if turn:
            rounds.append(taken)
    stop.ask()
    await working
    await redis.aclose()
    await database.close()
    return rounds


def _store(bucket: Bucket) -> S3Store:
    return measures.open_store(
        {
            "S3_BUCKET": bucket.name,
            "S3_ENDPOINT_URL": bucket.endpoint_url,
            "AWS_ACCESS_KEY_ID": bucket.access_key_id,
            "AWS_SECRET_ACCESS_KEY": bucket.secret_access_key,
            "AWS_REGION": bucket.region,
        }
    )


async def with_parts(folder: Path, address: str) -> list[list[Taken]]:
    """Start PostgreSQL, Valkey and the object store, measure, stop them."""
    postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
    valkey = ValkeyServer(folder / "valkey", log_path=folder / "valkey.log")
    store = ObjectStoreServer(folder / "store", log_path=folder / "store.log")
    await asyncio.gather(postgres.start(), valkey.start(), store.start())
    try:
        bucket = await store.create_bucket("bench")
        os.environ["AWS_ACCESS_KEY_ID"] = bucket.access_key_id
        os.environ["AWS_SECRET_ACCESS_KEY"] = bucket.secret_access_key
        url = await postgres.create_database("bench")
        await migrate(url)
        settings = WorkerSettings.model_validate(
            {
                "database_url": url,
                "redis_url": valkey.url,
                "s3_bucket": bucket.name,
                "s3_endpoint_url": bucket.endpoint_url,
                "aws_region": bucket.region,
                "image_allow": address.removeprefix("http://"),
                "provider_allow": "127.0.0.1",
                "health_port": 0,
                "pod_ip": "127.0.0.1",
                "pod_namespace": NAMESPACE,
            }
        )
        return await measure(url, valkey.url, settings, address, Written(url, _store(bucket)))
    finally:
        await asyncio.gather(postgres.stop(), valkey.stop(), store.stop())


async def main() -> None:
    """Start everything, measure in turns, print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    samples = context.Process(target=serve, args=(theirs,), daemon=True)
    samples.start()
    try:
        address = await asyncio.to_thread(ours.recv)
        with state_folder() as folder:
            folder.mkdir(mode=0o711)
            rounds = await with_parts(folder, address)
    finally:
        samples.terminate()
        samples.join()
    print(f"{PRODUCTS} products with {IMAGES} small images each, {ROUNDS} rounds, one worker\n")
    rows, shares = [], []
    for number, (name, _) in enumerate(RUNS):
        taken = [each[number] for each in rounds]
        ratios = [each[number].seconds / each[0].seconds for each in rounds]
        shares.append(statistics.median(ratios))
        written = ", ".join(str(count) for count in sorted({each.written for each in taken}))
        rows.append((name, median_of([each.seconds for each in taken]), median_of(ratios), written))
    print_table(("import", "CPU seconds of the worker", "÷ first import", "rows and objects written"), rows)
    nothing = all(each[1].written == 0 for each in rounds)
    met = "met" if shares[1] <= MOST_OF_FIRST and nothing else "missed"
    print(f"an unchanged catalogue costs at most {MOST_OF_FIRST:.0%} of the first and writes nothing: {met}")
