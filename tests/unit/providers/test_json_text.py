"""Providers' answers are read as Python's own reader would, however odd they are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_worker.providers.json_text import read_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(values, st.booleans())
def test_a_value_is_read_as_it_was_written(value: Any, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    # By their texts: not a number is not equal to itself.
    assert repr(read_json(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ['"\\ud83d"', "1e400", "-Infinity", '\ufeff{"a": 1}', '{"a": 1, "a": 2}'])
def test_what_the_standard_does_not_have_is_read_too(text: str) -> None:
    assert repr(read_json(text.encode())) == repr(json.loads(text.encode()))


@pytest.mark.parametrize("text", [b"", b"{", b"<html>", b'{"a": 01}', b"\xff\xfe\xff"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)
