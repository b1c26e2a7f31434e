"""Lists of words that are looked for in texts: whole words, however they are written in Unicode."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from import_core.domain.errors import InvalidInputError

MOST_WORDS = 5_000
LONGEST_WORD = 100
"""Characters of one word or phrase of a list."""

# Letters of other scripts that look like Latin ones (Unicode's confusables.txt, the common part of it). Both texts and
# words are mapped, so a Cyrillic word is still found in Cyrillic text.
_LOOK_ALIKES = str.maketrans(
    {
        **dict(zip("аеорсухіјѕӏԁԛԝһ", "aeopcyxijsldqwh", strict=True)),
        **dict(zip("οαινρτυχϲκ", "oaivptuxck", strict=True)),
        "ı": "i",
        "ɑ": "a",
        "ɡ": "g",
    }
)
# Scripts that don't part words by blanks: there a word is found wherever it stands.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


def fold(text: str) -> str:
    """A text in which differences that readers hardly see are gone.

    Compatibility forms (full-width, mathematical, ligatures), case, accents, invisible characters, and letters of other
    scripts that look like Latin ones (Unicode, sections 3.13 and 5.18, and UTS #39).
    """
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    # Marks of the classes below 200 are vowels and the like: they make another word, not another spelling.
    kept = (
        char for char in parts if unicodedata.combining(char) < 200 and unicodedata.category(char) != "Cf"
    )
    return "".join(kept).translate(_LOOK_ALIKES)


def words_of(folded: str) -> list[str]:
    """The words of a folded text: runs of letters, digits and their marks."""
    if folded.isascii():
        return "".join(char if char.isalnum() else " " for char in folded).split()
    return "".join(char if unicodedata.category(char)[0] in "LNM" else " " for char in folded).split()


class WordList:
    """Words and phrases, as they were written; compared folded.

    Raises InvalidInputError for one without letters and digits, one too long, and for too many.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.words = tuple(dict.fromkeys(" ".join(word.split()) for word in words if word.strip()))
        if len(self.words) > MOST_WORDS:
            raise InvalidInputError("words", f"there are {len(self.words):,}, more than {MOST_WORDS:,}")
        starts: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        unspaced: list[tuple[str, str]] = []
        for word in self.words:
            parts = tuple(words_of(fold(word)))
            if not parts or len(word) > LONGEST_WORD:
                raise InvalidInputError(
                    "words", f"“{word[:LONGEST_WORD]}” has no letter or more than {LONGEST_WORD} characters"
                )
            if any(_is_unspaced(char) for char in word):
                unspaced.append(("".join(parts), word))
            else:
                starts[parts[0]].append((parts, word))
        self._starts: Mapping[str, list[tuple[tuple[str, ...], str]]] = dict(starts)
        self._unspaced = tuple(unspaced)

    def first_in(self, text: str) -> str | None:
        """The first word of the list that the text has, as it was written in the list."""
        if not self.words or not text:
            return None
        words = words_of(fold(text))
        for at, word in enumerate(words):
            for parts, written in self._starts.get(word, ()):
                if tuple(words[at : at + len(parts)]) == parts:
                    return written
        if self._unspaced:
            whole = "".join(words)
            for sought, written in self._unspaced:
                if sought in whole:
                    return written
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordList) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)


def _is_unspaced(char: str) -> bool:
    return not char.isascii() and unicodedata.name(char, "").startswith(_UNSPACED)
