"""What a product was at its source when its row was written, so that one that is the same is not mapped again."""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Without a default: no row is rewritten, and workers of the version before never look at it.
SOURCE_HASH = """
ALTER TABLE "Product" ADD COLUMN IF NOT EXISTS "sourceHash" text;
"""


def upgrade() -> None:
    """Apply."""
    op.execute(SOURCE_HASH)
