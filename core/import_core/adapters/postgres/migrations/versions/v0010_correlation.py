"""Jobs remember the id that ties their logs to the request that submitted them."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

CORRELATION = """
ALTER TABLE "ProductImportJob" ADD COLUMN IF NOT EXISTS "correlationId" text;
COMMENT ON COLUMN "ProductImportJob"."correlationId" IS
    'The submitter''s own id, found in every line of the job''s logs; null: the object''s uid, or the row''s id.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(CORRELATION)
