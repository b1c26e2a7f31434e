"""Where a benchmark keeps its installation: a folder of its own that goes with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def state_folder() -> Iterator[Path]:
    """A state folder for a whole installation, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="import-operator-bench-") as folder:
        # PostgreSQL runs as another user where the benchmark runs as root, and must get through.
        Path(folder).chmod(0o711)
        yield Path(folder) / "state"
