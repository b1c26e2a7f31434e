"""What became of step jobs by day: they go an hour after their end, and the page of figures looks back weeks."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# The key is what figures are read by: a queue, and its days. Few rows change often, so that updates stay within a page.
STEP_FIGURE = """
CREATE TABLE imports.step_figure (
    queue text NOT NULL,
    day date NOT NULL,
    namespace text NOT NULL,
    outcome text NOT NULL,
    reason text NOT NULL,
    duration_bucket smallint NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (queue, day, namespace, outcome, reason, duration_bucket)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE imports.step_figure IS
    'Step jobs that were deleted after their end, and products that steps have given up, counted by day.';
COMMENT ON COLUMN imports.step_figure.day IS 'In UTC.';
COMMENT ON COLUMN imports.step_figure.namespace IS 'Empty: of none.';
COMMENT ON COLUMN imports.step_figure.outcome IS 'Completed and Failed count jobs, GivenUp counts products.';
COMMENT ON COLUMN imports.step_figure.reason IS 'Why jobs failed or products were given up; else empty.';
COMMENT ON COLUMN imports.step_figure.duration_bucket IS
    'Of completed jobs: n + 1 where the duration is over 1.1^(n-1) ms and at most 1.1^n ms; 0: not measured.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(STEP_FIGURE)
