"""Live state for listeners: every state has an id that follows from its content, so it outlives any process.

A listener needs the newest state, never each step on the way: one that was away, or slow, gets what is true
now, and nothing where that is what it saw last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

GONE_REMEMBERED = 1_000
"""So many entries that went are remembered; a listener that is further behind gets everything anew."""


def state_id(state: Any) -> str:
    """The id of a state of plain JSON values: the same in every process, at every time."""
    text = json.dumps(state, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Change:
    """What a listener lacks: all entries where `whole`, else those that changed and the keys of those gone."""

    entries: Mapping[str, Any]
    gone: tuple[str, ...] = ()
    whole: bool = False


@dataclass(slots=True)
class VersionedState:
    """Entries by key, and since which version each is as it is: who knows his version gets the difference.

    No listener has a queue: what he lacks is found when he can take it, so memory does not grow with
    listeners that are slow.
    """

    entries: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    _since: dict[str, int] = field(default_factory=dict)
    _gone: dict[str, int] = field(default_factory=dict)
    _forgotten: int = 0

    def replace(self, entries: Mapping[str, Any]) -> bool:
        """Take in a new whole; returns whether anything differs."""
        changed = [key for key, value in entries.items() if self.entries.get(key) != value]
        gone = [key for key in self.entries if key not in entries]
        if not changed and not gone:
            return False
        self.version += 1
        for key in changed:
            self.entries[key] = entries[key]
            self._since[key] = self.version
            self._gone.pop(key, None)
        for key in gone:
            del self.entries[key], self._since[key]
            self._gone[key] = self.version
        self._forget()
        return True

    def change_since(self, version: int | None) -> Change | None:
        """What a listener who knows `version` lacks; None: nothing. One who knows none lacks everything."""
        if version is None or version < self._forgotten or version > self.version:
            return Change(dict(self.entries), whole=True)
        if version == self.version:
            return None
        entries = {key: self.entries[key] for key, since in self._since.items() if since > version}
        return Change(entries, tuple(key for key, since in self._gone.items() if since > version))

    def _forget(self) -> None:
        for key in _oldest(self._gone, len(self._gone) - GONE_REMEMBERED):
            self._forgotten = max(self._forgotten, self._gone.pop(key))


def _oldest(gone: Mapping[str, int], count: int) -> Iterable[str]:
    return sorted(gone, key=gone.__getitem__)[: max(0, count)]
