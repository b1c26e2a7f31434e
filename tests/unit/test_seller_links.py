"""Sellers' links: which token opens what, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.seller_links import (
    SellerLink,
    is_link_id,
    link_from_json,
    link_id_of,
    new_link,
    opens,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "s" * 43
MADE = new_link(
    ("0123456789ab", SECRET), namespace="imports", company_id="acme", created_by="ada", now=NOW, minutes=5
)


def test_a_token_opens_its_link_until_its_time_is_up() -> None:
    assert link_id_of(MADE.token) == MADE.link.id
    assert opens(MADE.link, MADE.token, namespace="imports", now=NOW)
    assert opens(MADE.link, MADE.token, namespace="imports", now=NOW + timedelta(seconds=299))
    assert not opens(MADE.link, MADE.token, namespace="imports", now=NOW + timedelta(minutes=5))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        MADE.link.id,
        f"{MADE.link.id}.",
        f"{MADE.link.id}.{'t' * 43}",
        f"ffffffffffff.{SECRET}",
        MADE.token + "x",
    ],
)
def test_no_other_token_does(token: str) -> None:
    assert not opens(MADE.link, token, namespace="imports", now=NOW)


def test_it_opens_nothing_elsewhere_nor_without_a_link() -> None:
    assert not opens(MADE.link, MADE.token, namespace="other", now=NOW)
    assert not opens(None, MADE.token, namespace="imports", now=NOW)


def test_what_is_kept_is_read_again_and_does_not_hold_the_token() -> None:
    kept = MADE.link.to_json()
    assert link_from_json(MADE.link.id, kept) == MADE.link
    assert SECRET not in str(kept)
    assert SECRET not in repr(MADE.link)


@given(st.text(max_size=80))
def test_any_text_is_judged(text: str) -> None:
    assert not opens(MADE.link, text, namespace="imports", now=NOW)
    assert isinstance(is_link_id(text), bool)


def test_a_link_that_is_none_is_refused() -> None:
    with pytest.raises(KeyError):
        link_from_json("0123456789ab", {})
    assert isinstance(MADE.link, SellerLink)
