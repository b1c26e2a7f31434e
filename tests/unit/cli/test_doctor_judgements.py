"""What doctor makes of what it sees, without any server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from import_core.domain.certificates import LIFE
from import_core.domain.doctor import Finding, Verdict, worst
from import_core.domain.doctor.alerting import judge_routes, matches, receivers_for
from import_core.domain.doctor.cluster import (
    Right,
    SeenCertificate,
    SeenWebhook,
    judge_definition,
    judge_lease,
    judge_loops,
    judge_own_rights,
    judge_rights,
    judge_webhook,
)
from import_core.domain.doctor.stores import (
    SeenDatabase,
    SeenRedis,
    judge_clocks,
    judge_database,
    judge_redis,
)
from import_core.domain.resources.crd import DEFINITIONS, custom_resource_definition

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ESTABLISHED = {"conditions": [{"type": "Established", "status": "True"}]}


def of(findings: list[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_a_definition_of_this_version_is_well_and_an_older_one_is_not(definition: Any) -> None:
    body = {**custom_resource_definition(definition), "status": ESTABLISHED}
    assert judge_definition(definition, body).verdict is Verdict.OK
    schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    gone = next(iter(schema))
    schema["ofTomorrow"] = schema.pop(gone)
    older = judge_definition(definition, body)
    assert older.verdict is Verdict.FAILED
    assert f"without spec.{gone}" in older.message
    schema[gone] = schema["ofTomorrow"]
    newer = judge_definition(definition, body)
    assert (newer.verdict, newer.message) == (
        Verdict.WARNING,
        "it is of a newer version than this program, with spec.ofTomorrow"
        + "".join(f", spec.ofTomorrow.{name}" for name in sorted(schema[gone].get("properties", ()))),
    )


def test_a_definition_that_is_not_served_fails() -> None:
    definition = DEFINITIONS[0]
    body = {**custom_resource_definition(definition), "status": ESTABLISHED}
    assert "is not installed" in judge_definition(definition, None).message
    assert "never accepted" in judge_definition(definition, {**body, "status": {}}).message
    body["spec"]["versions"][0]["name"] = "v0"
    assert judge_definition(definition, body).message == "v1alpha1 is not served, only v0"


def test_missing_rights_are_named() -> None:
    rights = [
        Right("import-operator", "patch", "apps", "deployments/scale"),
        Right("import-operator", "get", "", "pods"),
    ]
    assert judge_rights("import-operator", dict.fromkeys(rights, True)).verdict is Verdict.OK
    missing = judge_rights("import-operator", {rights[0]: False, rights[1]: True})
    assert missing.message == "may not patch deployments/scale.apps"
    own = judge_own_rights("import-operator", {rights[0]: True, rights[1]: False})
    assert (own.verdict, own.message) == (
        Verdict.SKIPPED,
        "you may not ask what others may do; you may not get pods",
    )


def certificate(name: str = "a", *, age: timedelta = timedelta()) -> SeenCertificate:
    return SeenCertificate(name, NOW - age, NOW - age + LIFE)


@pytest.mark.parametrize(
    ("seen", "verdict", "words"),
    [
        (SeenWebhook(False), Verdict.FAILED, "is missing"),
        (SeenWebhook(True), Verdict.FAILED, "trusts no authority"),
        (SeenWebhook(True, [certificate()], secret_read=True), Verdict.FAILED, "holds no certificate"),
        (
            SeenWebhook(True, [certificate()], True, certificate("s"), certificate("b")),
            Verdict.FAILED,
            "does not trust the authority",
        ),
        (SeenWebhook(True, [certificate(age=timedelta(days=91))]), Verdict.FAILED, "expired at"),
        (SeenWebhook(True, [certificate(age=timedelta(days=-1))]), Verdict.FAILED, "not good before"),
        (
            SeenWebhook(True, [certificate(age=timedelta(days=65))]),
            Verdict.WARNING,
            "should have been exchanged",
        ),
        (SeenWebhook(True, [certificate(age=timedelta(days=61))]), Verdict.OK, "the Secret may not be read"),
        (
            SeenWebhook(True, [certificate()], True, certificate("s"), certificate()),
            Verdict.OK,
            "the certificate is good until 2026-04-01 (90 days)",
        ),
    ],
)
def test_the_webhook_certificate(seen: SeenWebhook, verdict: Verdict, words: str) -> None:
    found = judge_webhook(seen, NOW, namespace="imports")
    assert found.verdict is verdict
    assert words in found.message
    assert (found.fix is None) == (verdict is Verdict.OK)


def test_the_operators_lease_and_loops() -> None:
    for holder, renewed, words in (
        (None, False, "no operator has ever led"),
        ("", False, "nobody holds"),
        ("pod-1", False, "has not renewed it for 99 s"),
    ):
        found = judge_lease(holder, age_seconds=99, renewed=renewed, namespace="imports")
        assert found.verdict is Verdict.FAILED
        assert words in found.message
    assert judge_lease("pod-1", age_seconds=99, renewed=True, namespace="imports").verdict is Verdict.OK
    assert judge_loops({"a": 1.0}, namespace="imports").verdict is Verdict.OK
    assert judge_loops({}, namespace="imports").verdict is Verdict.WARNING
    stale = judge_loops({"a": 1.0, "b": 31.0, "c": None}, namespace="imports")
    assert (stale.verdict, stale.message) == (
        Verdict.FAILED,
        "b was last 31 s ago measured; c was never measured",
    )


DATABASE = SeenDatabase(180001, False, "0005", "0005", True)


@pytest.mark.parametrize(
    ("change", "check", "verdict"),
    [
        ({"in_recovery": True}, "postgresql server", Verdict.FAILED),
        ({"server_version": 160004}, "postgresql server", Verdict.FAILED),
        ({"version": None, "known": False}, "postgresql migrations", Verdict.FAILED),
        ({"version": "0004"}, "postgresql migrations", Verdict.FAILED),
        ({"version": "0099", "known": False}, "postgresql migrations", Verdict.WARNING),
        ({"differences": ['"Product"."sku" is missing']}, "platform's tables", Verdict.FAILED),
        ({"missing_indexes": ["import_job_due"]}, "platform's indexes", Verdict.FAILED),
        ({"missing_triggers": ["imports_note_job_end"]}, "platform's triggers", Verdict.FAILED),
    ],
)
def test_each_fault_of_a_database_is_found_alone(
    change: dict[str, Any], check: str, verdict: Verdict
) -> None:
    assert worst(judge_database(DATABASE)) is Verdict.OK
    found = judge_database(replace(DATABASE, **change))
    assert [each.check for each in found if each.verdict is not Verdict.OK] == [check]
    assert of(found, check).verdict is verdict
    assert of(found, check).fix


REDIS = SeenRedis("master", "noeviction", 50, 100)


@pytest.mark.parametrize(
    ("change", "check", "verdict"),
    [
        ({"role": "slave"}, "redis", Verdict.FAILED),
        ({"policy": "allkeys-lru"}, "redis eviction", Verdict.FAILED),
        ({"policy": None}, "redis eviction", Verdict.WARNING),
        ({"used": 90}, "redis memory", Verdict.WARNING),
        ({"used": 900, "maximum": 0}, "redis memory", Verdict.OK),
    ],
)
def test_each_fault_of_redis_is_found_alone(change: dict[str, Any], check: str, verdict: Verdict) -> None:
    assert worst(judge_redis(REDIS)) is Verdict.OK
    found = judge_redis(replace(REDIS, **change))
    assert of(found, check).verdict is verdict
    assert worst(found) is verdict


@pytest.mark.parametrize(
    ("offsets", "verdict"),
    [
        ({}, Verdict.FAILED),
        ({"API server": 1.4, "PostgreSQL": -0.2}, Verdict.OK),
        ({"API server": 1.4, "PostgreSQL": -1.2}, Verdict.WARNING),
        ({"API server": 3.4}, Verdict.WARNING),
        ({"PostgreSQL": -31.0}, Verdict.FAILED),
        ({"API server": 16.0, "PostgreSQL": -16.0}, Verdict.FAILED),
    ],
)
def test_clocks_are_compared_with_each_other(offsets: dict[str, float], verdict: Verdict) -> None:
    assert judge_clocks(offsets, accuracy={"API server": 0.5}).verdict is verdict


RECEIVERS = [
    {"name": "nobody"},
    {"name": "on-call", "pagerduty_configs": [{"routing_key_file": "/k"}]},
    {"name": "channel", "slack_configs": [{"channel": "#imports"}]},
]
ROUTES = {
    "receiver": "channel",
    "routes": [
        {"matchers": ['alertname = "Watchdog"'], "receiver": "nobody"},
        {"matchers": ['severity="critical"'], "receiver": "on-call", "continue": True},
        {"match_re": {"severity": "critical|high"}, "receiver": "channel"},
    ],
}


def test_alerts_that_reach_whom_they_should() -> None:
    found = judge_routes({"route": ROUTES, "receivers": RECEIVERS})
    assert found.message == "critical → pagerduty, slack; high → slack; medium → slack"


def test_alerts_that_do_not_are_named() -> None:
    silent = {**ROUTES, "routes": [*ROUTES["routes"][:1], {**ROUTES["routes"][1], "continue": False}]}
    found = judge_routes({"route": silent, "receivers": RECEIVERS})
    assert (found.verdict, found.message) == (Verdict.FAILED, "critical alerts do not reach slack")
    nobody = judge_routes({"route": {"receiver": "nobody"}, "receivers": RECEIVERS})
    assert (
        "critical alerts do not reach pagerduty and slack; high alerts do not reach slack" in nobody.message
    )
    lost = {**ROUTES, "receiver": "nobody"}
    found = judge_routes({"route": lost, "receivers": RECEIVERS})
    assert (found.verdict, found.message) == (Verdict.WARNING, "medium alerts do not reach slack")
    assert judge_routes({}).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("matcher", "holds"),
    [
        ('severity="critical"', True),
        ("severity=critical", True),
        ('severity =~ "crit.*|high"', True),
        ('severity!="critical"', False),
        ('severity!~"high|medium"', True),
        ('{severity="critical", team="imports"}', False),
        ('{severity="critical", team=""}', True),
        ('severity=~"crit"', False),
        ("nonsense", False),
    ],
)
def test_matchers(matcher: str, holds: bool) -> None:
    assert matches({"matchers": [matcher]}, {"severity": "critical"}) is holds


def test_a_child_without_a_receiver_has_its_parents() -> None:
    route = {
        "receiver": "top",
        "routes": [{"match": {"a": "1"}, "routes": [{"match": {"b": "2"}, "receiver": "deep"}]}],
    }
    assert receivers_for(route, {"a": "1"}) == ["top"]
    assert receivers_for(route, {"a": "1", "b": "2"}) == ["deep"]
    assert receivers_for(route, {}) == ["top"]
