"""Every periodic statement of the operator reads by index, and a bounded number of rows, at 200,000 rows."""

import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from filled_databases import filled_database, nodes

from import_core.adapters.postgres import (
    Database,
    claims,
    counting,
    dispatching,
    evidence,
    held,
    jobs,
    origins,
    paces,
    reopening,
    repairs,
    standings,
    step_control,
    step_figures,
    views,
    work,
)
from import_local.parts.postgres import PostgresServer

QUEUE = "product-imports"
COMPANIES = 400
HANDED_OVER = 1_000
RUNNING = 250
NOT_DUE = 2_000
TABLE = "ProductImportJob"
NOW = datetime(2100, 1, 1, tzinfo=UTC)

# A history of finished jobs, a backlog in which one company has most rows, and what is under way.
FILL = f"""
INSERT INTO "ProductImportJob"
    (id, "companyId", provider, status, dispatch, "dispatchedAt", "notBefore", "waitingReason", "createdAt",
     "startedAt", namespace, "objectUid")
SELECT 'job-' || n,
    'company-' || CASE WHEN n % 3 = 0 THEN n % {COMPANIES} ELSE 0 END,
    'p',
    CASE WHEN n <= {RUNNING} THEN 'IN_PROGRESS' WHEN n <= 60000 THEN 'PENDING' ELSE 'COMPLETED' END,
    1,
    CASE WHEN n <= {RUNNING + HANDED_OVER} THEN now() - interval '1 minute' - n * interval '1 ms' END,
    CASE WHEN n BETWEEN {60001 - NOT_DUE} AND 60000 THEN now() + interval '1 hour' END,
    CASE WHEN n BETWEEN {60001 - NOT_DUE} AND 60000 THEN 'Retry' END,
    now() - n * interval '1 second',
    CASE WHEN n <= {RUNNING} THEN now() - interval '1 hour' END,
    'imports', 'job-' || n
FROM generate_series(1, 200000) n;
INSERT INTO imports.checkpoint (job_id, version, progress, pages, updated_at)
SELECT id, 1, '{{}}', 3, now() - interval '1 hour' FROM "ProductImportJob" WHERE status <> 'PENDING';
INSERT INTO imports.claim (job_id, claim_id, worker_id, queue, dispatch, claimed_at, expires_at)
SELECT id, gen_random_uuid(), 'worker-' || (n % 50), '{QUEUE}', 1, now() - interval '1 hour',
    now() + interval '1 minute'
FROM (SELECT id, row_number() OVER () AS n FROM "ProductImportJob" WHERE status = 'IN_PROGRESS') r;
"""


# The job rows' one connection, and many others.
OUTAGE = """
INSERT INTO imports.breaker (namespace, name, state, failures, opened_at, probe_at)
SELECT 'imports', name, 'Open', 5, now(), now() + interval '1 minute'
FROM (SELECT 'p' UNION ALL SELECT 'other-' || n FROM generate_series(1, 1000) n) t (name)
"""


# Batches of the steps of some finished imports.
STEP_JOBS = """
INSERT INTO "ProductImportJob"
    (id, "companyId", provider, queue, status, "parentId", namespace, "createdAt", "completedAt")
SELECT 'step-' || n, 'company-0', 'index-product', 'index-product',
    CASE WHEN n <= 4000 THEN 'PENDING' WHEN n <= 4500 THEN 'CANCELLED' ELSE 'COMPLETED' END,
    'job-' || (100000 + n % 40), 'imports', now(), CASE WHEN n > 4000 THEN now() - interval '2 hours' END
FROM generate_series(1, 5000) n
"""
SWEPT = [f"step-{number}" for number in range(4_501, 5_001)]
PARENTS = [f"job-{number}" for number in range(100_000, 100_040)]
# Cancelled ones of which so much is left that reading it once for each of them shows.
OF_CANCELLED = f"""{STEP_JOBS};
INSERT INTO "ProductImportJob" (id, "companyId", provider, queue, status, "parentId", namespace, "createdAt")
SELECT 'left-' || n, 'company-0', 'index-product', 'index-product', 'PENDING', 'job-' || (100000 + n % 40), 'imports',
    now()
FROM generate_series(1, 40000) n;
UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = ANY(ARRAY{PARENTS})
"""


