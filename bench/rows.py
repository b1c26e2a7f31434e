"""Dispatch, depth and reconciliation with 800,000 due rows beside 8,000, over the same 5,000 companies.

One row in a hundred is wrong, and the history holds millions of finished rows. Both sizes are measured in turns, each
time by a process of its own, and every statement's plan is looked at. Run with `python -m bench rows`; the sizes are
BENCH_ROWS_DUE, BENCH_ROWS_FINISHED, BENCH_ROWS_COMPANIES and BENCH_ROWS_RATIO.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import psycopg

from bench.places import state_folder
from bench.rows_plans import Read, read_plans
from bench.table import median_of, print_table
from import_core.adapters.postgres import migrate
from import_core.adapters.postgres.indexes import INDEXES
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer

DUE = int(os.environ.get("BENCH_ROWS_DUE", "800000"))
FINISHED = int(os.environ.get("BENCH_ROWS_FINISHED", "5000000"))
COMPANIES = int(os.environ.get("BENCH_ROWS_COMPANIES", "5000"))
RATIO = int(os.environ.get("BENCH_ROWS_RATIO", "100"))
"""How much smaller the reference is; its companies are as many."""
ROUNDS = int(os.environ.get("BENCH_ROWS_ROUNDS", "5"))
OBJECTS_SHARE = 80
"""One due row in so many came from an ImportJob: 10,000 of 800,000, as many as overload admits."""
WRONG_SHARE = 100
PROBES = 50_000
"""A plan may read as many rows as are due, and a few of each company; one that read finished ones would exceed it."""
SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB", "maintenance_work_mem": "512MB"}

COMPANY = """INSERT INTO "Company" (id, tier)
SELECT 'company-' || n, CASE WHEN n %% 20 = 0 THEN 'ENTERPRISE' WHEN n %% 5 = 0 THEN 'PRO' ELSE 'BASIC' END
FROM generate_series(0, %(companies)s - 1) n"""
# Half of it came from objects.
HISTORY = """INSERT INTO "ProductImportJob"
    (id, "companyId", provider, namespace, "objectName", "objectUid", status, attempt, dispatch, "createdAt",
     "startedAt", "completedAt")
SELECT 'old-' || lpad(n::text, 8, '0'), 'company-' || n %% %(companies)s, 'shop', 'imports',
    CASE WHEN n %% 2 = 0 THEN 'old-import-' || n END, CASE WHEN n %% 2 = 0 THEN 'old-' || lpad(n::text, 8, '0') END,
    CASE WHEN n %% 20 = 0 THEN 'FAILED' ELSE 'COMPLETED' END, 1, 1, at - interval '5 minutes',
    at - interval '4 minutes', at
FROM (SELECT n, now() - (%(finished)s - n) * interval '0.5 seconds' AS at
      FROM generate_series(1, %(finished)s) n) h"""
# A fifth of the backlog is one company's. Rows with an object have its uid as their id.
BACKLOG = """INSERT INTO "ProductImportJob"
    (id, "companyId", provider, namespace, "objectName", "objectUid", generation, attempt, dispatch, "createdAt")
SELECT CASE WHEN object THEN 'object-' ELSE 'row-' END || lpad(n::text, 8, '0'),
    'company-' || CASE WHEN n %% 5 = 4 THEN 0 ELSE n %% %(companies)s END, 'shop', 'imports',
    CASE WHEN object THEN 'import-' || n END, CASE WHEN object THEN 'object-' || lpad(n::text, 8, '0') END,
    CASE WHEN object THEN 1 END, 0, 0, now() - (%(due)s - n) * interval '10 ms'
FROM (SELECT n, n %% %(objects_share)s = 0 AS object FROM generate_series(1, %(due)s) n) b"""
# Half of what is wrong was handed over and is not in Redis, half runs without a claim; a hundredth of the objects is
# gone beside. None of those rows has an object.
BREAK = """
UPDATE "ProductImportJob" SET dispatch = 1, status = CASE WHEN half = 1 THEN 'IN_PROGRESS' ELSE 'PENDING' END,
    "dispatchedAt" = CASE WHEN half = 1 THEN NULL ELSE now() - interval '1 minute' END
FROM (SELECT 'row-' || lpad((n * %(wrong_share)s + 1)::text, 8, '0') AS row, n %% 2 AS half
      FROM generate_series(0, %(due)s / %(wrong_share)s - 1) n) wrong
