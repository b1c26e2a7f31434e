"""Brings a database to the newest version: migrations under an advisory lock, then a check of the shape."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, text

from import_core.adapters.postgres.indexes import build_indexes
from import_core.adapters.postgres.platform import check_platform_tables
from import_core.adapters.postgres.triggers import create_triggers
from import_core.adapters.postgres.vector_table import create_vector_table
from import_core.domain.errors import DatabaseUnavailableError

MIGRATION_LOCK = 0x696D706F7274  # "import"; two migrating processes wait for each other
TURN_TIMEOUT_SECONDS = 1800
TURN_POLL_SECONDS = 0.2
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
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as guard:
            _take_turn(guard)
            with engine.begin() as connection:
                # A busy table is not waited for longer: whoever comes after us would wait as well.
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'"))
                connection.execute(text("CREATE SCHEMA IF NOT EXISTS imports"))
                # Before anything is created that refers to the platform's tables, and after.
                check_platform_tables(connection, before=True)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                # Also where the extension came after its migration.
                create_vector_table(connection)
                check_platform_tables(connection)
                create_triggers(connection)
            build_indexes(guard)
    except sqlalchemy.exc.OperationalError as error:
        detail = str(error.orig).strip().splitlines()[0]
        raise DatabaseUnavailableError(f"The database could not be migrated: {detail}") from error
    finally:
        engine.dispose()


def _take_turn(guard: sqlalchemy.Connection) -> None:
    """Wait for the migration lock, which lasts as long as the connection.

    It is asked for again and again rather than waited for: a statement that waits holds a snapshot, and
    building an index without locks waits for every older snapshot, so the two would wait for each other.
    """
    deadline = time.monotonic() + TURN_TIMEOUT_SECONDS
    while not guard.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}).scalar():
        if time.monotonic() > deadline:
            raise DatabaseUnavailableError(
                f"another process has been migrating the database for over {TURN_TIMEOUT_SECONDS} s"
            )
        time.sleep(TURN_POLL_SECONDS)
