"""Redis memory of a dispatched job, and of a backlog ten times as long, which stays in PostgreSQL.

The dispatcher's own loop hands over what its window takes. Run with `python -m bench queue_memory`.
"""

from __future__ import annotations

import logging
import uuid

import structlog
from redis.asyncio import Redis

from bench.jobs import Servers, with_servers
from bench.table import median_of, print_table
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.jobs import JobRequest
from import_operator.loops.dispatch import Capacity, DispatchLoop
from import_operator.state import OperatorState

ROUNDS = 5
SIZES = ((1_000, 1_000), (2_000, 2_000), (2_000, 20_000))
"""Jobs in the window, jobs recorded."""
RECORD_BATCH = 1_000


async def main() -> None:
    """Fill the window of new queues in turns, print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    bytes_each: dict[tuple[int, int], list[float]] = {size: [] for size in SIZES}
    keys_each: dict[tuple[int, int], list[float]] = {size: [] for size in SIZES}
    async with with_servers() as servers:
        database = Database(servers.postgres_url, application="bench", maximum=4)
        await database.open(wait_seconds=10)
        redis = connect(servers.redis_url, client_name="bench")
        for _ in range(ROUNDS):
            for size in SIZES:
                total, keys = await _measure(database, redis, servers, *size)
                bytes_each[size].append(total / size[0])
                keys_each[size].append(keys / size[0])
        await redis.aclose()
        await database.close()
    print(f"{ROUNDS} rounds; a new queue each, and a client in between that gives its memory back\n")
    print_table(
        ("dispatched; recorded", "bytes of Redis per dispatched job", "of these, keys by MEMORY USAGE"),
        [
            (f"{window:,}; {recorded:,}", median_of(bytes_each[size]), median_of(keys_each[size]))
            for size in SIZES
            for window, recorded in [size]
        ],
    )


async def _measure(
    database: Database, redis: Redis, servers: Servers, window: int, recorded: int
) -> tuple[int, int]:
    """Bytes that Redis uses more when the window is full, all of it and that of its keys."""
    await redis.flushall()
    name = uuid.uuid4().hex
    for start in range(0, recorded, RECORD_BATCH):
        ids = [uuid.uuid4().hex for _ in range(min(RECORD_BATCH, recorded - start))]
        await JobStore(database).record(
            [JobRequest(i, f"company-{n % 100}", "bench", "bench", {}, queue=name) for n, i in enumerate(ids)]
        )
    async with database.connection() as connection:
        # As autovacuum would have done by then; without figures the plan of so many new rows is a guess.
        await connection.execute('ANALYZE "ProductImportJob"')
    before = await _used(servers)
    queue = JobQueue(redis, name)
    loop = DispatchLoop(
        OperatorState("imports"),
        DispatchStore(database),
        queue=lambda _name: queue,
        capacities=lambda: {name: Capacity(window)},
    )
    while (await queue.counts())["waiting"] < window:
        await loop.round()
    await loop.round()
    if (await queue.counts())["waiting"] != window:
        raise RuntimeError("the window is not full to its limit")
    after = await _used(servers)
    keys = 0
    async for key in redis.scan_iter(count=1000):
        keys += await redis.memory_usage(key, samples=0) or 0
    async with database.connection() as connection:
        await connection.execute('TRUNCATE "ProductImportJob" CASCADE')
    return after - before, keys


async def _used(servers: Servers) -> int:
    """`used_memory`, less what clients' buffers take, read by a client of its own."""
    async with Redis.from_url(servers.redis_url) as client:
        facts = await client.info("memory")
    return int(facts["used_memory"]) - int(facts["mem_clients_normal"])
