"""Rules are whole: severity, summary, impact, runbook; each metric that they name exists; their page shows all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from import_local.alert_rules import Alert, alerts, alerts_page, rule_groups, rules_manifest, runbook_name
from import_local.deployment import PROJECT

ALERTS = list(alerts())
RECORDS = {
    rule["record"]
    for groups in rule_groups().values()
    for g in groups
    for rule in g["rules"]
    if "record" in rule
}
# Whose they are: Prometheus itself, the API server, redis_exporter.
FOREIGN = {
    "up",
    "apiserver_admission_webhook_fail_open_count",
    "redis_up",
    "redis_cpu_user_main_thread_seconds_total",
    "redis_cpu_sys_main_thread_seconds_total",
    "redis_memory_used_bytes",
    "redis_memory_max_bytes",
    "redis_evicted_keys_total",
    "redis_connected_slave_lag_seconds",
}
WORDS = {"and", "or", "unless", "on", "by", "time", "vector"}


def ours() -> set[str]:
    """Every series of ours, by the generated reference."""
    text = (PROJECT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    found: set[str] = set()
    for name, kind in re.findall(r"^\| `(imports_\w+)` \| (\w+) ", text, re.MULTILINE):
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


def named(expression: str) -> set[str]:
    """The series that an expression names: identifiers that are no function, label, or text."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|group_left|without|ignoring)\s*(\([^)]*\))", "", bare)
    bare = re.sub(r"\b[a-z_]+(?=\s*\()", "", bare)
    return set(re.findall(r"\b[a-z_][a-z0-9_:]*\b", bare)) - WORDS


def labels_of_ours() -> dict[str, set[str]]:
    """The labels of each metric of ours, by the generated reference; `le` where it is a histogram."""
    text = (PROJECT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for name, kind, labels in re.findall(r"^\| `(imports_\w+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE):
        known = set(re.findall(r"`(\w+)`", labels))
        names = [f"{name}_{part}" for part in ("bucket", "sum", "count")] if kind == "histogram" else [name]
        found |= {each: known | ({"le"} if kind == "histogram" else set()) for each in names}
    return found


RULES = [rule for groups in rule_groups().values() for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_that_a_rule_names_exists(rule: dict[str, str]) -> None:
    names = named(rule["expr"])
    assert names or "vector(1)" in rule["expr"]
    unknown = names - ours() - FOREIGN - RECORDS
    assert not unknown
    labels = labels_of_ours()
    for metric, selector in re.findall(r"(imports_\w+)\{([^}]*)\}", rule["expr"]):
        asked = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', selector))
        assert asked <= labels[metric], f"{metric} has no label {asked - labels[metric]}"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_an_alert_says_what_it_means_and_what_to_do(alert: Alert) -> None:
    assert re.fullmatch(r"Import[A-Z]\w+", alert.name)
    assert alert.severity in {"critical", "high", "medium", "none"}
    annotations = alert.rule["annotations"]
    assert annotations.keys() == {"summary", "impact", "runbook_url"}
    assert annotations["impact"].endswith(".")
    assert not annotations["summary"].endswith(".")
    # PagerDuty's details are read as YAML by Alertmanager: `a: b` would arrive as an object.
    assert ": " not in annotations["impact"] + annotations["summary"]
    assert annotations["runbook_url"].endswith(f"/docs/runbooks/{runbook_name(alert.name)}")


def test_a_runbook_is_named_as_its_alert() -> None:
    assert runbook_name("ImportQueueOverload") == "import-queue-overload.md"
    assert runbook_name("ImportRedisCpuHigh") == "import-redis-cpu-high.md"


def test_the_page_has_each_alert_and_no_template() -> None:
    page = alerts_page()
    assert "{{" not in page
    assert "@" not in page
    for alert in ALERTS:
        assert f"| `{alert.name}` | {alert.severity} |" in page


def test_the_object_has_exactly_the_rules_of_the_files() -> None:
    objects = list(yaml.safe_load_all(rules_manifest()))
    assert {each["metadata"]["name"]: each["spec"]["groups"] for each in objects} == rule_groups()


def test_routing_knows_every_alert_that_it_names() -> None:
    """A renamed alert would silently be held back no more."""
    routing = yaml.safe_load((PROJECT / "dashboards" / "alertmanager.yaml").read_text(encoding="utf-8"))
    matchers = [
        matcher
        for rule in routing["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
    ]
    held = set(re.findall(r"Import\w+", " ".join(matchers)))
    assert held <= {alert.name for alert in ALERTS}
    assert "ImportWatchdog" not in held


def test_the_runbooks_of_all_alerts_are_there(project_runbooks: Path) -> None:
    missing = {alert.runbook for alert in ALERTS} - {path.name for path in project_runbooks.iterdir()}
    assert not missing


@pytest.fixture
def project_runbooks() -> Path:
    folder = PROJECT / "docs" / "runbooks"
    if not folder.exists():
        pytest.skip("the runbooks come with another change")
    return folder
