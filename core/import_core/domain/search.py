"""Search over a company's products: what a query means, which words a product has, merging of hits, who is visible."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from import_core.domain.markup import plain_text
from import_core.domain.steps import StepProduct

LONGEST_QUERY = 256
"""Characters of a query as a person types it."""
MOST_WORDS = 32
"""Words of a query that count; the rest is left out."""
SHORTEST_PREFIX = 3
"""Letters from which on the last word may be the beginning of one: fewer begin half of all words."""
CANDIDATES = 200
"""Hits that each index is asked for; no page goes beyond them."""
MOST_HITS = 100
DEFAULT_HITS = 20
RANK_CONSTANT = 60
"""How little the first ranks stand out (Cormack, Clarke, Büttcher: Reciprocal Rank Fusion, SIGIR 2009)."""
LONGEST_DESCRIPTION = 10_000
"""Characters of a description, without its markup, whose words can be found."""
LONGEST_MARKUP = 100_000
"""Characters of a description that are looked at."""
MOST_TAGS = 250

_TOKEN = re.compile(r'-?"[^"]*"?|\S+')
_PLAIN = re.compile(r"[^a-z0-9]+")


class Backend(StrEnum):
    """What finds products."""

    TEXT = "text"
    VECTORS = "vectors"


WEIGHTS: Mapping[Backend, float] = {Backend.TEXT: 1.0, Backend.VECTORS: 1.0}


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A person's query. `words` must all be there, each phrase word by word; nothing of `excluded` may.

    `text` says the same in one canonical line, as web searches are written: equal texts have equal answers.
    `unfinished`: the last word may be the beginning of a longer one. `alternatives`: an `or` stands between parts.
    """

    text: str = ""
    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    unfinished: bool = False
    alternatives: bool = False

    @property
    def wanted(self) -> str:
        """What is looked for, without what is excluded, as a plain line for an embedding model."""
        return " ".join((*self.words, *self.phrases))


@dataclass(frozen=True, slots=True)
class SearchText:
    """The words of a product, folded, by where they stand; the earlier a field, the more it counts."""

    title: str
    labels: str
    """Vendor and type."""
    tags: str
    description: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides whether a product may be found.

    `content_hash`: of the product as it is (None: archived, or never imported by us); `indexed_hash`: of the state
    that the index step saw last; `decision`: quality control's last one, None where it was not asked.
    """

    status: str | None
    content_hash: str | None
    indexed_hash: str | None
    decision: str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A product that an index found; `score` compares candidates of one answer, the others are the indexes' own."""

    product_id: str
    score: float
    text_score: float | None = None
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Hits of one index, best first, each with the index's own score."""

    backend: Backend
    hits: Sequence[tuple[str, float]] = field(default_factory=tuple)


def fold(text: str) -> str:
    """Words in lower case and without accents, one space between them, so that "Café-Crème" is found by "cafe creme".

    Marks are taken off Latin, Greek and Cyrillic letters only; in other scripts they make another word.
    """
    lowered = text.casefold()
    if lowered.isascii():
        return _PLAIN.sub(" ", lowered).strip()
    decomposed = unicodedata.normalize("NFKD", lowered)
    bare = "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f")
    whole = unicodedata.normalize("NFC", bare).casefold()
    return " ".join("".join(c if _is_of_a_word(c) else " " for c in whole).split())


def _is_of_a_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) in {"Mn", "Mc"}


