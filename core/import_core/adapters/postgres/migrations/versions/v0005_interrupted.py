"""Jobs that lost their worker keep their place in the queue."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INTERRUPTED = """
ALTER TABLE "ProductImportJob" ADD COLUMN IF NOT EXISTS interrupted boolean;
COMMENT ON COLUMN "ProductImportJob".interrupted IS
    'Its worker died or stopped: it has had its turn already and goes on before others of its tier.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(INTERRUPTED)
