"""Callers named in a file, where no API server knows them: hashes of their tokens, and what they may do. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from import_core.domain.callers import Action, Caller
from import_core.domain.errors import InvalidInputError
from import_core.domain.resources.common import parse

Right = Literal["read", "submit", "retry", "cancel", "pause", "search", "link"]
ACTIONS: Mapping[str, frozenset[Action]] = {
    "read": frozenset({Action.LIST, Action.READ}),
    "submit": frozenset({Action.SUBMIT}),
    "retry": frozenset({Action.RETRY}),
    "cancel": frozenset({Action.CANCEL}),
    "pause": frozenset({Action.PAUSE}),
    "search": frozenset({Action.SEARCH}),
    "link": frozenset({Action.LINK}),
}
_STRICT = ConfigDict(extra="forbid", frozen=True)


class StaticCaller(BaseModel):
    """One caller."""

    model_config = _STRICT

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9@._:-]*$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the token's characters, in hexadecimal digits. Only for tokens that nobody can guess: random, 32 bytes."""
    may: Annotated[tuple[Right, ...], Field(max_length=len(ACTIONS))]


class CallerFile(BaseModel):
    """The whole file."""

    model_config = _STRICT

    callers: Annotated[tuple[StaticCaller, ...], Field(max_length=1000)]


class StaticCallers:
    """Known callers; a token is looked up by its hash, and never kept."""

    def __init__(self, callers: tuple[StaticCaller, ...]) -> None:
        """Raises InvalidInputError where a name or a hash is there twice."""
        self._by_hash = {caller.sha256: caller for caller in callers}
        self._by_name = {caller.name: caller for caller in callers}
        for count, field in ((len(self._by_hash), "sha256"), (len(self._by_name), "name")):
            if count < len(callers):
                raise InvalidInputError(f"callers.{field}", "is there twice")

    @classmethod
    def read(cls, value: Any) -> StaticCallers:
        """Read the file's JSON values. Raises InvalidInputError naming the field, never repeating its value."""
        return cls(parse(CallerFile, value).callers)

    def __len__(self) -> int:
        return len(self._by_hash)

    def whose(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's."""
        found = self._by_hash.get(hashlib.sha256(token.encode("utf-8", "replace")).hexdigest())
        return None if found is None else Caller(username=found.name)

    def allows(self, caller: Caller, action: Action) -> bool:
        """Whether the caller, who may have left the file meanwhile, may do that."""
        known = self._by_name.get(caller.username)
        return known is not None and any(action in ACTIONS[right] for right in known.may)
