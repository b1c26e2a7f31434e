"""Alembic's entry point: runs the migrations on the connection that `migrate` hands over."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema="imports", version_table="migration")
with context.begin_transaction():
    context.run_migrations()
