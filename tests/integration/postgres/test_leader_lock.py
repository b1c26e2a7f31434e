"""One session leads, by a lock that ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from eventually import eventually
from postgres_rows import execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres import leading as leading_module
from import_core.adapters.postgres.leading import LeaderLock
from import_core.domain.errors import DatabaseUnavailableError, LeaseUncertainError
from import_operator.loops.lead import SupersededError
from import_operator.standalone import leading
from import_operator.standalone.leading import LockLeadership

# The sessions of one name that hold the lock.
HOLDERS = """
SELECT a.pid FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
WHERE l.locktype = 'advisory' AND a.application_name = %s AND a.datname = current_database() AND l.granted
"""


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, application="leader-test", maximum=2)
    await database.open()
    yield database
    await database.close()


async def end_holder(database: Database) -> None:
    async def only_one() -> tuple[int] | None:
        found = await execute(database, HOLDERS, ("leader-test-lead",))
        return found[0] if len(found) == 1 else None

    # The server ends a session, and so frees its lock, a moment after its client.
    holder = await eventually(only_one, what="one session holds the lock")
    await execute(database, "SELECT pg_terminate_backend(%s, 5000)", holder)


async def until_taken(lock: LeaderLock) -> None:
    """Wait until the lock is held by a session that the server ends when it is silent for a moment."""
    async with asyncio.timeout(20):
        while True:
            try:
                if await lock.take_or_keep():
                    break
            except DatabaseUnavailableError:
                # Its own session is silent between two looks, too, and on a busy machine within one.
                continue
            await asyncio.sleep(0.05)


async def test_one_of_a_name_holds_it_until_its_session_ends(database: Database) -> None:
    first, second = LeaderLock(database, "one"), LeaderLock(database, "one")
    other = LeaderLock(database, "other")
    assert await first.take_or_keep()
    assert not await second.take_or_keep()
    assert await other.take_or_keep()
    await other.release()
    assert await first.take_or_keep()
    await end_holder(database)
    with pytest.raises(DatabaseUnavailableError):
        await first.take_or_keep()
    assert await second.take_or_keep()
    assert not await first.take_or_keep()
    await second.release()
    # The server ends a session a moment after its client.
    await eventually(first.take_or_keep, what="the lock is free")
    await first.release()


async def test_the_server_ends_a_session_that_hangs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading_module, "BEGIN", leading_module.BEGIN.replace("10s", "200ms"))
    hanging, waiting = LeaderLock(database, "one"), LeaderLock(database, "one")
    await until_taken(hanging)
    await until_taken(waiting)
    with pytest.raises(DatabaseUnavailableError):
        await hanging.take_or_keep()
    await waiting.release()


async def test_a_leader_ends_when_another_leads_and_not_when_it_can_ask_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "RENEW_SECONDS", 0.02)
    leader, standby = (LockLeadership(LeaderLock(database, "one")) for _ in range(2))
    with pytest.raises(LeaseUncertainError):
        leader.check()
    await leader.acquire()
    leader.check()
    waiting = asyncio.create_task(standby.acquire())
    await asyncio.sleep(0)
    assert not standby.leading
    await end_holder(database)
    async with asyncio.timeout(20):
        await waiting
        with pytest.raises(SupersededError):
            await leader.keep()
    standby.check()
    for each in (leader, standby):
        await each.release()
        with pytest.raises(LeaseUncertainError):
            each.check()


async def test_a_leader_that_can_ask_nobody_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "RENEW_SECONDS", 0.01)
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none", application="leader-test")
    leader = LockLeadership(LeaderLock(nowhere, "one"))
    leader.leading = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await leader.keep()
    assert leader.leading
    with pytest.raises(LeaseUncertainError):
        leader.check()
