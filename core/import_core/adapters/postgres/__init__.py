"""PostgreSQL: the authoritative store of jobs, products and claims."""

from import_core.adapters.postgres.pool import Database

__all__ = ["Database", "migrate"]


async def migrate(database_url: str) -> None:
    """Bring the database to the newest version; see `migrating.py`."""
    # Alembic and SQLAlchemy take half a second to import, and only an init step needs them.
    from import_core.adapters.postgres.migrating import migrate as run

    await run(database_url)
