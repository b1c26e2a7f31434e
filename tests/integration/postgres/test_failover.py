"""A server that is a standby, as in a failover, or that falls silent: told as an absence, never as an end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.life import LifeSign
from import_core.adapters.postgres.notifications import CONTROL_CHANNEL, listen
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import DatabaseUnavailableError
from import_core.observability.metrics import WorkerMetrics
from import_local.faults.proxy import TcpProxy
from import_local.parts.postgres import PostgresServer
from import_worker import hints, listening
from import_worker.leases import LeaseKeeper


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def standby_url(postgres_server: PostgresServer, servers_folder: Path) -> AsyncIterator[str]:
    """URL of a standby of the session's server, which the tests of this module only read."""
    standby = PostgresServer(
        servers_folder / "standby",
        log_path=servers_folder / "standby.log",
        password=postgres_server.password,
        durable=False,
    )
    await standby.start(copy_of=postgres_server)
    yield standby.url("postgres")
    await standby.stop()


async def test_listening_to_a_standby_is_an_absence(standby_url: str) -> None:
    async with aclosing(listen(Database(standby_url, application="tests"), [CONTROL_CHANNEL])) as heard:
        with pytest.raises(DatabaseUnavailableError, match="recovery"):
            await anext(heard)


async def test_a_standby_shows_no_sign_of_life(standby_url: str) -> None:
    life = LifeSign(Database(standby_url, application="tests"))
    with pytest.raises(DatabaseUnavailableError, match="standby"):
        await life.ask()


@pytest.mark.parametrize("error", [DatabaseUnavailableError(), ZeroDivisionError()])
async def test_whatever_ends_the_listening_it_begins_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failed, heard = asyncio.Event(), asyncio.Event()

    async def breaks(*_: object) -> AsyncIterator[None]:
        if not failed.is_set():
            failed.set()
            raise error
        heard.set()
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(listening, "listen", breaks)
    leases = LeaseKeeper(ClaimStore(database), WorkerMetrics(), on_news=lambda _: None)
    task = asyncio.create_task(hints.heed_hints(database, leases))
    await asyncio.wait_for(heard.wait(), 10)
    await end_tasks([task])


async def test_a_busy_pool_is_no_absence(database_url: str) -> None:
    database = Database(database_url, application="tests", maximum=1)
    await database.open(wait_seconds=10)
    life = LifeSign(database)
    async with database.connection(), asyncio.timeout(5):
        await life.ask()
        await life.ask()
    await life.close()
    await database.close()


async def test_swallowed_packets_are_an_absence_and_the_next_answer_comes_on_a_new_connection(
    database_url: str,
) -> None:
    port = urlsplit(database_url).port
    assert port is not None
    proxy = TcpProxy(port)
    await proxy.start()
    life = LifeSign(Database(proxy.through(database_url), application="tests"), answer_seconds=2.0)
    await life.ask()
    proxy.black_hole()
    async with asyncio.timeout(15):
        with pytest.raises(DatabaseUnavailableError):
            await life.ask()
    await proxy.heal()
    await life.ask()
    await life.close()
    await proxy.stop()
