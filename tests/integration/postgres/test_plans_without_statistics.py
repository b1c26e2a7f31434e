"""What dispatch asks reads as few rows while the planner knows nothing of them: they came a moment ago."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from filled_databases import new_database
from test_plans import TABLE, rows_read, scans, summary, with_numbered_parameters

from import_core.adapters.postgres import Database, counting, dispatching, evidence, held, views
from import_local.parts.postgres import PostgresServer

QUEUE = "product-imports"
ROWS = 20_000
COMPANIES = 1_000
CONNECTIONS = 3 * COMPANIES
"""Three of each company."""

FILL = f"""
INSERT INTO "ProductImportJob" (id, "companyId", provider, status, "createdAt", "completedAt", namespace)
SELECT %(state)s || n, 'company-' || n %% {COMPANIES}, 'shop-' || n / {COMPANIES} %% 3, %(state)s,
    now() - n * interval '1 second', CASE WHEN %(state)s = 'COMPLETED' THEN now() END, 'imports'
FROM generate_series(0, {ROWS - 1}) n
"""
CLAIMS = 200
CLAIMED = f"""
INSERT INTO imports.claim (job_id, claim_id, worker_id, queue, dispatch, claimed_at, expires_at)
SELECT id, gen_random_uuid(), 'worker', '{QUEUE}', 1, now(), now() + interval '1 minute'
FROM "ProductImportJob" WHERE status = 'PENDING' LIMIT {CLAIMS}
"""
OUTAGE = "INSERT INTO imports.breaker (namespace, name, state) VALUES ('imports', 'elsewhere', 'Open')"

ALL = [f"company-{number}" for number in range(COMPANIES)]
STATEMENTS = {
    "heads": (dispatching.HEADS, {"queue": QUEUE, "limit": 1, "basic_delay": 0.0}),
    "more": (dispatching.MORE, {"queue": QUEUE, "companies": ALL, "limit": 8, "basic_delay": 0.0}),
    "dispatchable": (evidence.DISPATCHABLE, {"queue": QUEUE, "limit": 1, "basic_delay": 0.0}),
    "held": (held.HELD, {"queue": QUEUE, "cap": held.CAP}),
    "counts": (counting.COUNTS, {"queue": QUEUE, "most": ROWS, "seconds": 3600}),
}
MOST = {
    "heads": 3 * CONNECTIONS,
    "more": 9 * CONNECTIONS,
    "held": 2 * ROWS,
    # Each of the parts that are not about connections may read the rows once.
    "dispatchable": 3 * CONNECTIONS + ROWS,
    "counts": 3 * CONNECTIONS + 6 * ROWS,
}


@pytest_asyncio.fixture(
    scope="module", loop_scope="session", params=["never analysed", "other rows analysed"]
)
async def surprised(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, migrated_template: str
) -> AsyncIterator[Database]:
    """Return a database with 20,000 new rows of which its statistics know nothing."""
    async with new_database(postgres_server, migrated_template) as database:
        async with database.connection() as connection:
            await connection.execute(f'ALTER TABLE "{TABLE}" SET (autovacuum_enabled = false)')
            if request.param == "other rows analysed":
                await connection.execute(FILL, {"state": "COMPLETED"})
                await connection.execute("VACUUM ANALYZE")
            await connection.execute(FILL, {"state": "PENDING"})
        yield database


@pytest.mark.parametrize("name", STATEMENTS)
async def test_rows_that_just_came_are_read_by_the_index_made_for_them(
    surprised: Database, name: str
) -> None:
    statement, values = STATEMENTS[name]
    async with surprised.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute(OUTAGE)
        await connection.execute("SET LOCAL statement_timeout = '10s'")
        cursor = await connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", values)
        row = await cursor.fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert "import_job_next" in {node.get("Index Name") for node in scans(plan)}
    assert rows_read(plan) <= MOST[name], summary(plan)


@pytest.mark.parametrize("name", ["heads", "more", "held"])
async def test_so_they_are_by_a_plan_for_any_parameters(surprised: Database, name: str) -> None:
    statement = with_numbered_parameters(STATEMENTS[name][0])
    async with surprised.connection() as connection:
        row = await (await connection.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}")).fetchone()
    assert row is not None
    assert {node.get("Index Name") for node in scans(row[0][0]["Plan"])} == {"import_job_next"}


async def test_who_runs_is_looked_up_by_claim(surprised: Database) -> None:
    async with surprised.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute(CLAIMED)
        cursor = await connection.execute(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {views.RUNNING}",
            {"namespace": "imports", "limit": 200},
        )
        row = await cursor.fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert rows_read(plan) == CLAIMS, summary(plan)
