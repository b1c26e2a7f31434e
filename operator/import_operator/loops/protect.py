"""Keeps busy workers' pods from being stopped by others: node consolidation, and whoever lowers replicas."""

from __future__ import annotations

from import_operator.draining import Drains
from import_operator.loops.runner import Loop

INTERVAL_SECONDS = 1.0


class ProtectLoop:
    """By the clock: jobs start and end too often to follow each."""

    def __init__(self, drains: Drains) -> None:
        self._drains = drains

    def loop(self) -> Loop:
        """The loop."""
        return Loop("protect", self._drains.protect, interval=INTERVAL_SECONDS)