@dataclass(frozen=True)
class Case:
    """A statement with its parameters, and how many rows of the job table it may read."""

    statement: str
    parameters: Mapping[str, Any] | Sequence[Any]
    rows: int
    before: str = ""
    """What happens first."""


IDS = [f"job-{number}" for number in range(1, 501)]
MANY_COMPANIES = [f"company-{number}" for number in range(0, 200)]
KEYSET = {"queue": QUEUE, "before": NOW, "after": "-infinity", "after_id": "", "limit": 500}
STALLED = {
    "quiet": 1800.0,
    "locked": IDS[:200],
    "claims": [uuid.uuid4()],
    "jobs": IDS[:1],
    "failed": [False],
    "reasons": [None],
    "messages": ["m"],
    "tries": [1],
    "waiting": ["Retry"],
    "delays": [5.0],
}

STATES = ["PENDING", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
PAGE = {"before": NOW, "before_id": "", "examined": 500}

CASES = {
    # A company with tens of thousands of unfinished jobs: admission counts no further than its limit.
    "standing": Case(standings.STANDING, {"company": "company-0", "limit": 10_000}, 10_000),
    # Every due row up to the cap, and the 2,000 that are not due are not among them.
    "depth": Case(jobs.DEPTH, (jobs.DEPTH_CAP, [QUEUE]), jobs.DEPTH_CAP),
    # All due rows once; handed over ones for their number and the oldest of them; delayed ones for theirs, and
    # where they are older than a connection's first due one.
    "counts by state": Case(
        counting.COUNTS,
        {"queue": QUEUE, "most": 100_001, "seconds": 3600},
        60_000 + 2 * HANDED_OVER + 3 * NOT_DUE + 3 * COMPANIES,
    ),
    # For each company: found by one probe, its oldest row by another. Rows that are not due are passed over
    # one by one; there are no more of them than were started within the longest delay.
    "heads": Case(
        dispatching.HEADS, {"queue": QUEUE, "limit": 1, "basic_delay": 0.0}, 3 * COMPANIES + NOT_DUE
    ),
    # Each look of the scaling loop at nothing, which is nearly all of them; and at all that one connection holds.
    "held by nothing": Case(held.HELD, {"queue": QUEUE, "cap": held.CAP}, 0),
    "held": Case(
        held.HELD, {"queue": QUEUE, "cap": held.CAP}, held.CAP + 2 * COMPANIES + NOT_DUE, before=OUTAGE
    ),
    "more": Case(
        dispatching.MORE,
        {"queue": QUEUE, "companies": MANY_COMPANIES, "limit": 8, "basic_delay": 0.0},
        10 * len(MANY_COMPANIES) + NOT_DUE,
    ),
    # A failing connection's rows cost as much as none, however many they are: its probes are read alone.
    "heads of failing connections": Case(
        dispatching.HEADS, {"queue": QUEUE, "limit": 1, "basic_delay": 0.0}, 2 * COMPANIES, before=OUTAGE
    ),
    "more of failing connections": Case(
        dispatching.MORE,
        {"queue": QUEUE, "companies": MANY_COMPANIES, "limit": 8, "basic_delay": 0.0},
        2 * len(MANY_COMPANIES),
        before=OUTAGE,
    ),
    "chosen of failing connections": Case(dispatching.OF_OPEN_BREAKERS, (IDS,), len(IDS), before=OUTAGE),
    # Those of BASIC companies are all younger than the delay: nothing is read but each connection's probes.
    "heads of a degraded queue": Case(
        dispatching.HEADS, {"queue": QUEUE, "limit": 1, "basic_delay": 1e9}, 3 * COMPANIES + NOT_DUE
    ),
    "take back of paused connections": Case(dispatching.TAKE_BACK_PAUSED, (QUEUE, 2000), 4 * HANDED_OVER),
    "finished": Case(
        evidence.FINISHED,
        {"queue": QUEUE, "since": None, "seconds": 3600, "newest": 500, "own": [], "of_one": 25, "limit": 50},
        500,
    ),
    "ends": Case(paces.ENDS, {"queue": QUEUE, "seconds": 300.0, "most": 5000}, 5000),
    "storage outage": Case(
        evidence.STORAGE_OUTAGE,
        {"queue": QUEUE, "newest": 500, "reason": "StorageUnavailable", "seconds": 60},
        501,
    ),
    "shares": Case(dispatching.SHARES, {"queue": QUEUE, "starts": 1000}, RUNNING + HANDED_OVER),
    "unclaimed": Case(dispatching.UNCLAIMED, (QUEUE,), HANDED_OVER),
    "hand over": Case(dispatching.HAND_OVER, (IDS,), 2 * len(IDS)),
    "hand over again": Case(dispatching.HAND_OVER_AGAIN, (IDS, [1] * len(IDS)), HANDED_OVER + len(IDS)),
    "take back": Case(dispatching.TAKE_BACK, (QUEUE, 2000), 4 * HANDED_OVER),
    "overdue": Case(dispatching.OVERDUE, KEYSET, HANDED_OVER),
    "claims without job": Case(repairs.CLAIMS_WITHOUT_JOB, (500,), 2 * RUNNING),
    "jobs without claim": Case(repairs.JOBS_WITHOUT_CLAIM, (500,), 3 * RUNNING),
    "useful": Case(repairs.USEFUL, (IDS, [1] * len(IDS)), HANDED_OVER),
    # What the gateway shows: pages of a list, and what the live page asks for each second.
    "page of all states": Case(views.BY_STATE, {**PAGE, "states": STATES}, 3 * 600),
    "page of a state": Case(views.BY_STATE, {**PAGE, "states": ["COMPLETED"]}, 600),
    "page of a company": Case(views.BY_COMPANY, {**PAGE, "company": "company-0"}, 600),
    "by name": Case(views.BY_NAME, ("imports", "acme-1"), 1),
    "running": Case(views.RUNNING, {"namespace": "imports", "limit": 200}, 2 * RUNNING),
    "newest": Case(
        views.NEWEST, {"namespace": "imports", "state": "COMPLETED", "limit": 30, "examined": 500}, 501
    ),
    "waiting": Case(views.WAITING, {"namespace": "imports", "limit": 50, "examined": 500}, 501),
    "places": Case(views.PLACES, {"queue": QUEUE, "cap": jobs.DEPTH_CAP, "ids": IDS}, jobs.DEPTH_CAP),
    # The work of the first due rows; of those that ran before one checkpoint each.
    "work that waits": Case(work.WAITING, {"queue": QUEUE, "cap": work.WORK_CAP}, work.WORK_CAP),
    "work that runs": Case(work.RUNNING, {"queue": QUEUE, "limit": work.RUNNING_LIMIT}, 2 * RUNNING),
    "work that is done": Case(
        work.FINISHED, {"queue": QUEUE, "since": datetime(2020, 1, 1, tzinfo=UTC), "limit": 500}, 500
    ),
    "sizes": Case(
        work.SIZES,
        {
            "companies": MANY_COMPANIES,
            "namespaces": ["imports"] * len(MANY_COMPANIES),
            "providers": ["p"] * len(MANY_COMPANIES),
            "sample": work.SAMPLE,
        },
        work.SAMPLE * len(MANY_COMPANIES),
    ),
    # Of steps: their own jobs alone are read, and their parents once each.
    "open step jobs": Case(step_control.OPEN_JOBS, (PARENTS, 500), 4000, before=STEP_JOBS),
    "step jobs to suspend": Case(step_control.RUNNING_OR_FREE, (PARENTS, 500), 4000, before=STEP_JOBS),
    "step jobs to resume": Case(step_control.RESUME, (PARENTS, 500), 4000, before=STEP_JOBS),
    "parents of step jobs to hold": Case(
        step_control.TO_HOLD, {"ids": PARENTS, "suspended": True}, 2 * len(PARENTS), before=STEP_JOBS
    ),
    "cancelled parents": Case(
        step_control.CANCELLED_PARENTS, {"limit": 50}, 3 * len(PARENTS), before=OF_CANCELLED
    ),
    "finished imports of objects with steps": Case(
        origins.WITH_STEPS,
        {"namespace": "imports", "parent": PARENTS[5], "batch": "", "before": NOW, "limit": 500},
        500 + 2 * len(PARENTS),
        before=STEP_JOBS,
    ),
    "step jobs to sweep": Case(
        step_control.SWEEPABLE,
        {"queue": "index-product", "seconds": 3600, "limit": 500},
        2 * 500,
        before=STEP_JOBS,
    ),
    "swept step jobs to add up": Case(step_figures.COUNT_ENDED, (SWEPT,), 500, before=STEP_JOBS),
    "cancelled step jobs to sweep": Case(
        step_control.SWEEPABLE_CANCELLED, {"seconds": 3600, "limit": 500}, 2 * 500, before=STEP_JOBS
    ),
    "page beside step jobs": Case(views.BY_STATE, {**PAGE, "states": STATES}, 3 * 600, before=STEP_JOBS),
    "honoured requests": Case(reopening.HONOURED, (PARENTS,), 2 * len(PARENTS), before=STEP_JOBS),
    "stalled": Case(repairs.STALLED, {"quiet": 1800.0, "limit": 500}, 2 * RUNNING),
    "end stalled": Case(repairs.END_STALLED, STALLED, 2 * RUNNING),
    "after death": Case(
        claims.AFTER_DEATH, ("WorkerKilled", "died", 1, IDS, [False] * len(IDS)), 2 * len(IDS)
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def large(postgres_server: PostgresServer, migrated_template: str) -> AsyncIterator[Database]:
    """Return a database with 200,000 jobs, analysed."""
    async with filled_database(postgres_server, migrated_template, FILL) as database:
        yield database


def scans(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """How the job table is read; a bitmap's index part names no table and is counted with its heap part."""
    return [
        node
        for node in nodes(plan)
        if node.get("Relation Name") == TABLE and node["Node Type"] != "ModifyTable"
    ]


def rows_read(plan: Mapping[str, Any]) -> float:
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in scans(plan)
    )


def summary(plan: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """What to look at when a bound does not hold."""
    keys = ("Node Type", "Index Name", "Actual Rows", "Rows Removed by Filter", "Actual Loops")
    return [tuple(node.get(key) for key in keys) for node in scans(plan)]


def with_numbered_parameters(statement: str) -> str:
    """The statement as the server knows it, with $1 and so on where the driver has its placeholders."""
    numbers: dict[str, int] = {}

    def placeholder(match: re.Match[str]) -> str:
        key = match.group(1) or f"#{len(numbers)}"
        return f"${numbers.setdefault(key, len(numbers) + 1)}"

    return re.sub(r"%\((\w+)\)s|%s", placeholder, statement)


@pytest.mark.parametrize("name", CASES)
async def test_rows_read_are_bounded(large: Database, name: str) -> None:
    case = CASES[name]
    async with large.connection() as connection, connection.transaction(force_rollback=True):
        if case.before:
            await connection.execute(case.before)
        cursor = await connection.execute(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {case.statement}", case.parameters
        )
        row = await cursor.fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert all(node["Node Type"] != "Seq Scan" for node in scans(plan)), summary(plan)
    assert rows_read(plan) <= case.rows, summary(plan)


@pytest.mark.parametrize("name", CASES)
async def test_a_plan_for_any_parameters_uses_indexes_too(large: Database, name: str) -> None:
    """The driver prepares what it runs often, and the server may then plan without knowing the parameters."""
    statement = with_numbered_parameters(CASES[name].statement)
    async with large.connection() as connection:
        row = await (await connection.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}")).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert scans(plan), "the statement reads the job table"
    assert all(node["Node Type"] != "Seq Scan" for node in scans(plan)), summary(plan)


async def test_the_pages_of_the_orphan_scan_meet_every_row_once(large: Database) -> None:
    store = dispatching.DispatchStore(large)
    pages = [page async for page in store.overdue(QUEUE, older_than_seconds=15, page=300)]
    assert [len(page) for page in pages] == [300, 300, 300, 100]
    assert len({message.job_id for page in pages for message in page}) == HANDED_OVER


async def test_each_cancelled_parent_is_found_once(large: Database) -> None:
    """Also where the id of one of its step jobs is none that was made for a step job."""
    async with large.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute(OF_CANCELLED)
        await connection.execute("""UPDATE "ProductImportJob" SET id = 'zz' WHERE id = 'left-1'""")
        cursor = await connection.execute(step_control.CANCELLED_PARENTS, {"limit": 50})
        assert sorted(row[0] for row in await cursor.fetchall()) == PARENTS
