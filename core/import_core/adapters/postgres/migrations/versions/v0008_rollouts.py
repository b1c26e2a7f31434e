"""Which version of the workers ran a job, and how each try ended: what rollouts are judged by."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

OUR_TABLES = """
ALTER TABLE imports.claim ADD COLUMN IF NOT EXISTS template_hash text;
COMMENT ON COLUMN imports.claim.template_hash IS
    'The version of the pool''s template that the worker runs; null: it runs outside of a pool.';
CREATE TABLE imports.run_end (
    template_hash text NOT NULL,
    job_id text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('completed', 'failed', 'retried', 'died')),
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX run_end_version ON imports.run_end (template_hash, ended_at);
CREATE INDEX run_end_time ON imports.run_end (ended_at);
COMMENT ON TABLE imports.run_end IS
    'How tries of jobs ended, by the version of the workers that ran them; handed-back ones left out; kept for a day.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(OUR_TABLES)
