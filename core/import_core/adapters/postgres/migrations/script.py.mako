"""${message}.

Runs ${"before" if "_pre_" in (slug or "") else "before or after"} the new code: old and new code both work on the result.
"""

from __future__ import annotations

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
