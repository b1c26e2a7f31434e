"""Every part that `make bench-check` times still runs as it is called there."""

from __future__ import annotations

import pytest
from bench.pure import PARTS


@pytest.mark.parametrize("name", list(PARTS))
def test_a_part_runs_again_and_again(name: str) -> None:
    work = PARTS[name]()
    work()
    work()