WHERE id = row
"""
MEND = """
UPDATE "ProductImportJob" SET status = 'PENDING', "dispatchedAt" = NULL, "completedAt" = NULL, "errorMessage" = NULL
WHERE status = 'IN_PROGRESS' OR status = 'PENDING' AND "dispatchedAt" IS NOT NULL
   OR status = 'CANCELLED' AND "objectUid" IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Size:
    """One of the two databases."""

    name: str
    due: int
    finished: int

    @property
    def values(self) -> dict[str, int]:
        """What the statements that fill it are told."""
        return {
            "due": self.due,
            "finished": self.finished,
            "companies": COMPANIES,
            "objects_share": OBJECTS_SHARE,
            "wrong_share": WRONG_SHARE,
        }


async def fill(url: str, size: Size) -> None:
    """Make the rows without indexes, which are built afterwards."""
    await migrate(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SET synchronous_commit = off")
        for name in INDEXES:
            await connection.execute(f"DROP INDEX {name}")
        for statement in (COMPANY, HISTORY, BACKLOG):
            await _execute(connection, statement, size.values)
    await migrate(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("VACUUM (ANALYZE, FREEZE)")


async def spoil(url: str, size: Size) -> None:
    """Put everything back to a whole backlog, then make one row in a hundred wrong."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(MEND)
        await _execute(connection, BREAK, size.values)
        await connection.execute('VACUUM "ProductImportJob"')


async def _execute(connection: psycopg.AsyncConnection[Any], statement: str, values: dict[str, int]) -> None:
    # The numbers are ours and written into the text, by which the server plans.
    await connection.execute((statement % values).encode())


async def look(url: str, redis_url: str, size: Size) -> dict[str, float]:
    """One measurement in a process of its own: milliseconds and MiB by name."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.rows_look", str(size.due // OBJECTS_SHARE), str(OBJECTS_SHARE)),
        env={**os.environ, "DATABASE_URL": url, "REDIS_URL": redis_url},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"The measuring process ended with {process.returncode}")
    found: dict[str, float] = json.loads(out)
    expected = size.due // WRONG_SHARE + size.due // OBJECTS_SHARE // WRONG_SHARE
    if found.pop("repaired") != expected:
        raise RuntimeError(f"Not all of the {expected} wrong rows were put right")
    return found


async def main() -> None:
    """Fill both, measure in turns, print."""
    small, large = (
        Size("small", DUE // RATIO, FINISHED // RATIO),
        Size("large", DUE, FINISHED),
    )
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log", settings=SERVER)
        valkey = ValkeyServer(folder / "valkey", log_path=folder / "valkey.log")
        await asyncio.gather(postgres.start(), valkey.start())
        try:
            urls = {}
            for size in (small, large):
                started = time.perf_counter()
                urls[size.name] = await postgres.create_database(size.name)
                await fill(urls[size.name], size)
                print(f"{size.name}: filled in {time.perf_counter() - started:.0f} s", file=sys.stderr)
            found: dict[str, list[dict[str, float]]] = {small.name: [], large.name: []}
            for turn in range(ROUNDS + 1):
                for size in (small, large):
                    await spoil(urls[size.name], size)
                    seen = await look(urls[size.name], valkey.url, size)
                    if turn:  # the first round warms up
                        found[size.name].append(seen)
            plans: list[dict[str, Read]] = []
            for size in (small, large):
                await spoil(urls[size.name], size)
                plans.append(await read_plans(urls[size.name], most=size.due + PROBES))
        finally:
            await asyncio.gather(postgres.stop(), valkey.stop())
    _print(small, large, found)
    print(
        "\nWhat each statement reads, by its plan: rows of the job table, and pages of 8 KiB of everything:\n"
    )
    few, many = plans
    print_table(
        ("statement", f"rows, {small.due:,} due", f"rows, {large.due:,} due", "pages", "pages"),
        [
            (name, *(f"{number:,}" for number in (read.rows, many[name].rows, read.pages, many[name].pages)))
            for name, read in few.items()
        ],
    )


def _print(small: Size, large: Size, found: dict[str, list[dict[str, float]]]) -> None:
    print(
        f"{COMPANIES:,} companies, one row in {WRONG_SHARE} wrong, {ROUNDS} interleaved rounds; "
        f"finished rows: {small.finished:,} and {large.finished:,}\n"
    )
    rows = []
    for name in found[small.name][0]:
        few, many = ([seen[name] for seen in found[size.name]] for size in (small, large))
        ratio = statistics.median(many) / statistics.median(few)
        rows.append((name, median_of(few), median_of(many), f"{ratio:.2f}"))
    print_table(("what", f"{small.due:,} due", f"{large.due:,} due", "ratio of the medians"), rows)
