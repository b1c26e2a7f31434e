"""Products' embeddings, where PostgreSQL has the extension vector; elsewhere nothing changes."""

from __future__ import annotations

from alembic import op

from import_core.adapters.postgres.vector_table import create_vector_table

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_vector_table(op.get_bind())