def parse_query(raw: str) -> SearchQuery:
    """What a person means: words, "phrases in quotes", -excluded, and `or` between alternatives. Never fails."""
    parts: list[str] = []
    words: list[str] = []
    phrases: list[str] = []
    excluded: list[str] = []
    unfinished = False
    left = MOST_WORDS
    for token in _TOKEN.findall(raw[:LONGEST_QUERY]):
        folded = " ".join(fold(token).split()[:left])
        if not folded:
            continue
        left -= folded.count(" ") + 1
        is_phrase, is_excluded = '"' in token, token.startswith("-") and len(token) > 1
        unfinished = False
        shown = f'"{folded}"' if " " in folded or folded == "or" else folded
        if is_excluded:
            excluded.append(folded)
            parts.append(f"-{shown}")
        elif is_phrase:
            phrases.append(folded)
            parts.append(shown)
        elif folded == "or":
            # Between two alternatives only; elsewhere it would be no word either, to people.
            if parts and parts[-1] != "or":
                parts.append("or")
        else:
            # A word with a hyphen is several words; they are looked for apart, and an "or" among them is one of them.
            found = folded.split()
            words.extend(found)
            parts.extend('"or"' if word == "or" else word for word in found)
            unfinished = fold(token[-1]) != "" and len(found[-1]) >= SHORTEST_PREFIX
    if parts and parts[-1] == "or":
        parts.pop()
    # An "or" that is looked for or excluded stands there in quotes.
    alternatives = "or" in parts
    return SearchQuery(
        " ".join(parts), tuple(words), tuple(phrases), tuple(excluded), unfinished, alternatives
    )


def search_text(product: StepProduct) -> SearchText:
    """The words by which a product is found."""
    description = plain_text((product.description or "")[:LONGEST_MARKUP])
    return SearchText(
        title=fold(product.title),
        labels=fold(f"{product.vendor or ''} {product.product_type or ''}"),
        tags=fold(" ".join(product.tags[:MOST_TAGS])),
        description=fold(description[:LONGEST_DESCRIPTION]),
    )


def fuse(
    rankings: Sequence[Ranking],
    *,
    weights: Mapping[Backend, float] = WEIGHTS,
    rank_constant: int = RANK_CONSTANT,
) -> list[Candidate]:
    """Merge rankings by reciprocal rank: each gives a product weight / (constant + its rank, from 1).

    Scores of different indexes can't be compared, ranks can. Equal ones come in the order of their ids.
    """
    found: dict[str, dict[Backend, float]] = {}
    scores: dict[str, float] = {}
    for ranking in rankings:
        seen = dict(reversed(ranking.hits))  # the first of two hits of one product counts
        for rank, (product_id, own) in enumerate(
            ((one, seen[one]) for one in dict.fromkeys(one for one, _ in ranking.hits)), start=1
        ):
            scores[product_id] = scores.get(product_id, 0.0) + weights[ranking.backend] / (
                rank_constant + rank
            )
            found.setdefault(product_id, {})[ranking.backend] = own
    merged = [
        Candidate(
            product_id, score, found[product_id].get(Backend.TEXT), found[product_id].get(Backend.VECTORS)
        )
        for product_id, score in scores.items()
    ]
    return sorted(merged, key=lambda candidate: (-candidate.score, candidate.product_id))


def is_archived(status: str | None) -> bool:
    """Whether a product's status takes it out of searches."""
    return (status or "").lower() == "archived"


def is_visible(standing: Standing) -> bool:
    """Whether a product may be found: indexed as it is now, not archived, and approved or not asked about.

    A product that has changed is found again when its new state has gone through all its steps.
    """
    return (
        standing.content_hash is not None
        and standing.indexed_hash == standing.content_hash
        and not is_archived(standing.status)
        and standing.decision in {None, "approved"}
    )


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Where an answer is kept: `slot` is one of a fixed number, so that the cache can't grow; `key` says whose it is.

    The slot does not follow the version, so that an answer of a new version takes the place of the old one.
    """

    slot: int
    key: str


def cache_entry(
    company_id: str, version: int, query: SearchQuery, *, backends: Sequence[str], slots: int
) -> CacheEntry:
    """The place of an answer; `backends` name the indexes, and the model, that give it."""
    asked = f"{company_id}\0{query.text}\0{query.unfinished:d}".encode()
    digest = hashlib.sha256(asked).digest()
    whole = hashlib.sha256(b"\0".join([asked, str(version).encode(), *(b.encode() for b in backends)]))
    return CacheEntry(int.from_bytes(digest[:8]) % slots, whole.hexdigest())
