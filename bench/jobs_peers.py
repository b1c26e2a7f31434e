"""Jobs per second of the worker with an empty pipeline, beside bare BullMQ, arq, celery and procrastinate.

All carry 1 KiB a job. PostgreSQL commits durably. The peers but procrastinate have nothing but Redis, so Valkey writes
to a file: synced every second, as it comes, which may lose a second of jobs; and synced before each answer, which loses
none, as PostgreSQL's commits do. Run with `python -m bench --peers jobs_peers`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence

import psycopg
from redis.asyncio import Redis

from bench.jobs import JOBS, ROUNDS, WARM_UP, Servers, bare_jobs, our_jobs, with_servers
from bench.measuring import Figures, in_process
from bench.peers import install, run_peer
from bench.table import median_of, print_table, ratios_of

CONCURRENCY = 20
OUR_CONCURRENCY = 5
"""The worker's default."""
PROCESSES = 2
"""Of celery, which has a process for each task at a time: its default, one for each core."""
SYNCS = ("everysec", "always")
BULLMQ = {"bare": (bare_jobs, CONCURRENCY), "ours": (our_jobs, OUR_CONCURRENCY)}
TITLES = {
    "bare": "bare BullMQ worker",
    "ours": f"the worker with an empty pipeline, {OUR_CONCURRENCY} at once: PostgreSQL and Redis",
    "arq": "arq: Redis",
    "celery": f"celery, {PROCESSES} processes: Redis",
    "procrastinate": "procrastinate: PostgreSQL",
}


async def main() -> None:
    """Install the peers, measure in turns, print."""
    for peer in ("arq", "celery", "procrastinate"):
        await install(peer)
    for sync in SYNCS:
        async with with_servers(redis_sync=sync) as servers:
            rounds = [await _round(servers, turn) for turn in range(ROUNDS)]
        print(
            f"\n{JOBS} jobs of 1 KiB a run, {CONCURRENCY} at once where nothing else is said, {ROUNDS} interleaved"
            f" rounds, `appendfsync {sync}`\n"
        )
        _report(rounds)


def _report(rounds: Sequence[Mapping[str, Figures]]) -> None:
    rows = []
    for name, title in TITLES.items():
        runs = [each[name] for each in rounds]
        seconds = [run.seconds for run in runs]
        ours = [each["ours"].seconds for each in rounds]
        rows.append(
            (
                title,
                median_of([JOBS / one for one in seconds]),
                median_of(ratios_of(seconds, ours)),
                median_of([1000 * run.cpu_seconds / JOBS for run in runs]),
                median_of([run.peak_mib for run in runs]),
            )
        )
    print_table(("jobs", "per second", "ours ÷ it", "CPU-ms per job", "peak MiB"), rows)


async def _round(servers: Servers, turn: int) -> Mapping[str, Figures]:
    """Each once; the order is turned round every second time."""
    figures = {}
    for name in list(TITLES)[:: -1 if turn % 2 else 1]:
        await _clear(servers)
        if name in BULLMQ:
            work, at_once = BULLMQ[name]
            figures[name] = await in_process(
                f"peer-{name}-{turn}", work, servers, at_once, JOBS, on_uvloop=True
            )
        else:
            figures[name] = await _peer(servers, name)
    return figures


async def _peer(servers: Servers, peer: str) -> Figures:
    number = PROCESSES if peer == "celery" else CONCURRENCY
    address = servers.redis_url
    if peer == "procrastinate":
        address = await _new_database(servers)
    said = await run_peer(
        peer,
        f"{peer}_jobs.py",
        address,
        str(number),
        str(JOBS),
        str(WARM_UP),
        environment={"PEER_BROKER": address, "PATH": os.environ["PATH"]},
    )
    return Figures.from_json(said)


async def _clear(servers: Servers) -> None:
    client = Redis.from_url(servers.redis_url)
    await client.flushall()
    await client.aclose()


async def _new_database(servers: Servers) -> str:
    name = f"peer_{uuid.uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(servers.superuser_url, autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    head, _, _ = servers.superuser_url.rpartition("/")
    return f"{head}/{name}"
