"""Call limits, origins and keys: pure rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.callers import (
    Action,
    Bucket,
    Caller,
    CallRate,
    is_full_again,
    is_own_origin,
    take_call,
)
from import_core.domain.submission import fingerprint, is_idempotency_key, object_name, retry_token

RATE = CallRate(per_second=2.0, burst=5)


@given(st.lists(st.floats(min_value=0, max_value=3), max_size=60))
def test_calls_never_exceed_burst_plus_rate(gaps: list[float]) -> None:
    bucket: Bucket | None = None
    now, admitted = 0.0, 0
    for gap in gaps:
        now += gap
        bucket, wait = take_call(bucket, RATE, now)
        admitted += wait == 0
        assert admitted <= RATE.burst + RATE.per_second * now + 1e-6


@given(st.floats(min_value=0, max_value=5), st.floats(min_value=0, max_value=100))
def test_who_waits_as_long_as_told_may_call(tokens: float, at: float) -> None:
    bucket, wait = take_call(Bucket(tokens, at), RATE, at)
    if wait > 0:
        again, no_wait = take_call(bucket, RATE, at + wait + 1e-6)
        assert no_wait == 0
        assert again.tokens >= 0


def test_bucket_that_is_full_again_may_be_forgotten() -> None:
    bucket, _ = take_call(None, RATE, 10.0)
    assert not is_full_again(bucket, RATE, 10.0)
    assert is_full_again(bucket, RATE, 10.5)


def test_clock_that_goes_back_gives_nothing() -> None:
    assert take_call(Bucket(0.0, 100.0), RATE, 50.0)[1] > 0


@pytest.mark.parametrize(
    ("origin", "public_url", "host", "own"),
    [
        ("https://imports.example", "https://imports.example", "10.0.0.1", True),
        ("https://imports.example:443", "https://imports.example", "10.0.0.1", True),
        ("http://imports.example", "https://imports.example", "imports.example", False),
        ("https://imports.example.evil", "https://imports.example", "", False),
        ("http://10.0.0.1:8000", "", "10.0.0.1:8000", True),
        ("http://10.0.0.1", "", "10.0.0.1:80", True),
        ("http://10.0.0.1:8001", "", "10.0.0.1:8000", False),
        ("http://[::1]:8000", "", "[::1]:8000", True),
        ("null", "", "10.0.0.1", False),
        ("", "", "", False),
        (None, "", "10.0.0.1", False),
        ("http://x:99999", "", "x:99999", False),
        ("file://", "", "", False),
    ],
)
def test_origin(origin: str | None, public_url: str, host: str, own: bool) -> None:
    assert is_own_origin(origin, public_url=public_url, scheme="http", host=host) is own


def test_callers_with_other_rights_have_other_keys() -> None:
    callers = [
        Caller("a"),
        Caller("b"),
        Caller("a", groups=("g",)),
        Caller("a", groups=("g", "h")),
        Caller("a", extra={"x": ("1",)}),
        Caller("a", uid="u"),
    ]
    assert len({caller.key for caller in callers}) == len(callers)
    assert Caller("a", groups=("g", "h")).key == Caller("a", groups=("h", "g")).key


def test_tokens_of_one_account_count_together() -> None:
    tokens = [Caller("a", uid="u", extra={"credential-id": (number,)}) for number in "12"]
    assert tokens[0].account == tokens[1].account
    assert len({Caller("a").account, Caller("b").account, Caller("a", uid="u").account}) == 3


def test_action_reads_as_a_person_would_say_it() -> None:
    assert Action.PAUSE.words == "create workerpools/pause.imports.avnz.io"
    assert Action.CANCEL.words == "delete importjobs.imports.avnz.io"


@given(st.text(max_size=300))
def test_key_is_what_a_header_can_carry(value: str) -> None:
    usable = 1 <= len(value) <= 255 and value.isascii() and value.isprintable() and value == value.strip()
    assert is_idempotency_key(value) is usable


def test_names_follow_from_caller_namespace_and_key() -> None:
    names = {object_name(caller, "ns", key) for caller in ("a", "b") for key in ("1", "2")}
    names |= {object_name("a", "other", "1"), object_name("a\0ns", "", "1")}
    assert len(names) == 6
    assert object_name("a", "ns", "1") == object_name("a", "ns", "1")
    assert all(len(name) <= 63 and name.replace("-", "").isalnum() for name in names)
    assert len(retry_token("a", "job", "k" * 255)) <= 128


def test_fingerprint_knows_no_order() -> None:
    assert fingerprint("n", {"a": 1, "b": [1, 2]}) == fingerprint("n", {"b": [1, 2], "a": 1})
    assert fingerprint("n", {"a": 1}) != fingerprint(None, {"a": 1})
    assert fingerprint("n", {"b": [1, 2]}) != fingerprint("n", {"b": [2, 1]})
