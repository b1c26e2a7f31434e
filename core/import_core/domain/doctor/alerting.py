"""Whether alerts reach people: an Alertmanager's configuration, followed as it would for each severity."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from import_core.domain.doctor.findings import Finding, failed, passed, warned

NAME = "alert routing"
WANTED: Mapping[str, frozenset[str]] = {
    "critical": frozenset({"pagerduty", "slack"}),
    "high": frozenset({"slack"}),
    "medium": frozenset({"slack"}),
}
"""By severity: the kinds of receivers that have to hear of an alert."""
FIX = "dashboards/alertmanager.yaml has routes that do it; amtool config routes test severity={} shows what there is"

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"?((?:[^"\\]|\\.)*)"?\s*')


def judge_routes(configuration: Mapping[str, Any]) -> Finding:
    """Judge an alertmanager.yml as plain values."""
    root = configuration.get("route")
    if not isinstance(root, Mapping):
        return failed(NAME, "the configuration has no route", FIX.format("critical"))
    receivers = {each.get("name"): each for each in configuration.get("receivers") or []}
    heard: list[str] = []
    lacking: list[str] = []
    for severity, wanted in WANTED.items():
        labels = {"alertname": "ImportsDoctor", "severity": severity}
        kinds = {
            kind for name in receivers_for(root, labels) for kind in receiver_kinds(receivers.get(name) or {})
        }
        if missing := sorted(wanted - kinds):
            lacking.append(f"{severity} alerts do not reach {' and '.join(missing)}")
        else:
            heard.append(f"{severity} → {', '.join(sorted(kinds))}")
    if any(line.startswith("critical") for line in lacking):
        return failed(NAME, "; ".join(lacking), FIX.format("critical"))
    if lacking:
        return warned(NAME, "; ".join(lacking), FIX.format(lacking[0].split(" ", 1)[0]))
    return passed(NAME, "; ".join(heard))


def receivers_for(route: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """The receivers of an alert: of the deepest routes that match, going on after one that says `continue`."""
    return list(dict.fromkeys(_receivers(route, labels, str(route.get("receiver") or ""))))


def _receivers(route: Mapping[str, Any], labels: Mapping[str, str], inherited: str) -> Iterator[str]:
    receiver = str(route.get("receiver") or inherited)
    matched = False
    for child in route.get("routes") or []:
        if not matches(child, labels):
            continue
        matched = True
        yield from _receivers(child, labels, receiver)
        if not child.get("continue"):
            return
    if not matched:
        yield receiver


def matches(route: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a route's own conditions hold; a label that is not there counts as empty."""
    equal = all(labels.get(name, "") == str(value) for name, value in (route.get("match") or {}).items())
    alike = all(
        re.fullmatch(str(pattern), labels.get(name, ""))
        for name, pattern in (route.get("match_re") or {}).items()
    )
    return equal and alike and all(_holds(text, labels) for text in _matchers(route.get("matchers")))


def _matchers(value: object) -> Sequence[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _holds(text: str, labels: Mapping[str, str]) -> bool:
    for part in re.split(r",(?=\s*[a-zA-Z_][a-zA-Z0-9_]*\s*(?:=~|!~|!=|=))", text.strip().strip("{}")):
        found = _MATCHER.fullmatch(part)
        if found is None:
            return False
        name, operator, pattern = found[1], found[2], found[3].replace('\\"', '"').replace("\\\\", "\\")
        value = labels.get(name, "")
        same = bool(re.fullmatch(pattern, value)) if "~" in operator else value == pattern
        if same == operator.startswith("!"):
            return False
    return True


def receiver_kinds(receiver: Mapping[str, Any]) -> set[str]:
    """What a receiver tells: "pagerduty", "slack", "webhook", …"""
    return {
        key.removesuffix("_configs") for key, value in receiver.items() if key.endswith("_configs") and value
    }
