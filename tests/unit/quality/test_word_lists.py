"""Words are found whole, however they are written, and never inside other words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.errors import InvalidInputError
from import_core.domain.words import MOST_WORDS, WordList, fold, words_of

BANNED = WordList(["cialis", "Bomb", "snake oil", "Straße", "कल", "爆弾", "вор"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("buy cialis now", "cialis"),
        ("a specialist in socialist bombast", None),
        ("BOMB!", "Bomb"),
        ("a bomb-shaped cake", "Bomb"),
        ("bombs", None),
        ("snake  oil", "snake oil"),
        ("Snake-Oil", "snake oil"),
        ("snake in oil", None),
        ("STRASSE", "Straße"),
        ("ｂｏｍｂ", "Bomb"),
        ("𝐛𝐨𝐦𝐛", "Bomb"),
        ("b\u200bo\u00admb", "Bomb"),
        ("bo\u0308mb", "Bomb"),
        ("bömb", "Bomb"),
        ("bоmb (with a Cyrillic о)", "Bomb"),
        ("сiаlis (with Cyrillic с and а)", "cialis"),
        ("вор", "вор"),
        ("творог", None),
        ("कल का", "कल"),
        ("काल", None),
        ("この爆弾です", "爆弾"),
        ("", None),
        ("bomb" * 1000, None),
    ],
)
def test_a_word_is_found_whole_and_in_every_spelling(text: str, found: str | None) -> None:
    assert BANNED.first_in(text) == found


def test_a_list_is_checked() -> None:
    assert WordList(["a", " a ", "", "b  c"]).words == ("a", "b c")
    for wrong in (["…"], ["x" * 101], [str(number) for number in range(MOST_WORDS + 1)]):
        with pytest.raises(InvalidInputError):
            WordList(wrong)


@given(st.text(max_size=60))
def test_folding_is_stable_and_normalisation_makes_no_difference(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert words_of(fold(unicodedata.normalize("NFD", text))) == words_of(
        fold(unicodedata.normalize("NFC", text))
    )


@given(st.text(max_size=30), st.sampled_from(["cialis", "bomb", "snake oil"]), st.text(max_size=30))
def test_a_word_between_blanks_is_found_in_any_text(before: str, word: str, after: str) -> None:
    assert BANNED.first_in(f"{before} {word} {after}") is not None
    assert BANNED.first_in(f"{before} {word.upper()} {after}") is not None
