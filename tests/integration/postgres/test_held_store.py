"""Due jobs that an open breaker or a pause holds: those of their connections, and no others."""

from __future__ import annotations

from postgres_rows import NAMESPACE, execute, request

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.held import HeldStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.jobs import DEFAULT_QUEUE as QUEUE

NAME = "acme-shopify"
PAUSE = "INSERT INTO imports.pause (scope, namespace, name, paused_by) VALUES (%s, %s, %s, 'ada')"


async def held(database: Database, **values: int) -> dict[str, int]:
    return await HeldStore(database).count([QUEUE, "another-queue"], **values)


async def test_jobs_behind_an_open_breaker_are_counted_while_it_is_open(database: Database) -> None:
    jobs, breakers = JobStore(database), BreakerStore(database)
    await jobs.record([request(f"job-{n}") for n in range(5)])
    await jobs.record([request("elsewhere", namespace="other"), request("fine", provider="fine")])
    await jobs.record([request("queued-elsewhere", queue="another-queue")])
    await execute(
        database,
        f"""INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('bare', 'b', '{NAME}')""",
    )
    await execute(
        database,
        """UPDATE "ProductImportJob" SET "notBefore" = now() + interval '1 hour' WHERE id = 'job-4'""",
    )
    assert await held(database) == {QUEUE: 0, "another-queue": 0}
    await breakers.open_by_hand(NAMESPACE, NAME, by="ada", reason=None)
    # Four of its own that are due, and the one of the platform that names no namespace.
    assert await held(database) == {QUEUE: 5, "another-queue": 1}
    assert await held(database, cap=3) == {QUEUE: 3, "another-queue": 1}
    await breakers.reset(NAMESPACE, NAME)
    assert await held(database) == {QUEUE: 0, "another-queue": 0}


async def test_jobs_of_a_paused_company_or_connection_are_counted(database: Database) -> None:
    jobs = JobStore(database)
    await jobs.record([request("one", company_id="one"), request("two", company_id="two")])
    await jobs.record([request("three", company_id="three", provider="paused")])
    async with database.connection() as connection:
        await connection.execute(PAUSE, ("company", "", "one"))
        await connection.execute(PAUSE, ("provider", NAMESPACE, "paused"))
    assert (await held(database))[QUEUE] == 2
