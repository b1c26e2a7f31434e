"""PostgreSQL is killed, restarted and replaced by its standby; what it acknowledged stays."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from import_local.faults.links import Links
from import_local.faults.servers import PostgresFaults
from import_local.parts.postgres_pair import PostgresPair

_DATABASE = "imports"


@pytest_asyncio.fixture(loop_scope="session")
async def pair(servers_folder: Path) -> AsyncIterator[PostgresPair]:
    folder = servers_folder / "pair"
    folder.mkdir(mode=0o711)
    pair = PostgresPair(folder / "postgres", log_folder=folder, password="example", durable=False)
    await pair.start()
    await pair.create_database(_DATABASE)
    yield pair
    await pair.stop()
    assert pair.processes() == []
    await asyncio.to_thread(shutil.rmtree, folder)


@pytest_asyncio.fixture(loop_scope="session")
async def links(pair: PostgresPair) -> AsyncIterator[Links]:
    links = Links(("workers-postgres", "operator-postgres"))
    await links.start()
    for link in links.ending_in("postgres"):
        link.point_to(pair.port)
    yield links
    await links.stop()


@pytest.fixture
def address(pair: PostgresPair, links: Links) -> str:
    """An address that never changes."""
    return links["workers-postgres"].through(pair.url(_DATABASE))


class Writer:
    """Writes numbers until it is stopped, again after each loss of its connection."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._wrote = asyncio.Event()
        self._stopping = False
        self.acknowledged: list[int] = []

    async def run(self) -> None:
        number = 0
        while not self._stopping:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._address, autocommit=True, connect_timeout=5
                ) as connection:
                    await connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
                    while not self._stopping:
                        number += 1
                        await connection.execute("INSERT INTO kept VALUES (%s)", [number])
                        self.acknowledged.append(number)
                        self._wrote.set()
            except psycopg.OperationalError:
                await asyncio.sleep(0.05)

    async def has_written_more(self) -> None:
        self._wrote.clear()
        async with asyncio.timeout(30):
            await self._wrote.wait()

    async def stop(self) -> None:
        await self.has_written_more()
        self._stopping = True


async def _check_nothing_was_lost(address: str, act: Callable[[], Awaitable[None]]) -> None:
    writer = Writer(address)
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        await writer.has_written_more()
        await act()
        await writer.stop()
    async with await psycopg.AsyncConnection.connect(address) as connection:
        rows = await (await connection.execute("SELECT number FROM kept")).fetchall()
    assert len(writer.acknowledged) > 1
    assert set(writer.acknowledged) <= {number for (number,) in rows}


async def test_a_killed_primary_comes_back_with_all_that_it_acknowledged(
    pair: PostgresPair, links: Links, address: str
) -> None:
    before = pair.primary.processes()[0].pid
    await _check_nothing_was_lost(address, PostgresFaults(pair, links).kill_and_restart)
    assert pair.primary.processes()[0].pid != before
    assert len(pair.processes()) == 2


async def test_twice_the_standby_takes_over_with_all_that_was_acknowledged(
    pair: PostgresPair, links: Links, address: str
) -> None:
    changes: list[str] = []
    faults = PostgresFaults(pair, links, changed=lambda: changes.append(pair.primary.name))
    for _ in range(2):
        await _check_nothing_was_lost(address, faults.fail_over)
    assert changes == ["postgres-2", "postgres-3"]
    assert [child.name for child in pair.processes()] == ["postgres-3", "postgres-4"]


async def test_a_failover_that_was_broken_off_is_brought_to_its_end(
    pair: PostgresPair, links: Links, address: str
) -> None:
    faults = PostgresFaults(pair, links)

    async def break_off_and_repair() -> None:
        assert pair.standby is not None
        await pair.standby.promote()  # and nothing else of a failover
        await faults.repair()

    await _check_nothing_was_lost(address, break_off_and_repair)
    assert len(pair.processes()) == 2
    assert not await pair.repair()


async def test_the_next_start_has_the_data_of_the_last_primary(pair: PostgresPair, links: Links) -> None:
    await PostgresFaults(pair, links).fail_over()
    async with await psycopg.AsyncConnection.connect(pair.url(_DATABASE)) as connection:
        await connection.execute("CREATE TABLE written_after AS SELECT 7 AS number")
    await pair.stop()
    folder = pair.primary.data.parent.parent
    assert [path.name for path in folder.glob("postgres*") if path.is_dir()] == ["postgres"]
    again = PostgresPair(folder / "postgres", log_folder=folder, password="example", durable=False)
    await again.start()
    try:
        async with await psycopg.AsyncConnection.connect(again.url(_DATABASE)) as connection:
            row = await (await connection.execute("SELECT number FROM written_after")).fetchone()
            assert row == (7,)
            await connection.execute("DROP TABLE written_after")
    finally:
        await again.stop()
