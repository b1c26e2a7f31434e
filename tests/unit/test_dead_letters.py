"""What names a dead letter, and what to look at for each reason."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.dead_letters import LONGEST_ID, advice_for, letter_id, parse_letter_id
from import_core.domain.steps import StepKind

IDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=40)


@given(IDS, st.sampled_from(StepKind))
def test_an_id_names_its_product_and_step_and_fits_an_address(product: str, step: StepKind) -> None:
    text = letter_id(product, step)
    assert set(text) <= set(string.ascii_letters + string.digits + "._-")
    assert text[0].isalnum()
    assert len(text) > LONGEST_ID or parse_letter_id(text) == (product, step)


@given(st.text(max_size=300))
def test_what_names_none_is_told_from_what_does_and_each_has_one_name(text: str) -> None:
    for candidate in (text, f"generate-embedding.{text}"):
        parsed = parse_letter_id(candidate)
        assert parsed is None or letter_id(*parsed) == candidate


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "generate-embedding",
        "generate-embedding.",
        "wash.cDE",
        "generate-embedding.cDE=",
        "index-product.AA",
    ],
)
def test_wrong_ids(text: str) -> None:
    assert parse_letter_id(text) is None


def test_advice_follows_the_reason_and_else_whether_another_try_may_help() -> None:
    assert advice_for("NothingToEmbed", retryable=False).field == "title, description"
    assert advice_for("Timeout", retryable=True).field == "installation"
    for reason in (None, "", "NeverHeardOf"):
        assert "retry" in advice_for(reason, retryable=True).fix
        assert "leads nowhere" in advice_for(reason, retryable=False).fix
