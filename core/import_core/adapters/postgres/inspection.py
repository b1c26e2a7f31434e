"""Looks at a database as the operator needs it: migrations, tables, indexes, time. Changes nothing."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path

import psycopg
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine, text

from import_core.adapters.postgres.indexes import INDEXES
from import_core.adapters.postgres.platform import platform_differences
from import_core.adapters.postgres.triggers import missing_triggers
from import_core.domain.doctor.stores import SeenDatabase
from import_core.domain.errors import DatabaseUnavailableError

CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 10

SERVER = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery()"
# Without a right to read it, the version is not known, which the caller is told.
VERSION_TABLE = "SELECT to_regclass('imports.migration') IS NOT NULL"
VERSION = "SELECT version_num FROM imports.migration"
VALID = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indisvalid AND c.relname = ANY(:names) AND c.relnamespace = current_schema()::regnamespace
"""
MOMENT = "SELECT clock_timestamp()"


async def inspect_database(database_url: str) -> tuple[SeenDatabase, tuple[datetime, float, float]]:
    """What there is, and (the database's time, and this machine's before and after it was asked, Unix seconds).

    Raises DatabaseUnavailableError, also where the user may not look.
    """
    return await asyncio.to_thread(_inspect, database_url)


def _inspect(database_url: str) -> tuple[SeenDatabase, tuple[datetime, float, float]]:
    engine = create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        # The driver knows addresses, as of several hosts, that the toolkit does not.
        creator=lambda: psycopg.connect(
            database_url,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name="kubectl-imports",
            options=f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s",
        ),
    )
    try:
        with engine.connect() as connection:
            seen = _look(connection)
            before = time.time()
            moment = connection.execute(text(MOMENT)).scalar_one()
            return seen, (moment, before, time.time())
    except sqlalchemy.exc.DBAPIError as error:
        detail = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
        raise DatabaseUnavailableError(f"PostgreSQL is not available: {detail}") from error
    finally:
        engine.dispose()


def _look(connection: sqlalchemy.Connection) -> SeenDatabase:
    server_version, in_recovery = connection.execute(text(SERVER)).one()
    migrated = connection.execute(text(VERSION_TABLE)).scalar_one()
    version = connection.execute(text(VERSION)).scalar() if migrated else None
    valid = set(connection.execute(text(VALID), {"names": list(INDEXES)}).scalars())
    scripts = _scripts()
    return SeenDatabase(
        server_version=server_version,
        in_recovery=in_recovery,
        version=version,
        head=scripts.get_current_head() or "",
        known=version in {script.revision for script in scripts.walk_revisions()},
        differences=platform_differences(connection),
        missing_indexes=sorted(set(INDEXES) - valid),
        missing_triggers=missing_triggers(connection),
    )


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return ScriptDirectory.from_config(config)
