"""What Meta's Graph API says when it refuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_worker.providers.http import Answer
from import_worker.providers.whatsapp.graph_errors import read_error, read_word, regain_seconds


def answer(code: int, status: int = 400, **fields) -> Answer:
    return Answer(status, fields.pop("headers", {}), {"error": {"message": "m", "code": code, **fields}})


@pytest.mark.parametrize("code", [4, 17, 32, 613, 80_014, 80_004])
@pytest.mark.parametrize("status", [400, 403, 429])
def test_codes_of_too_many_calls_throttle(code: int, status: int) -> None:
    assert read_word(answer(code, status)).throttled == 0.0


@pytest.mark.parametrize("code", [1, 2, 10, 100, 190, 200, 803])
def test_other_codes_do_not(code: int) -> None:
    assert read_word(answer(code)).throttled is None


def test_the_header_says_when_access_is_regained() -> None:
    usage = json.dumps({"1": [{"type": "catalog", "estimated_time_to_regain_access": 7}, {"call_count": 1}]})
    headers = {"x-business-use-case-usage": usage}
    assert read_word(answer(80_014, headers=headers)).throttled == 420.0
    assert read_word(Answer(200, headers, {"data": []})).throttled is None


@given(st.text(max_size=200))
def test_any_header_is_read(text: str) -> None:
    assert regain_seconds({"X-Business-Use-Case-Usage": text}) >= 0


@pytest.mark.parametrize(("code", "subcode"), [(102, None), (190, 463), (10, None), (200, None), (299, None)])
def test_codes_of_the_token(code: int, subcode: int | None) -> None:
    error = read_error(answer(code, error_subcode=subcode).payload)
    assert error is not None
    assert error.is_of_credentials


def test_objects_that_are_not_there() -> None:
    for payload in (answer(100, error_subcode=33).payload, answer(803).payload):
        error = read_error(payload)
        assert error is not None
        assert error.is_unknown_object
    error = read_error(answer(100).payload)
    assert error is not None
    assert not error.is_unknown_object


def test_passing_errors() -> None:
    for payload in (answer(1).payload, answer(2).payload, answer(190, is_transient=True).payload):
        error = read_error(payload)
        assert error is not None
        assert error.is_passing


@pytest.mark.parametrize(
    "payload", [None, [], "x", {}, {"error": "x"}, {"error": {"code": "190"}}, {"error": {"code": True}}]
)
def test_bodies_without_an_error_have_none(payload: object) -> None:
    assert read_error(payload) is None
