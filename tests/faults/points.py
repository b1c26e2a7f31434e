"""Fail points of processes, armed and disarmed while they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from faults.world import Fault, FaultWorld, PodProcess

DEATH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Point:
    """A fail point of some processes. It is armed while its marker is not there."""

    name: str
    marker: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process must be started with."""
        return {"IMPORT_FAIL_POINT": self.name, "IMPORT_FAIL_POINT_MARKER": str(self.marker)}

    def disarm(self) -> None:
        """Let processes pass."""
        self.marker.touch()

    def arm(self) -> None:
        """Let the next process that comes along die."""
        self.marker.unlink()

    async def death(self, world: FaultWorld, before: Sequence[PodProcess]) -> Fault:
        """Wait until one of the processes has died here."""

        async def look() -> PodProcess | None:
            if not self.marker.exists():
                return None
            return next((process for process in before if not process.is_alive), None)

        dead = await world.eventually(look, f"a process dies at {self.name}", seconds=DEATH_SECONDS)
        at = datetime.fromtimestamp(self.marker.stat().st_mtime, UTC)
        return Fault(f"killed at {self.name}", at, dead.pod)
