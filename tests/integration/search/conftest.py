"""A database and a catalogue in it."""

from collections.abc import AsyncIterator

import pytest_asyncio
from search_catalogue import Catalogue

from import_core.adapters.postgres import Database


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, application="tests")
    await database.open(wait_seconds=10)
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def catalogue(database: Database) -> Catalogue:
    made = Catalogue(database)
    await made.prepare("acme")
    return made
