"""A database with the current schema, and rows in it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from postgres_rows import request

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.jobs import Claim, Message

DispatchedJob = Callable[..., Awaitable[Message]]
NewClaim = Callable[..., Awaitable[Claim]]


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, application="tests")
    await database.open(wait_seconds=10)
    yield database
    await database.close()


@pytest.fixture
def dispatched(database: Database) -> DispatchedJob:
    """Record a job and hand it over, as the dispatcher does."""

    async def dispatch(job_id: str = "job-1", **values: Any) -> Message:
        await JobStore(database).record([request(job_id, **values)])
        async with database.connection() as connection:
            cursor = await connection.execute(
                """UPDATE "ProductImportJob" SET dispatch = dispatch + 1, "dispatchedAt" = now()
                WHERE id = %s RETURNING dispatch""",
                (job_id,),
            )
            row = await cursor.fetchone()
            assert row is not None
            return Message(job_id, row[0])

    return dispatch


@pytest.fixture
def claimed(database: Database, dispatched: DispatchedJob) -> NewClaim:
    """Record, hand over and claim a job."""

    async def claim(job_id: str = "job-1", *, worker_id: str = "worker-1", **values: Any) -> Claim:
        lease = values.pop("lease_seconds", 60.0)
        message = await dispatched(job_id, **values)
        found = await ClaimStore(database).claim(message, worker_id=worker_id, lease_seconds=lease)
        assert found is not None
        return found

    return claim
