"""Steps after the import: what each product still has to go through, and which jobs stand for batches of them."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# One row for each product and step, for as long as the product is there: done_hash lets the next import skip it.
# A due row is always in a batch, whose job is not finished. No foreign keys: the platform owns "Product", and a
# batch's job goes long before its rows.
PRODUCT_STEP = """
CREATE TABLE IF NOT EXISTS imports.product_step (
    product_id text NOT NULL,
    step text NOT NULL,
    company_id text NOT NULL,
    job_id text,
    batch_id text,
    content_hash text NOT NULL,
    done_hash text,
    state text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    retryable boolean NOT NULL DEFAULT true,
    halts boolean NOT NULL DEFAULT false,
    reason text,
    message text,
    result jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at timestamptz,
    PRIMARY KEY (product_id, step)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS product_step_batch ON imports.product_step (batch_id) INCLUDE (step)
    WHERE batch_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS product_step_job ON imports.product_step (job_id, step, state);
CREATE INDEX IF NOT EXISTS product_step_dead ON imports.product_step (updated_at, product_id, step)
    WHERE state = 'Dead';
CREATE INDEX IF NOT EXISTS product_step_dead_company
    ON imports.product_step (company_id, updated_at, product_id, step) WHERE state = 'Dead';
COMMENT ON TABLE imports.product_step IS 'Steps that products take after their import: one row for each of both.';
COMMENT ON COLUMN imports.product_step.job_id IS 'The ImportJob''s row that asked last.';
COMMENT ON COLUMN imports.product_step.batch_id IS 'The step job that the row is in, until that job has ended.';
COMMENT ON COLUMN imports.product_step.content_hash IS 'State of the product that the step is asked for.';
COMMENT ON COLUMN imports.product_step.done_hash IS 'State of the product that the step was last done for.';
COMMENT ON COLUMN imports.product_step.attempts IS 'Tries that have failed.';
COMMENT ON COLUMN imports.product_step.halts IS 'The step is done, and the product takes no further one.';
"""
PARENT = """
ALTER TABLE "ProductImportJob" ADD COLUMN IF NOT EXISTS "parentId" text;
COMMENT ON COLUMN "ProductImportJob"."parentId" IS
    'Of a step job: the row of the ImportJob whose products it takes a step with.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(PRODUCT_STEP)
    op.execute(PARENT)
