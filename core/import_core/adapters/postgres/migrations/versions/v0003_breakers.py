"""Circuit breakers of provider connections."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# A row is written on failures and on what follows from them only, so the table is small and quiet. There is no
# row for a connection that never failed.
BREAKER = """
CREATE TABLE imports.breaker (
    namespace text NOT NULL,
    name text NOT NULL,
    state text NOT NULL DEFAULT 'Closed' CHECK (state IN ('Closed', 'Open', 'HalfOpen')),
    failures integer NOT NULL DEFAULT 0,
    opened_at timestamptz,
    probe_at timestamptz,
    probe_holder text,
    probe_until timestamptz,
    forced_by text,
    forced_reason text,
    handed_over_at timestamptz,
    PRIMARY KEY (namespace, name)
);
COMMENT ON TABLE imports.breaker IS
    'Circuit breaker of an ImportProvider''s connection: whether calls go through, and which one probes.';
COMMENT ON COLUMN imports.breaker.handed_over_at IS
    'When a job was last handed over to probe it; no other follows for a time, while the first is on its way.';
CREATE INDEX breaker_not_closed ON imports.breaker (namespace, name) WHERE state <> 'Closed';
CREATE INDEX breaker_of_job ON imports.breaker (name) WHERE state <> 'Closed';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(BREAKER)
