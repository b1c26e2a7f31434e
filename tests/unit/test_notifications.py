"""Webhooks: what a message says, and what becomes of it and of its endpoint after an attempt that failed."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from import_core.domain.errors import InvalidInputError
from import_core.domain.notifications import (
    GIVE_UP_SECONDS,
    LONGEST_ASKED_SECONDS,
    RETRY_DELAYS,
    Attempt,
    Endpoint,
    EndpointChanges,
    EndpointReason,
    after_failure,
    endpoint_changes,
    endpoint_of,
    message_body,
    next_slots,
    notifications_finding,
    signing_secrets,
)
from import_core.domain.resources.import_provider import NotificationEvent, parse_import_provider

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def decide(attempt: Attempt, **known: float):  # type: ignore[no-untyped-def]
    values = {"attempts": 1, "tried_seconds": 0.0, "failures": 1, "failing_seconds": 0.0, "spread": 0.0}
    return after_failure(attempt, **{**values, **known})  # type: ignore[arg-type]


def test_delays_grow_as_the_specification_says_and_end_after_a_day() -> None:
    tried, delays = 0.0, []
    for attempts in range(1, 20):
        decision = decide(Attempt(500), attempts=attempts, tried_seconds=tried)
        if decision.delay is None:
            break
        delays.append(decision.delay)
        tried += decision.delay
    assert tuple(delays[:6]) == RETRY_DELAYS
    assert sum(delays) == GIVE_UP_SECONDS


@given(
    status=st.one_of(st.none(), st.integers(300, 599)),
    attempts=st.integers(1, 1000),
    tried=st.floats(0, 10 * GIVE_UP_SECONDS),
    failures=st.integers(1, 10_000),
    failing=st.floats(0, 10 * GIVE_UP_SECONDS),
    spread=st.floats(0, 0.999),
    asked=st.one_of(st.none(), st.floats(0, 1e9)),
)
def test_no_message_is_tried_for_more_than_a_day_nor_at_once(  # noqa: PLR0917
    status: int | None,
    attempts: int,
    tried: float,
    failures: int,
    failing: float,
    spread: float,
    asked: float | None,
) -> None:
    decision = after_failure(
        Attempt(status, retry_after=asked),
        attempts=attempts,
        tried_seconds=tried,
        failures=failures,
        failing_seconds=failing,
        spread=spread,
    )
    assert decision.disable == (
        EndpointReason.GONE if status == 410 else EndpointReason.DEAD if failing >= GIVE_UP_SECONDS else None
    )
    assert 0 <= decision.pause <= LONGEST_ASKED_SECONDS
    if decision.delay is not None:
        assert decision.delay >= 1
        assert tried + decision.delay <= GIVE_UP_SECONDS + 1
    else:
        assert tried >= GIVE_UP_SECONDS or decision.disable is not None


def test_an_endpoint_that_asks_for_time_gets_it() -> None:
    assert decide(Attempt(429, retry_after=60)).delay == 60
    assert decide(Attempt(503, retry_after=1e6)).pause == LONGEST_ASKED_SECONDS
    assert decide(Attempt(500, retry_after=60)).delay == RETRY_DELAYS[0]


def test_one_that_fails_gets_one_message_at_a_time() -> None:
    assert [next_slots(in_flight=n, failing=False, most=4) for n in (0, 3, 4, 9)] == [4, 1, 0, 0]
    assert [next_slots(in_flight=n, failing=True, most=4) for n in (0, 1)] == [1, 0]


def test_a_message_is_the_same_text_each_time_and_verifies() -> None:
    data = {
        "id": "j",
        "status": "COMPLETED",
        "reason": None,
        "progress": {"products_total": 3, "products_seen": 3, "images_failed": 0},
    }
    body = message_body("import.completed", NOW, data)
    assert body == message_body("import.completed", NOW, dict(reversed(data.items())))
    assert json.loads(body) == {
        "type": "import.completed",
        "timestamp": "2026-01-02T03:04:05Z",
        "data": {"id": "j", "phase": "Succeeded", "progress": {"productsTotal": 3, "imagesFailed": 0}},
    }
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, body),
    }
    assert Webhook(SECRET).verify(body, headers)["type"] == "import.completed"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"webhookSecret": ""},
        {"webhookSecret": "hush"},
        {"webhookSecret": "whsec_c2hvcnQ="},
        {"webhookSecret": "whsec_" + "A" * 200},
        {"webhookSecret": "whsec_!!!!"},
        {"previousWebhookSecret": SECRET},
        {"webhookSecret": SECRET, "previousWebhookSecret": "hush"},
    ],
)
def test_a_secret_that_is_none_is_refused_without_being_repeated(values: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        signing_secrets(values)
    assert "hush" not in str(caught.value)


def test_secrets_may_be_exchanged() -> None:
    other = "whsec_" + "QUJD" * 10
    assert signing_secrets({"webhookSecret": SECRET + "\n"}) == (SECRET,)
    assert signing_secrets({"webhookSecret": other, "previousWebhookSecret": SECRET}) == (other, SECRET)


def provider(**told: object) -> dict[str, object]:
    spec = {
        "companyId": "acme",
        "type": "shopify",
        "baseUrl": "https://acme.example",
        "credentialsSecretRef": {"name": "s"},
    }
    return {"metadata": {"name": "p", "uid": "u"}, "spec": {**spec, "notifications": told} if told else spec}


def test_an_endpoint_is_what_the_object_says() -> None:
    assert endpoint_of(parse_import_provider(provider())) is None
    told = provider(url="https://a.example/hook?key=1", secretRef={"name": "hooks"})
    assert endpoint_of(parse_import_provider(told)) == Endpoint(
        "p",
        "u",
        "acme",
        "https://a.example/hook?key=1",
        "hooks",
        [event.value for event in NotificationEvent],
    )


@pytest.mark.parametrize(
    "told",
    [
        {"url": "ftp://a.example", "secretRef": {"name": "s"}},
        {"url": "https://ada:hush@a.example", "secretRef": {"name": "s"}},
        {"url": "https://a.example/#x", "secretRef": {"name": "s"}},
        {"url": "https://a.example/\n", "secretRef": {"name": "s"}},
        {"url": "https://a.example"},
        {"url": "https://a.example", "secretRef": {"name": "s"}, "events": []},
        {"url": "https://a.example", "secretRef": {"name": "s"}, "events": ["import.begun"]},
        {"url": "https://a.example", "secretRef": {"name": "s"}, "events": ["import.failed"] * 2},
    ],
)
def test_an_endpoint_that_is_none_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="notifications"):
        parse_import_provider(provider(**told))


def test_only_what_differs_is_written_and_nothing_forgotten_that_may_only_be_unlisted() -> None:
    one, other = (Endpoint(name, "u", "acme", "https://a.example", "s", []) for name in ("one", "other"))
    known = {"one": one, "other": other, "unlisted": other}
    wanted = {"one": one, "other": None}
    assert endpoint_changes(wanted, known, complete=False) == EndpointChanges((), ("other",))
    assert endpoint_changes(wanted, known, complete=True) == EndpointChanges((), ("other", "unlisted"))
    assert endpoint_changes({"one": one}, {}, complete=True) == EndpointChanges((one,), ())


def test_the_condition_says_what_to_do() -> None:
    assert notifications_finding("Active", None, None, 0) == ("True", "Active", "")
    assert notifications_finding("Active", None, "answered 500", 3)[:2] == ("True", "Failing")
    status, reason, message = notifications_finding("Disabled", "Gone", "answered 410", 1)
    assert (status, reason) == ("False", "Gone")
    assert "kubectl imports webhooks enable" in message
