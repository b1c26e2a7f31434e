"""Behind a pooler in transaction mode: what goes through it, what goes past it, and that nothing binds its sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC
from pathlib import Path

import psycopg
import pytest
from pgbouncer import pgbouncer
from postgres_rows import execute, request
from structlog.testing import capture_logs
from transaction_pooler import OPTIONS_REFUSED, TransactionPooler

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite, ProductWrite
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.life import LifeSign
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, listen, notify
from import_core.adapters.postgres.sessions import OWN_SESSION
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.jobs import DEFAULT_QUEUE, Checkpoint, JobState, Message, Progress
from import_core.domain.mapping import MappedProduct

# Nothing may depend on the zone of the pooler's sessions, so it is an odd one.
LIMITS = "SET statement_timeout = '10s'; SET transaction_timeout = '15s'; SET TimeZone = 'Asia/Kathmandu'"
JOBS, WORKERS, SERVER_CONNECTIONS = 24, 3, 2


@asynccontextmanager
async def behind(url: str, direct_url: str, *, application: str = "tests") -> AsyncIterator[Database]:
    database = Database(url, direct_url=direct_url, application=application, maximum=4)
    await database.open(wait_seconds=10)
    try:
        yield database
    finally:
        await database.close()


async def hand_over(database: Database) -> list[Message]:
    """What a round of the dispatcher does in PostgreSQL."""
    async with DispatchStore(database).transaction() as turn:
        assert await turn.lock()
        await turn.state(DEFAULT_QUEUE)
        await turn.take_back_paused(DEFAULT_QUEUE)
        heads = await turn.heads(DEFAULT_QUEUE)
        due = await turn.more(DEFAULT_QUEUE, [head.company_id for head in heads], limit=JOBS)
        return await turn.hand_over([candidate.job_id for candidate in due])


async def work(database: Database, worker_id: str, messages: list[Message]) -> None:
    """Take each job, import a page of it and finish it, as a worker does."""
    await WorkerStore(database).register(
        WorkerProcess(worker_id, DEFAULT_QUEUE, "imports", worker_id, worker_id, concurrency=5)
    )
    claims = ClaimStore(database)
    while messages:
        claim = await claims.claim(messages.pop(), worker_id=worker_id)
        assert claim is not None
        progress = Progress(products_total=1, products_imported=1)
        product = ProductWrite(MappedProduct(external_id=claim.job.id, title="A"), "hash")
        checkpoint = Checkpoint(progress=progress, pages=1)
        page = PageWrite("shopify", [claim.job.id], [product], [], [], checkpoint)
        await CatalogueStore(database).commit_page(claim, page)
        await claims.renew([(claim.job.id, claim.claim_id, progress)])
        await claims.finish(claim, JobState.COMPLETED, reason=None, message=None)
        await notify(database, PROGRESS_CHANNEL, [claim.job.id])


async def run_jobs(url: str, direct_url: str) -> None:
    """Record, hand over, run and finish jobs with several workers, while somebody listens."""
    ids = {f"job-{number}" for number in range(JOBS)}
    async with (
        behind(url, direct_url, application="operator") as operator,
        behind(url, direct_url, application="worker") as worker,
        aclosing(listen(operator, [PROGRESS_CHANNEL])) as heard,
    ):
        assert (await anext(heard)).channel is None
        recorded = await JobStore(operator).record([request(job_id) for job_id in sorted(ids)])
        assert set(recorded.new) == ids
        messages = await hand_over(operator)
        assert {message.job_id for message in messages} == ids
        async with asyncio.timeout(60):
            await asyncio.gather(*(work(worker, f"worker-{number}", messages) for number in range(WORKERS)))
            told: set[str] = set()
            while told != ids:
                told.update((await anext(heard)).payload.split(","))
        rows = await JobStore(operator).read(sorted(ids))
        assert {row.state for row in rows.values()} == {JobState.COMPLETED}
        assert {row.started_at.tzinfo for row in rows.values() if row.started_at} == {UTC}
        assert await execute(operator, 'SELECT count(*) FROM "Product"') == [(JOBS,)]
        life = LifeSign(operator)
        await life.ask()
        await life.close()


async def test_all_of_a_jobs_way_binds_no_session_of_rds_proxy(database_url: str) -> None:
    async with TransactionPooler(database_url, size=SERVER_CONNECTIONS, init_query=LIMITS) as pooler:
        with capture_logs() as logs:
            await run_jobs(pooler.url, database_url)
        assert pooler.pins == []
        assert pooler.names == {"operator", "worker"}, "LISTEN and signs of life go to the server itself"
        assert pooler.transactions > JOBS * 5
        assert not [line for line in logs if line["event"] == "database.pooler_without_limits"]


async def test_all_of_a_jobs_way_goes_through_pgbouncer(database_url: str, servers_folder: Path) -> None:
    folder = servers_folder / "pgbouncer"
    async with pgbouncer(database_url, folder, size=SERVER_CONNECTIONS, init_query=LIMITS) as url:
        await run_jobs(url, database_url)


async def test_what_a_session_of_our_own_asks_for_is_what_such_a_pooler_refuses(database_url: str) -> None:
    async with TransactionPooler(database_url, size=1) as pooler:
        with pytest.raises(psycopg.OperationalError, match=OPTIONS_REFUSED):
            await psycopg.AsyncConnection.connect(pooler.url, options=OWN_SESSION["options"])
        async with await psycopg.AsyncConnection.connect(pooler.url, autocommit=True) as connection:
            await connection.execute("SELECT set_config('lock_timeout', '1s', false)")
            await connection.execute("SELECT 1", prepare=True)
            await connection.execute("LISTEN channel")
            await connection.execute("SELECT pg_try_advisory_lock(1)")
        assert len(pooler.pins) == 4


async def test_the_poolers_limits_hold_and_are_left_to_it(database_url: str) -> None:
    limits = "SET statement_timeout = '1s'; SET transaction_timeout = '15s'"
    async with (
        TransactionPooler(database_url, size=1, init_query=limits) as pooler,
        behind(pooler.url, database_url) as database,
    ):
        with pytest.raises(DatabaseUnavailableError, match="statement timeout"):
            await execute(database, "SELECT pg_sleep(60)")
        async with database.transaction(timeout_seconds=5) as connection:
            row = await (await connection.execute("SHOW transaction_timeout")).fetchone()
        assert row == ("15s",)
        assert pooler.pins == []


async def test_a_pooler_without_limits_is_named_and_transactions_bring_their_own(database_url: str) -> None:
    async with TransactionPooler(database_url, size=1) as pooler:
        with capture_logs() as logs:
            async with behind(pooler.url, database_url) as database:
                async with database.transaction(timeout_seconds=5) as connection:
                    row = await (await connection.execute("SHOW transaction_timeout")).fetchone()
                assert row == ("5s",)
                assert await execute(database, "SHOW transaction_timeout") == [("0",)]
        (warning,) = [line for line in logs if line["event"] == "database.pooler_without_limits"]
        assert warning["missing"] == ["statement_timeout = '10s'", "transaction_timeout = '15s'"]


@pytest.mark.parametrize("same", [True, False])
async def test_without_another_address_sessions_are_our_own(database_url: str, *, same: bool) -> None:
    async with behind(database_url, database_url if same else "") as database:
        assert await execute(database, "SHOW TimeZone") == [("UTC",)]
        assert await execute(database, "SHOW statement_timeout") == [("10s",)]
        async with database.transaction(timeout_seconds=5) as connection:
            row = await (await connection.execute("SHOW transaction_timeout")).fetchone()
        assert row == ("5s",)
