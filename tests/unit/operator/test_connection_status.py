"""What an ImportProvider's status says."""

from datetime import UTC, datetime
from typing import Any

from import_core.domain.connection_status import Check, project_connection
from import_core.domain.resources.import_provider import parse_import_provider

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def provider(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    wanted = {
        "companyId": "acme",
        "type": "shopify",
        "baseUrl": "https://acme.myshopify.com",
        "credentialsSecretRef": {"name": "acme-shopify"},
        **spec,
    }
    metadata = {"name": "acme-shopify", "namespace": "imports", "uid": "u", "generation": 2}
    return {"metadata": metadata, "spec": wanted, "status": status or {}}


def shown(check: Check | None, body: dict[str, Any] | None = None) -> dict[str, Any]:
    body = body or provider()
    patch = project_connection(body, check, NOW) or {}
    status = {key: value for key, value in {**body["status"], **patch}.items() if value is not None}
    parse_import_provider({**provider(), "status": status})
    return status


def conditions(status: dict[str, Any], *types: str) -> dict[str, tuple[str, str]]:
    found = {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}
    return {kind: found[kind] for kind in types} if types else found


FINDINGS = ("Ready", "Reachable", "CredentialsValid")


def test_unchecked_connection_is_unknown() -> None:
    status = shown(None)
    assert conditions(status, *FINDINGS) == {
        "Ready": ("Unknown", "NotChecked"),
        "Reachable": ("Unknown", "NotChecked"),
        "CredentialsValid": ("Unknown", "NotChecked"),
    }
    assert "checkedAt" not in status


def test_good_connection_is_ready() -> None:
    status = shown(Check(True, True, "Checked", "", NOW))
    assert {kind: value for kind, (value, _) in conditions(status, *FINDINGS).items()} == {
        "Ready": "True",
        "Reachable": "True",
        "CredentialsValid": "True",
    }
    assert status["checkedAt"] == "2026-01-01T12:00:00Z"


def test_wrong_token_is_said() -> None:
    status = shown(Check(True, False, "InvalidCredentials", "The provider refused the credentials.", NOW))
    assert conditions(status)["Reachable"][0] == "True"
    assert conditions(status)["CredentialsValid"] == ("False", "InvalidCredentials")
    assert conditions(status)["Ready"] == ("False", "InvalidCredentials")
    assert status["message"] == "The provider refused the credentials."


def test_unreachable_provider_says_nothing_of_the_credentials() -> None:
    status = shown(Check(False, None, "ProviderUnavailable", "connection refused", NOW))
    assert conditions(status)["Reachable"] == ("False", "ProviderUnavailable")
    assert conditions(status)["CredentialsValid"] == ("Unknown", "ProviderUnavailable")


def test_invalid_spec_is_said_before_anything_else() -> None:
    status = shown(Check(True, True, "Checked", "", NOW), provider(baseUrl="ftp://acme"))
    assert conditions(status)["Ready"] == ("False", "InvalidSpec")
    assert "baseUrl" in status["message"]


def test_field_without_effect_is_named() -> None:
    body = provider(circuitBreaker={"failureThreshold": 5, "openSeconds": 60})
    assert conditions(shown(None, body))["NotYetEnforced"][0] == "True"


def test_status_that_is_true_needs_no_patch() -> None:
    check = Check(True, True, "Checked", "", NOW)
    assert project_connection(provider(shown(check)), check, NOW) is None
