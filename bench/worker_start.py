"""From a worker process's start to its first job taken, beside bare Python that imports bullmq and takes one.

Both are told by a line that the process prints. Run with `python -m bench worker_start`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil
from bullmq import Queue  # type: ignore[import-untyped]

from bench.jobs import Servers, with_servers
from bench.measuring import Figures
from bench.table import median_of, print_table, ratios_of
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.redis.queue import MESSAGE_OPTIONS, QUEUE_PREFIX, JobQueue, connect
from import_core.domain.jobs import JobRequest, Message
from import_local.ports import free_port

ROUNDS = int(os.environ.get("START_ROUNDS", "11"))
WAIT_SECONDS = 120
BARE = """
import asyncio, os
from bullmq import Worker

async def process(job, token):
    print("job.claimed", flush=True)

async def main():
    options = {"connection": os.environ["REDIS_URL"], "prefix": os.environ["PREFIX"], "autorun": False}
    await Worker(os.environ["IMPORT_QUEUE"], process, options).run()

asyncio.run(main())
"""


async def main() -> None:
    """Measure in turns, print."""
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "providers").mkdir()
        async with with_servers() as servers:
            for turn in range(ROUNDS + 1):
                order = ("bare", "ours")[:: -1 if turn % 2 else 1]
                rounds.append({name: await _start(servers, name, Path(folder)) for name in order})
    rounds = rounds[1:]  # the first finds no compiled files and no warm caches
    print(f"{ROUNDS} interleaved rounds\n")
    rows = []
    for name, title in (("bare", "bare Python + bullmq"), ("ours", "the worker")):
        runs = [each[name] for each in rounds]
        reference = [each["bare"] for each in rounds]
        rows.append(
            (
                title,
                median_of([run.seconds for run in runs]),
                median_of(ratios_of([run.seconds for run in runs], [run.seconds for run in reference])),
                median_of([run.cpu_seconds for run in runs]),
                median_of(
                    ratios_of([run.cpu_seconds for run in runs], [run.cpu_seconds for run in reference])
                ),
                median_of([run.peak_mib for run in runs]),
            )
        )
    print_table(("process start → first job taken", "seconds", "÷ bare", "CPU-s", "÷ bare", "MiB"), rows)


async def _start(servers: Servers, name: str, folder: Path) -> Figures:
    """Put a job into a new queue, start one of the two, and wait for its word."""
    queue = uuid.uuid4().hex
    await (_dispatch(servers, queue) if name == "ours" else _add(servers, queue))
    command = ("-m", "import_worker") if name == "ours" else ("-c", BARE)
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": servers.postgres_url,
        "REDIS_URL": servers.redis_url,
        "PREFIX": QUEUE_PREFIX,
        # As in an image, nothing is compiled at start; the first round compiles it.
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "IMPORT_QUEUE": queue,
        "PROVIDERS_PATH": str(folder / "providers"),
        "CREDENTIALS_PATH": str(folder / "providers"),
        "S3_BUCKET": "bench",
        "HEALTH_PORT": str(free_port()),
    }
    return await _until_taken(command, environment)


async def _until_taken(command: tuple[str, ...], environment: Mapping[str, str]) -> Figures:
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        if process.stdout is None:
            raise RuntimeError("there is no output to read")
        async with asyncio.timeout(WAIT_SECONDS):
            while b"job.claimed" not in (line := await process.stdout.readline()):
                if not line:
                    raise RuntimeError(f"python {' '.join(command[:2])} ended without a job")
        seconds = time.perf_counter() - began
        seen = psutil.Process(process.pid)
        return Figures(seconds, sum(seen.cpu_times()[:2]), seen.memory_info().rss / 2**20)
    finally:
        process.kill()
        await process.wait()


async def _dispatch(servers: Servers, queue: str) -> None:
    database = Database(servers.postgres_url, application="bench", maximum=2)
    await database.open(wait_seconds=10)
    job = uuid.uuid4().hex
    await JobStore(database).record([JobRequest(job, "bench", "bench", "bench", {}, queue=queue)])
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() WHERE id = %s""", (job,)
        )
    redis = connect(servers.redis_url, client_name="bench")
    await JobQueue(redis, queue).add([Message(job, 1)])
    await redis.aclose()
    await database.close()


async def _add(servers: Servers, name: str) -> None:
    queue = Queue(name, {"connection": servers.redis_url, "prefix": QUEUE_PREFIX})
    await queue.add("import", {}, {**MESSAGE_OPTIONS, "jobId": "m-1"})
    await queue.close()
