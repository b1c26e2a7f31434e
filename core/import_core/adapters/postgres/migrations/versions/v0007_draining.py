"""Which pods are asked to drain, and which worker processes have done so."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

DRAINING = """
CREATE TABLE IF NOT EXISTS imports.drain (
    pod_uid text PRIMARY KEY,
    request bigint GENERATED ALWAYS AS IDENTITY,
    namespace text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    going_at timestamptz
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE imports.drain IS
    'Pods whose worker is asked to take no more jobs. It binds the pod, so also a process that starts in it later.';
COMMENT ON COLUMN imports.drain.going_at IS
    'When the number of workers was about to be lowered for this pod: it is not taken back for a while.';
ALTER TABLE imports.worker ADD COLUMN IF NOT EXISTS drained_request bigint;
COMMENT ON COLUMN imports.worker.drained_request IS
    'The request that this process has honoured: it takes nothing and holds nothing, for as long as that stands.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(DRAINING)
