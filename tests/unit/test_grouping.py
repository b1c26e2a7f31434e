"""Tests that share servers are handed to one process, and xdist is told so."""

from __future__ import annotations

import pytest
from grouping import FolderScheduling, group_of


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/e2e/test_scale_in.py::test_one[a::b]", "e2e"),
        ("tests/integration/search/test_routes.py::test_one", "integration/search"),
        ("tests/integration/worker/test_fences.py::test_one", "integration/worker/test_fences.py"),
        ("tests/unit/domain/test_prices.py::TestSome::test_one", "unit/domain/test_prices.py"),
        ("tests/faults/test_scale_in.py::test_one", "faults"),
    ],
)
def test_what_shares_servers_is_one_group(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


def test_xdist_asks_for_it(pytestconfig: pytest.Config) -> None:
    asked = pytestconfig.hook.pytest_xdist_make_scheduler.get_hookimpls()
    assert FolderScheduling in [hook.function.__annotations__["return"] for hook in asked]
