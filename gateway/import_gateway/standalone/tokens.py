"""The callers of TOKENS_FILE, read again when it changes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import yaml

from import_core.domain.callers import Action, Caller
from import_core.domain.errors import InvalidInputError
from import_core.domain.static_callers import StaticCallers
from import_core.observability.logs import get_logger

log = get_logger(__name__)

LOOK_SECONDS = 2.0
LARGEST_FILE = 1024 * 1024


class TokenFile:
    """An Authority by a file of hashes; one that can't be read any more is logged, and the last good one counts."""

    def __init__(self, path: str) -> None:
        """Raises InvalidInputError naming the field."""
        self._path = Path(path)
        self._state = self._look()
        self._callers = self._read()
        self._looked_at = time.monotonic()

    async def whose(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's."""
        await self._refresh()
        return self._callers.whose(token)

    async def allows(self, caller: Caller, action: Action, *, namespace: str, name: str) -> bool:
        """Whether the caller may do that; rights hold for all of the one namespace that is served."""
        await self._refresh()
        return self._callers.allows(caller, action)

    async def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            await asyncio.to_thread(self._reload)

    def _reload(self) -> None:
        try:
            state = self._look()
            if state == self._state:
                return
            self._state = state
            self._callers = self._read()
        except InvalidInputError as error:
            log.warning("tokens.invalid", message=error.message)
        else:
            log.info("tokens.read", callers=len(self._callers))

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise InvalidInputError("TOKENS_FILE", f"can't be read ({type(error).__name__})") from error
        if found.st_size > LARGEST_FILE:
            raise InvalidInputError("TOKENS_FILE", f"is larger than {LARGEST_FILE} bytes")
        return found.st_mtime_ns, found.st_size

    def _read(self) -> StaticCallers:
        try:
            value: Any = yaml.safe_load(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidInputError("TOKENS_FILE", f"is not YAML ({type(error).__name__})") from error
        try:
            return StaticCallers.read(value)
        except InvalidInputError as error:
            raise InvalidInputError(f"TOKENS_FILE: {error.field}", error.reason) from error
