"""Places of listeners: bounded for each caller and for all, taken before an answer begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from import_core.domain.errors import ImportOperatorError


class TooManyListenersError(ImportOperatorError):
    """There are as many event streams as this replica holds open."""


class TooManyOwnListenersError(ImportOperatorError):
    """The caller has as many event streams as one caller may hold open."""


class Place:
    """One caller's place, until it is given back."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def free(self) -> None:
        """Give it back; doing so again is harmless."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Places:
    """`most` places in all, `most_each` of one caller; `changed` is told how many are taken."""

    def __init__(self, *, most: int, most_each: int, changed: Callable[[int], object]) -> None:
        self._most = most
        self._most_each = most_each
        self._changed = changed
        self._taken: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def take(self, caller: str) -> Place:
        """Take a place. Raises TooManyListenersError and TooManyOwnListenersError."""
        if self._count >= self._most:
            raise TooManyListenersError
        if self._taken[caller] >= self._most_each:
            raise TooManyOwnListenersError
        self._add(caller, 1)
        return Place(lambda: self._add(caller, -1))

    def _add(self, caller: str, number: int) -> None:
        self._count += number
        self._taken[caller] += number
        if not self._taken[caller]:
            del self._taken[caller]
        self._changed(self._count)
