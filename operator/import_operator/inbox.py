"""Carries events from the watching thread into the main event loop, where all state lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from import_operator.state import Body, OperatorState

Handler = Callable[[OperatorState, Body], None]


class Inbox:
    """Made in the main loop; `post` may be called from any thread."""

    def __init__(self, state: OperatorState) -> None:
        self._state = state
        self._loop = asyncio.get_running_loop()

    def post(self, event: Any, *, changed: Handler, deleted: Handler) -> None:
        """Hand an event of the API server ({type, object}) to the handler for its type."""
        handler = deleted if event["type"] == "DELETED" else changed
        self._loop.call_soon_threadsafe(handler, self._state, dict(event["object"]))
