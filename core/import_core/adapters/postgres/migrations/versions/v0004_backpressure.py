"""Queue health, intake, the emergency pause, pauses by company or connection, and a log of job starts."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

QUEUE_STATE = """
ALTER TABLE imports.queue_state
    ADD COLUMN IF NOT EXISTS health_level text,
    ADD COLUMN IF NOT EXISTS health_since timestamptz,
    ADD COLUMN IF NOT EXISTS depth bigint,
    ADD COLUMN IF NOT EXISTS measured_at timestamptz,
    ADD COLUMN IF NOT EXISTS starts_per_minute double precision,
    ADD COLUMN IF NOT EXISTS thresholds jsonb,
    ADD COLUMN IF NOT EXISTS intake_stopped boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS intake_by text,
    ADD COLUMN IF NOT EXISTS intake_reason text,
    ADD COLUMN IF NOT EXISTS intake_since timestamptz,
    ADD COLUMN IF NOT EXISTS intake_improved_since timestamptz,
    ADD COLUMN IF NOT EXISTS emergency_phase text,
    ADD COLUMN IF NOT EXISTS emergency_reason text,
    ADD COLUMN IF NOT EXISTS emergency_since timestamptz,
    ADD COLUMN IF NOT EXISTS emergency_counted_from timestamptz;
COMMENT ON COLUMN imports.queue_state.intake_by IS
    'Who stopped or opened intake by hand; null: the operator decides by the depth.';
"""

OUR_TABLES = """
CREATE TABLE imports.pause (
    scope text NOT NULL CHECK (scope IN ('company', 'provider')),
    namespace text NOT NULL DEFAULT '',
    name text NOT NULL,
    reason text,
    paused_by text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, namespace, name)
);
COMMENT ON TABLE imports.pause IS
    'Companies, and connections (by namespace), whose jobs are not handed out; those under way go on.';
CREATE TABLE imports.job_start (
    queue text NOT NULL,
    company_id text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX job_start_time ON imports.job_start (queue, started_at);
COMMENT ON TABLE imports.job_start IS
    'When workers claimed jobs, for the queue limiter, fair shares and the measured pace; kept for an hour.';
"""


def upgrade() -> None:
    """Apply."""
    for statements in (QUEUE_STATE, OUR_TABLES):
        op.execute(statements)
