"""How many rows of the job table the statements of the operator's loops read, by the plans that PostgreSQL makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from import_core.adapters.postgres import (
    counting,
    dispatching,
    evidence,
    held,
    history,
    jobs,
    origins,
    repairs,
    step_control,
    views,
    work,
)
from import_core.domain.jobs import DEFAULT_QUEUE

QUEUE = {"queue": DEFAULT_QUEUE}
LATE = datetime(2100, 1, 1, tzinfo=UTC)
LONG = 90 * 86_400
"""Seconds after which history goes: none is so old, and finding that out must cost nothing."""
COMPANIES = [f"company-{number}" for number in range(250)]
STATEMENTS: dict[str, tuple[str, Mapping[str, Any] | Sequence[Any]]] = {
    "depth": (jobs.DEPTH, (jobs.DEPTH_CAP, [DEFAULT_QUEUE])),
    "held jobs": (held.HELD, {**QUEUE, "cap": held.CAP}),
    "jobs by state": (counting.COUNTS, {**QUEUE, "most": 100_001, "seconds": 3600}),
    "dispatch: oldest of each company": (dispatching.HEADS, {**QUEUE, "limit": 1, "basic_delay": 0.0}),
    "dispatch: more of 250 companies": (
        dispatching.MORE,
        {**QUEUE, "companies": COMPANIES, "limit": 8, "basic_delay": 0.0},
    ),
    "dispatch: shares": (dispatching.SHARES, {**QUEUE, "starts": 1000}),
    "dispatch: unclaimed": (dispatching.UNCLAIMED, (DEFAULT_QUEUE,)),
    "guard: last ends": (
        evidence.FINISHED,
        {**QUEUE, "since": None, "seconds": 3600, "newest": 500, "own": [], "of_one": 25, "limit": 50},
    ),
    "guard: whether anything can be handed out": (
        evidence.DISPATCHABLE,
        {**QUEUE, "limit": 1, "basic_delay": 0.0},
    ),
    "guard: outage of the object store": (
        evidence.STORAGE_OUTAGE,
        {**QUEUE, "newest": 50, "reason": "StorageUnavailable", "seconds": 60},
    ),
    "scaling: work that waits": (work.WAITING, {**QUEUE, "cap": work.WORK_CAP}),
    "scaling: last ends": (
        work.FINISHED,
        {**QUEUE, "since": datetime(2000, 1, 1, tzinfo=UTC), "limit": work.FINISHED_LIMIT},
    ),
    "scaling: sizes of 200 companies' jobs": (
        work.SIZES,
        {
            "companies": COMPANIES[: work.SIZES_AT_ONCE],
            "namespaces": ["imports"] * work.SIZES_AT_ONCE,
            "providers": ["shop"] * work.SIZES_AT_ONCE,
            "sample": work.SAMPLE,
        },
    ),
    "repair: a page of hand-overs": (
        dispatching.OVERDUE,
        {**QUEUE, "before": LATE, "after": "-infinity", "after_id": "", "limit": dispatching.PAGE},
    ),
    "repair: claims without a job": (repairs.CLAIMS_WITHOUT_JOB, (repairs.LIMIT,)),
    "repair: a batch of jobs without a claim": (repairs.JOBS_WITHOUT_CLAIM, (repairs.LIMIT,)),
    "repair: stalled": (repairs.STALLED, {"quiet": 1800.0, "limit": repairs.LIMIT}),
    "reconcile: a page of unfinished rows of objects": (
        origins.UNFINISHED,
        {"namespace": "imports", "after": "", "before": LATE, "limit": origins.PAGE},
    ),
    "reconcile: finished rows of objects with open steps": (
        origins.WITH_STEPS,
        {"namespace": "imports", "parent": "", "batch": "", "before": LATE, "limit": origins.BATCHES},
    ),
    "steps: cancelled parents": (step_control.CANCELLED_PARENTS, {"limit": 500}),
    "steps: finished jobs to sweep": (
        step_control.SWEEPABLE,
        {"queue": "index-product", "seconds": step_control.KEPT_SECONDS, "limit": 500},
    ),
    "history: old rows": (history.OLD, ("imports", LONG / 86_400, history.BATCH)),
    "page: places of waiting jobs": (views.PLACES, {**QUEUE, "cap": 20_001, "ids": ["row-00000001"]}),
    "page: newest of a state": (
        views.NEWEST,
        {"state": "COMPLETED", "namespace": "imports", "examined": 1000, "limit": 100},
    ),
}
TABLE = "ProductImportJob"


@dataclass(frozen=True, slots=True)
class Read:
    """What a statement reads: rows of the job table, and pages of all tables and indexes."""

    rows: int
    pages: int


async def read_plans(url: str, *, most: int) -> dict[str, Read]:
    """What each statement reads.

    Raises RuntimeError where a plan reads the job table without an index, or more than `most` rows of it.
    """
    found: dict[str, Read] = {}
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for name, (statement, values) in STATEMENTS.items():
            async with connection.transaction(force_rollback=True):
                cursor = await connection.execute(
                    f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}".encode(), values
                )
                row = await cursor.fetchone()
            plan = row[0][0]["Plan"] if row else {}
            scans = [node for node in nodes(plan) if reads_jobs(node)]
            rows = round(sum(rows_of(node) for node in scans))
            if any(node["Node Type"] == "Seq Scan" for node in scans) or rows > most:
                raise RuntimeError(f"{name}: the plan reads {rows:,} rows of the job table: {plan}")
            found[name] = Read(rows, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    return found


def rows_of(node: Mapping[str, Any]) -> float:
    """Rows that a scan has looked at, passed over or not."""
    looked = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return float((looked + node.get("Rows Removed by Index Recheck", 0)) * node["Actual Loops"])


def reads_jobs(node: Mapping[str, Any]) -> bool:
    """A bitmap's index part names no table and is counted with its heap part."""
    return node.get("Relation Name") == TABLE and node["Node Type"] != "ModifyTable"


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The plan's nodes."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
