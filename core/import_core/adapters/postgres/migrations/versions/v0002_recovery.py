"""Retries, retried items, archived products, paused queues and the guard; vacuuming of the hot tables."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OUR_COLUMNS = """
ALTER TABLE "ProductImportJob"
    ADD COLUMN IF NOT EXISTS "retryToken" text,
    ADD COLUMN IF NOT EXISTS "itemsRetryToken" text,
    ADD COLUMN IF NOT EXISTS "itemsOnly" boolean,
    ADD COLUMN IF NOT EXISTS "confirmedRemovals" bigint,
    ADD COLUMN IF NOT EXISTS "queuedAt" timestamptz;
ALTER TABLE "Product"
    ADD COLUMN IF NOT EXISTS connection text;
ALTER TABLE imports.item_error
    ADD COLUMN IF NOT EXISTS document jsonb;
ALTER TABLE imports.checkpoint
    ADD COLUMN IF NOT EXISTS started_at timestamptz;
COMMENT ON COLUMN imports.checkpoint.started_at IS
    'When the run began that read these pages; what was written since is not known to be gone from the source.';
"""

OUR_TABLES = """
CREATE TABLE imports.seen_product (
    job_id text NOT NULL,
    external_id text NOT NULL,
    PRIMARY KEY (job_id, external_id)
);
COMMENT ON TABLE imports.seen_product IS
    'Products that a running job with removed.action Archive has seen at the source; gone when it has finished.';
CREATE TABLE imports.queue_state (
    queue text PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false,
    reason text,
    changed_by text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE imports.queue_state IS 'A paused queue hands out no jobs; those under way go on.';
CREATE TABLE imports.guard (
    namespace text PRIMARY KEY,
    cluster_uid text NOT NULL,
    withheld integer NOT NULL DEFAULT 0,
    reason text,
    withheld_at timestamptz,
    confirmed_at timestamptz,
    confirmed_by text
);
COMMENT ON TABLE imports.guard IS
    'The cluster that the objects of a namespace live in, and cancellations that wait for a person''s word.';
"""

# The job table is written about six times in a job's life and its hot rows are few among many: vacuum by a
# small share, or dead versions of the rows at the head of the queue pile up before every index scan.
VACUUMING = """
ALTER TABLE "ProductImportJob" SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE imports.worker SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
"""


def upgrade() -> None:
    """Apply."""
    for statements in (OUR_COLUMNS, OUR_TABLES, VACUUMING):
        op.execute(statements)
