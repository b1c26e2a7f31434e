"""Incremental re-imports: how far a connection's catalogue is known, and what a run lists."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Written once or twice a run; one row for each connection that was ever imported.
MARK = """
CREATE TABLE IF NOT EXISTS imports.reimport_mark (
    company_id text NOT NULL,
    import_source text NOT NULL,
    connection text NOT NULL,
    fingerprint text NOT NULL,
    listed_at timestamptz NOT NULL,
    full_at timestamptz NOT NULL,
    incrementals integer NOT NULL DEFAULT 0,
    job_id text NOT NULL,
    PRIMARY KEY (company_id, import_source, connection)
);
COMMENT ON TABLE imports.reimport_mark IS
    'How far a connection''s catalogue is known: what changed at the source before listed_at is in our tables.';
COMMENT ON COLUMN imports.reimport_mark.fingerprint IS
    'Mapping, image settings and provider account that the products were written by.';
ALTER TABLE imports.checkpoint ADD COLUMN IF NOT EXISTS reimport jsonb;
COMMENT ON COLUMN imports.checkpoint.reimport IS
    'What the run lists, decided before its first call: its later tries go on in the same listing.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(MARK)
