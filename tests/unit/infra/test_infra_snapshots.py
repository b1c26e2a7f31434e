"""The resource graph of each example stack, as a reviewer reads it.

A change that is meant is written by `UPDATE_SNAPSHOTS=1 .venv/bin/python -m pytest tests/unit/infra -k snapshot` and
reviewed as a diff of tests/unit/infra/snapshots.
"""

import difflib
import os
from pathlib import Path

import pytest
from graph import graph
from mocks import run_program

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.mark.parametrize("stack", ["dev", "staging", "production"])
def test_the_resource_graph_is_the_reviewed_one(stack):
    text = graph(run_program(stack), f"imports-{stack}")
    path = SNAPSHOTS / f"{stack}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    reviewed = path.read_text(encoding="utf-8") if path.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(reviewed.splitlines(), text.splitlines(), "reviewed", "now", lineterm="", n=2)
    )
    assert not difference, f"write it with UPDATE_SNAPSHOTS=1, and review it:\n{difference}"


def test_a_snapshot_shows_a_changed_input():
    before = graph(run_program("dev"), "imports-dev")
    after = graph(run_program("dev", changes={"redis": {"node_type": "cache.t4g.medium"}}), "imports-dev")
    assert [
        line
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line[0] in "+-" and "nodeType" in line
    ]


def test_a_snapshot_shows_no_secret():
    program = run_program("production")
    secrets = [each.outputs["result"] for each in program.of("RandomPassword")]
    text = graph(program, "imports-production")
    assert secrets
    assert not [secret for secret in secrets if secret in text]
