"""Decisions on the numbers of workers, with what they were made of."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

DECISIONS = """
CREATE TABLE imports.scaling_decision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    pool text NOT NULL,
    decided_at timestamptz NOT NULL,
    version integer NOT NULL,
    before integer NOT NULL,
    replicas integer NOT NULL,
    desired integer NOT NULL,
    need integer,
    reason text NOT NULL,
    inputs jsonb NOT NULL
);
COMMENT ON TABLE imports.scaling_decision IS
    'Changes of a pool''s number of workers or of the reason for it, with all that was decided from; kept for a week.';
CREATE INDEX scaling_decision_pool ON imports.scaling_decision (namespace, pool, id);
CREATE INDEX scaling_decision_time ON imports.scaling_decision (decided_at);
"""


def upgrade() -> None:
    """Apply."""
    op.execute(DECISIONS)
