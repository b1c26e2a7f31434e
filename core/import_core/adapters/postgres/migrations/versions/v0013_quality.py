"""Quality control: what was decided on each product, and how many calls of a model each day has had."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# One row for each product that was ever checked; written once for each state of it.
DECISION = """
CREATE TABLE IF NOT EXISTS imports.quality_decision (
    product_id text PRIMARY KEY,
    company_id text NOT NULL,
    content_hash text NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approved', 'rejected', 'flagged')),
    reasons jsonb NOT NULL DEFAULT '[]',
    decided_by text NOT NULL CHECK (decided_by IN ('rules', 'model', 'person')),
    person text,
    note text,
    decided_at timestamptz NOT NULL DEFAULT now(),
    flagged_at timestamptz
);
COMMENT ON TABLE imports.quality_decision IS
    'What quality control decided on a product in the state that content_hash names.';
COMMENT ON COLUMN imports.quality_decision.flagged_at IS
    'Since when a person is asked to look at it; null: nobody is.';
CREATE INDEX IF NOT EXISTS quality_decision_flagged ON imports.quality_decision (flagged_at, product_id)
    WHERE decision = 'flagged';
CREATE INDEX IF NOT EXISTS quality_decision_flagged_company
    ON imports.quality_decision (company_id, flagged_at, product_id) WHERE decision = 'flagged';
"""
# What people decide is about a state of a product: it holds again when the product comes back to that state.
PEOPLE = """
CREATE TABLE IF NOT EXISTS imports.quality_person (
    product_id text NOT NULL,
    content_hash text NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approved', 'rejected')),
    person text NOT NULL,
    note text,
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (product_id, content_hash)
);
COMMENT ON TABLE imports.quality_person IS
    'The last decision of a person on each state of a product: no rule and no model overrules it.';
"""
BUDGET = """
CREATE TABLE IF NOT EXISTS imports.model_budget (
    purpose text NOT NULL,
    day date NOT NULL,
    calls integer NOT NULL DEFAULT 0,
    PRIMARY KEY (purpose, day)
);
COMMENT ON TABLE imports.model_budget IS
    'Calls of a paid model that were begun on a day (UTC), over all workers.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(DECISION)
    op.execute(PEOPLE)
    op.execute(BUDGET)
