"""docs/reference/scaling.md says what the simulator says: some cheap rows are simulated again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from import_cli.simulating import rows
from import_core.domain.simulation.comparison import COMPETITORS, POLICIES, compare
from import_core.domain.simulation.generating import SCENARIOS
from import_local.scaling_page import PAGE, RECORDINGS, SEED, markdown_row, recorded, verdict

ROOT = Path(__file__).parents[3]
PAGE_TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
TEMPLATE = (ROOT / "local/import_local/generated_pages/scaling.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    return PAGE_TEXT.split(f"\n### {name}: ")[1].split("\n### ")[0]


@pytest.mark.parametrize(
    ("name", "policies"),
    [
        ("heavy", ("hpa", "ecs-target-tracking", "fixed")),
        ("limited", ("keda",)),
        ("quiet", ("drain-time",)),
    ],
)
def test_rows_are_as_simulated(name: str, policies: tuple[str, ...]) -> None:
    found = list(compare(SCENARIOS[name].make(SEED, SCENARIOS[name].jobs), policies))
    lines = section(name).splitlines()
    # Another machine's mathematics may differ in the last place and so, rarely, in a rounded figure.
    assert [row for row in map(markdown_row, rows(found)) if row not in lines] == []


def test_every_trace_and_policy_is_on_the_page() -> None:
    for name, scenario in SCENARIOS.items():
        text = section(name)
        assert text.startswith(f"{scenario.jobs:,} jobs")
        assert all(f"| `{policy}` |" in text for policy in POLICIES if not policy.endswith("+ahead"))
    assert {policy for policy in POLICIES if policy not in COMPETITORS} == {
        *("queue-depth", "queue-depth+drain", "queue-depth+drain+ahead", "drain-time", "drain-time+ahead")
    }


def test_the_text_is_the_templates() -> None:
    before, after = TEMPLATE.replace("@recorded@", recorded(ROOT / RECORDINGS)).split("@tables@")
    assert PAGE_TEXT.startswith(before)
    assert PAGE_TEXT.endswith(after)


def test_the_verdict_names_where_another_policy_is_better() -> None:
    hpa, fixed = list(compare(SCENARIOS["limited"].make(SEED, 500), ("hpa", "fixed")))
    worker = replace(hpa, policy="ours", worker_hours=110.0, waiting_p95=5.0)
    cheaper = replace(hpa, worker_hours=100.0, waiting_p95=9.0)
    quicker = replace(fixed, worker_hours=500.0, waiting_p95=4.0)
    worst = replace(hpa, policy="keda", worker_hours=110.0, waiting_p95=5.04)
    assert verdict([worker, cheaper, quicker, worst]) == (
        "- `ours`: no worse than keda. Worse than hpa (cost +10.0 %), fixed (p95 +1.0 s)."
    )
