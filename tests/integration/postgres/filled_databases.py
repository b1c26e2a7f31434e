"""Databases with so many rows that a plan matters, and what is read of the plans."""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from import_core.adapters.postgres import Database
from import_local.parts.postgres import PostgresServer


@asynccontextmanager
async def new_database(server: PostgresServer, template: str) -> AsyncIterator[Database]:
    """A migrated database of its own, dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    database = Database(await server.create_database(name, template=template), application="tests", maximum=2)
    await database.open(wait_seconds=10)
    try:
        yield database
    finally:
        await database.close()
        await server.drop_database(name)


@asynccontextmanager
async def filled_database(server: PostgresServer, template: str, fill: str) -> AsyncIterator[Database]:
    """The same after `fill`, analysed."""
    async with new_database(server, template) as database:
        async with database.connection() as connection:
            await connection.execute("SET statement_timeout = 0")
            await connection.execute(fill)
            await connection.execute("VACUUM ANALYZE")
        yield database


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A plan's node and all below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
