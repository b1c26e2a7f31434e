"""Brings a database to the newest version: migrations under an advisory lock, then a check of the shape."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, text

from import_core.adapters.postgres.platform import check_platform_tables
from import_core.domain.errors import DatabaseUnavailableError

MIGRATION_LOCK = 0x696D706F7274  # "import"; two migrating processes wait for each other
LOCK_TIMEOUT_SECONDS = 30


async def migrate(database_url: str) -> None:
    """Migrate the database at `database_url` (`postgresql://…`) to the newest version.

    Safe to run from several processes at once. Raises SchemaMismatchError when the platform's tables
    lack something, naming each difference, and DatabaseUnavailableError.
    """
    await asyncio.to_thread(_migrate, database_url)


def _migrate(database_url: str) -> None:
    engine = create_engine(
        sqlalchemy.make_url(database_url).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"connect_timeout": 10},
    )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS imports"))
            # Before anything is created that refers to the platform's tables, and after.
            check_platform_tables(connection, absent_is_fine=True)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            check_platform_tables(connection)
    except sqlalchemy.exc.OperationalError as error:
        detail = str(error.orig).strip().splitlines()[0]
        raise DatabaseUnavailableError(f"The database could not be migrated: {detail}") from error
    finally:
        engine.dispose()
