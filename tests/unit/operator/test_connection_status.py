"""What an ImportProvider's status says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from import_core.domain.breaker import CLOSED, Breaker, opened_by_hand
from import_core.domain.connection_status import Check, breaker_change, project_connection
from import_core.domain.resources.common import ConditionStatus
from import_core.domain.resources.import_provider import BreakerState, parse_import_provider

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


def shown(
    check: Check | None, body: dict[str, Any] | None = None, *, breaker: Breaker = CLOSED
) -> dict[str, Any]:
    body = body or provider()
    patch = project_connection(body, check, NOW, breaker) or {}
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


OPEN = Breaker(BreakerState.OPEN, 5, opened_at=NOW, probe_at=NOW + timedelta(seconds=60))
GOOD = Check(True, True, "Checked", "", NOW)


def test_an_open_breaker_is_said_before_the_last_check() -> None:
    status = shown(GOOD, breaker=OPEN)
    assert status["breaker"] == {
        "state": "Open",
        "consecutiveFailures": 5,
        "openedAt": "2026-01-01T12:00:00Z",
        "probeAt": "2026-01-01T12:01:00Z",
    }
    assert conditions(status, "Ready", "Reachable", "BreakerClosed") == {
        "Ready": ("False", "BreakerOpen"),
        "Reachable": ("True", "Checked"),
        "BreakerClosed": ("False", "ProviderFails"),
    }
    assert "failed 5 times in a row since 2026-01-01T12:00:00Z" in status["message"]


def test_a_breaker_opened_by_hand_says_by_whom_and_what_closes_it() -> None:
    forced = opened_by_hand(CLOSED, by="ada", reason="migration", now=NOW)
    status = shown(GOOD, breaker=forced)
    assert (status["breaker"]["openedBy"], status["breaker"]["reason"]) == ("ada", "migration")
    assert conditions(status, "BreakerClosed") == {"BreakerClosed": ("False", "OpenedByHand")}
    assert "kubectl imports reset-breaker" in status["message"]


def test_what_was_said_of_an_open_breaker_goes_when_it_closes() -> None:
    before = provider(shown(GOOD, breaker=OPEN))
    patch = project_connection(before, GOOD, NOW, CLOSED)
    assert patch is not None
    assert patch["breaker"] == {
        "state": "Closed",
        "consecutiveFailures": None,
        "openedAt": None,
        "probeAt": None,
    }


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (None, CLOSED, None),
        (None, OPEN, "opened"),
        ("Closed", OPEN, "opened"),
        ("Open", replace(OPEN, state=BreakerState.HALF_OPEN), None),
        ("HalfOpen", OPEN, None),
        ("HalfOpen", CLOSED, "closed"),
    ],
)
def test_only_opening_and_closing_are_news(before: str | None, now: Breaker, change: str | None) -> None:
    status = {"breaker": {"state": before}} if before else {}
    assert breaker_change(provider(status), now) == change


def test_status_that_is_true_needs_no_patch() -> None:
    check = Check(True, True, "Checked", "", NOW)
    assert project_connection(provider(shown(check)), check, NOW) is None


def test_a_webhook_is_told_of_and_forgotten_with_its_endpoint() -> None:
    gone: tuple[ConditionStatus, str, str] = ("False", "Gone", "answered 410")
    patch = project_connection(provider(), None, NOW, CLOSED, gone) or {}
    assert conditions(patch, "NotificationsActive") == {"NotificationsActive": ("False", "Gone")}
    assert project_connection(provider(patch), None, NOW, CLOSED, gone) is None
    without = project_connection(provider(patch), None, NOW, CLOSED, None) or {}
    assert "NotificationsActive" not in conditions(without)
