"""Alertmanager takes the configuration, and each alert goes to those whom it concerns: asked of amtool."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from import_local.alert_rules import alerts
from import_local.binaries import ALERTMANAGER, ensure_monitoring
from import_local.deployment import PROJECT

CONFIGURATION = PROJECT / "dashboards" / "alertmanager.yaml"
RECEIVERS = {
    "critical": "pagerduty-and-slack",
    "high": "slack",
    "medium": "slack",
    "none": "dead-mans-switch",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def amtool() -> Path:
    return await ensure_monitoring(ALERTMANAGER) / "amtool"


def _said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_the_configuration_is_right(amtool: Path) -> None:
    assert "SUCCESS" in _said(amtool, "check-config", CONFIGURATION)


@pytest.mark.parametrize("severity", RECEIVERS)
def test_alerts_go_to_those_whom_they_concern(amtool: Path, severity: str) -> None:
    name = next(alert.name for alert in alerts() if alert.severity == severity)
    labels = (f"alertname={name}", f"severity={severity}", "namespace=imports")
    assert (
        _said(amtool, "config", "routes", "test", f"--config.file={CONFIGURATION}", *labels)
        == RECEIVERS[severity]
    )


def test_every_severity_has_its_receiver() -> None:
    assert {alert.severity for alert in alerts()} == RECEIVERS.keys()


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=KubeNodeNotReady", "severity=critical"), "pagerduty-and-slack"),
        (("alertname=KubePodNotReady", "severity=warning"), "slack"),
        (("alertname=Watchdog", "severity=none"), "nobody"),
        (("alertname=InfoInhibitor", "severity=none"), "nobody"),
    ],
)
def test_alerts_of_the_cluster_go_the_same_ways(amtool: Path, labels: tuple[str, ...], receiver: str) -> None:
    assert _said(amtool, "config", "routes", "test", f"--config.file={CONFIGURATION}", *labels) == receiver


def test_no_key_and_no_address_is_in_it() -> None:
    for receiver in yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))["receivers"]:
        for ways in (value for key, value in receiver.items() if key != "name"):
            for way in ways:
                assert not way.keys() & {"routing_key", "service_key", "api_url", "url"}, receiver["name"]
                assert any(field.endswith("_file") for field in way), receiver["name"]
