"""Whether rows whose objects are gone may be cancelled: pure, and careful with many at once."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

ALWAYS_ALLOWED = 10
ALLOWED_SHARE = 0.2
"""More vanished objects than both of these at once look like a mistake, not like deletions."""


@dataclass(frozen=True, slots=True)
class Vanished:
    """`cancel`: rows to cancel; `withheld`: rows that would be too many at once."""

    cancel: frozenset[str]
    withheld: frozenset[str]


def vanished(unfinished: AbstractSet[str], objects: AbstractSet[str]) -> Vanished:
    """Compare unfinished rows, read first, with a complete list of objects, read after them.

    In this order an object that is created meanwhile can't seem to be gone.
    """
    gone = frozenset(unfinished - objects)
    if len(gone) > max(ALWAYS_ALLOWED, ALLOWED_SHARE * len(unfinished)):
        return Vanished(frozenset(), gone)
    return Vanished(gone, frozenset())
