"""By which model, and into which index, embeddings were computed lately: what was embedded otherwise is due again."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None

EMBEDDING_SETUP = """
CREATE TABLE imports.embedding_setup (
    model text NOT NULL,
    vector_index text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, vector_index)
);
COMMENT ON TABLE imports.embedding_setup IS
    'Models (the beginning of their files'' checksum) and vector indexes that workers have embedded with.';
COMMENT ON COLUMN imports.embedding_setup.seen_at IS
    'When a worker with it last started; the latest one is what products are to be embedded with.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(EMBEDDING_SETUP)
