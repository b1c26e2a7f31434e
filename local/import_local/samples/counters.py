"""Counts what the sample providers were asked: API calls with their times, images, bytes."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One API call: monotonic seconds of its arrival, the answer's status (0: dropped), what was asked."""

    at: float
    status: int
    what: str


def most_in_window(times: Iterable[float], seconds: float) -> int:
    """Return the most calls that any half-open window of `seconds` held; times must be ascending."""
    window: deque[float] = deque()
    most = 0
    for time in times:
        window.append(time)
        while time - window[0] >= seconds:
            window.popleft()
        most = max(most, len(window))
    return most


@dataclass(slots=True)
class Counters:
    """The counters of one shop or account. `calls` keeps the newest only; `api_calls` counts all."""

    calls: deque[Call]
    api_calls: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    throttled: int = 0
    api_bytes: int = 0
    other_requests: int = 0
    image_requests: int = 0
    image_statuses: Counter[int] = field(default_factory=Counter)
    image_bytes: int = 0
    image_paths: Counter[str] = field(default_factory=Counter)

    def record_call(self, call: Call, size: int) -> None:
        """Count one API call and the bytes of its answer."""
        self.calls.append(call)
        self.api_calls += 1
        self.statuses[call.status] += 1
        self.api_bytes += size

    def record_image(self, path: str, status: int, size: int) -> None:
        """Count one image request; `path` is kept for up to 50,000 addresses."""
        self.image_requests += 1
        self.image_statuses[status] += 1
        self.image_bytes += size
        if path in self.image_paths or len(self.image_paths) < 50_000:
            self.image_paths[path] += 1

    def summary(self) -> dict[str, Any]:
        """Return the counters as JSON; `mostIn60Seconds` covers the calls that are kept."""
        times = sorted(call.at for call in self.calls)
        return {
            "apiCalls": self.api_calls,
            "apiBytes": self.api_bytes,
            "otherRequests": self.other_requests,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "throttled": self.throttled,
            "mostIn60Seconds": most_in_window(times, 60.0),
            "imageRequests": self.image_requests,
            "imageStatuses": {str(status): count for status, count in sorted(self.image_statuses.items())},
            "imagesNotModified": self.image_statuses[304],
            "imageBytes": self.image_bytes,
            "imagesDistinct": len(self.image_paths),
            "imagesRepeated": sum(count > 1 for count in self.image_paths.values()),
        }
