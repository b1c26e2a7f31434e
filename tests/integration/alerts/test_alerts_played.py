"""Each alert fires when it is to and says what it is to, and is quiet when it is not: played by promtool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from alert_cases import CASES, Case

from import_local.alert_rules import alerts, rule_groups
from import_local.binaries import PROMETHEUS, ensure_monitoring

Json = dict[str, Any]
RULES = {(alert.name, alert.severity): alert.rule for alert in alerts()}
ALERTS = {name for name, _ in RULES}
ALWAYS = "ImportWatchdog"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def promtool() -> Path:
    return await ensure_monitoring(PROMETHEUS) / "promtool"


@pytest.fixture(scope="module")
def rule_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The rules as they are delivered, as files for Prometheus."""
    folder = tmp_path_factory.mktemp("rules")
    for name, groups in rule_groups().items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"groups": groups}))
    return sorted(str(path) for path in folder.iterdir())


def test_promtool_finds_nothing_wrong(promtool: Path, rule_files: list[str]) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", *rule_files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_shown_to_fire_and_not_to() -> None:
    assert {case.alert for case in CASES.all if case.says} == ALERTS
    assert {case.alert for case in CASES.all if not case.says} == ALERTS - {ALWAYS}
    severities = {(case.alert, labels["severity"]) for case in CASES.all for labels, _ in case.says}
    assert severities == RULES.keys()


def test_each_alert_fires_when_it_is_to(promtool: Path, rule_files: list[str], tmp_path: Path) -> None:
    """All in one run, as most of promtool's time is its start; its words name the case."""
    tests = [_played(case) for case in CASES.all]
    path = tmp_path / "test.yaml"
    path.write_text(
        yaml.safe_dump(
            {"rule_files": rule_files, "evaluation_interval": "1m", "tests": tests}, sort_keys=False
        )
    )
    done = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _played(case: Case) -> Json:
    return {
        "name": f"{case.alert}: {case.why}",
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": case.at,
                "alertname": case.alert,
                "exp_alerts": [
                    {"exp_labels": labels, "exp_annotations": _annotations(case.alert, labels, summary)}
                    for labels, summary in case.says
                ],
            }
        ],
    }


def _annotations(alert: str, labels: dict[str, str], summary: str) -> dict[str, str]:
    written: dict[str, str] = RULES[alert, labels["severity"]]["annotations"]
    return {**written, "summary": summary}


def test_every_record_is_used_or_named_by_its_labels() -> None:
    records = [rule["record"] for group in rule_groups()["import-recordings"] for rule in group["rules"]]
    assert len(set(records)) == len(records)
    for record in records:
        assert re.fullmatch(r"[a-z_]+:imports_[a-z_]+:[a-z0-9_]+", record), record
