"""What is seen of an installation under load: one sample every few seconds, of the work and of every process.

A value that could not be read is None, never zero.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process at one moment. `key` tells it from its successors; sizes are in bytes."""

    key: str
    role: str
    """What it is one of: `worker`, `operator`, `postgres`, …"""
    memory: int
    files: int | None = None
    """Open file descriptors, sockets included."""
    postgres_connections: int | None = None
    redis_connections: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The installation at `at` (seconds from the start of the run)."""

    at: float
    due: int | None = None
    claimed: int | None = None
    later: int | None = None
    """Pending rows that are not due yet: retries and what a provider's limit put off."""
    completed: int | None = None
    failed: int | None = None
    desired: int | None = None
    ready: int | None = None
    postgres_connections: int | None = None
    redis_connections: int | None = None
    redis_bytes: int | None = None
    redis_keys: int | None = None
    processes: tuple[ProcessSample, ...] = field(default=())

    @property
    def depth(self) -> int | None:
        """Due jobs and claimed ones, as the operator counts them."""
        return None if self.due is None or self.claimed is None else self.due + self.claimed

    def to_json(self) -> str:
        """One line for a file."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Sample:
        """Read what `to_json` gave."""
        value = json.loads(line)
        processes = tuple(ProcessSample(**each) for each in value.pop("processes"))
        return cls(**value, processes=processes)


def read_timeline(path: Path) -> list[Sample]:
    """The samples of a file with one a line; a last line that was cut off is left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Sample.from_json(line) for line in lines if line.endswith("}")]


@dataclass(frozen=True, slots=True)
class Series:
    """One value over time: (seconds, value)."""

    name: str
    role: str
    points: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """From the first point to the last."""
        return self.points[-1][0] - self.points[0][0] if self.points else 0.0

    @property
    def most(self) -> float:
        """The largest value; 0 of none."""
        return max((value for _, value in self.points), default=0.0)

    @property
    def last(self) -> float:
        """The value at the end; 0 of none."""
        return self.points[-1][1] if self.points else 0.0


def series_of(samples: Sequence[Sample], name: str, value: Callable[[Sample], float | None]) -> Series:
    """One value of every sample in which it could be read."""
    points = ((sample.at, value(sample)) for sample in samples)
    return Series(name, name, tuple((at, float(seen)) for at, seen in points if seen is not None))


def series_of_processes(
    samples: Sequence[Sample], value: Callable[[ProcessSample], float | None]
) -> tuple[Series, ...]:
    """One value of each process over its life, in the order in which they were first seen."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for sample in samples:
        for process in sample.processes:
            seen = value(process)
            if seen is not None:
                points.setdefault((process.key, process.role), []).append((sample.at, float(seen)))
    return tuple(Series(key, role, tuple(found)) for (key, role), found in points.items())


def roles_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    """All roles that were seen, in the order of the first sight."""
    return tuple(dict.fromkeys(process.role for sample in samples for process in sample.processes))


def peaks_by_role(samples: Sequence[Sample]) -> Iterator[tuple[str, int, int, int]]:
    """Of each role: the most processes at once, the largest memory of one of them, and the largest of all together."""
    for role in roles_of(samples):
        of_role = [[each.memory for each in sample.processes if each.role == role] for sample in samples]
        yield (
            role,
            max(len(sizes) for sizes in of_role),
            max(max(sizes, default=0) for sizes in of_role),
            max(sum(sizes) for sizes in of_role),
        )
