"""Tells of the few things that a person wants to see in `kubectl describe`: Kubernetes Events, best-effort.

What is told again is no further Event but one more in the series of the first (events.k8s.io/v1: `series.count`),
as client-go's recorder does it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import EVENT, GROUP, Kind
from import_core.domain.errors import (
    KubernetesUnavailableError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
)
from import_core.domain.resources.conditions import bound_message
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.state import Body, name_of, uid_of

log = get_logger(__name__)

KEPT = 200
"""Events that wait; older ones go first."""
SERIES_KEPT = 1_000
"""Series that are remembered; older ones go first, and what is told again then is a new Event."""
SERIES_SECONDS = 360.0
"""What was not told for so long begins a new series (client-go: `finishTime`)."""
PER_ROUND = 10
PAUSE_SECONDS = 1.0
_Key = tuple[str, ...]


@dataclass(slots=True)
class _Series:
    """One Event, and how often it was told of."""

    body: dict[str, Any]
    count: int
    told_at: float
    """Seconds of the monotonic clock."""
    observed: str
    uid: str | None = None
    """Of the Event, once it was posted."""


class Teller(Protocol):
    """Tells people of something about an object; best-effort."""

    def tell(
        self, kind: Kind, body: Body, *, reason: str, action: str, note: str, warning: bool = False
    ) -> None:
        """Tell; `reason` and `action` are one word each."""


class TellLoop:
    """Posts Events at a bounded rate; what can't be posted is dropped, since the status says it too."""

    def __init__(self, kube: KubeClient, *, namespace: str, instance: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._instance = instance
        self._series: dict[_Key, _Series] = {}
        self._waiting: dict[_Key, None] = {}
        self._wake = asyncio.Event()

    def loop(self) -> Loop:
        """The loop."""
        return Loop("tell", self.round, interval=60.0, wake=self._wake, pause=PAUSE_SECONDS)

    def tell(
        self, kind: Kind, body: Body, *, reason: str, action: str, note: str, warning: bool = False
    ) -> None:
        """Have an Event posted about an object; `reason` and `action` are one word each.

        The same words about the same object are one Event with a count, as its note can't be changed.
        """
        now, at = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        key = (uid_of(body), reason, action, note)
        known = self._series.pop(key, None)
        if known is not None and now - known.told_at < SERIES_SECONDS:
            known.count, known.told_at, known.observed = known.count + 1, now, at
        else:
            event = self._event(kind, body, at=at, reason=reason, action=action, note=note, warning=warning)
            known = _Series(event, 1, now, at)
        self._series[key] = known
        self._waiting.setdefault(key)
        if len(self._waiting) > KEPT:
            metrics.EVENTS.labels("dropped").inc()
            del self._waiting[next(iter(self._waiting))]
        while len(self._series) > SERIES_KEPT:
            oldest = next(iter(self._series))
            self._waiting.pop(oldest, None)
            del self._series[oldest]
        self._wake.set()

    def _event(
        self, kind: Kind, body: Body, *, at: str, reason: str, action: str, note: str, warning: bool
    ) -> dict[str, Any]:
        name = name_of(body)
        return {
            "metadata": {"name": f"{name[:200]}.{uuid.uuid4().hex[:16]}"},
            "eventTime": at,
            "reportingController": f"{GROUP}/import-operator",
            "reportingInstance": self._instance,
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "action": action,
            "note": bound_message(note),
            "regarding": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": self._namespace,
                "name": name,
                "uid": uid_of(body),
            },
        }

    async def round(self) -> None:
        """Post a few."""
        for key in list(self._waiting)[:PER_ROUND]:
            del self._waiting[key]
            try:
                result = await self._post(self._series[key])
            except (ObjectRefusedError, ObjectForbiddenError, ObjectNotFoundError) as error:
                metrics.EVENTS.labels("refused").inc()
                log.warning("event.refused", message=error.message)
            except KubernetesUnavailableError:
                metrics.EVENTS.labels("dropped").inc()
                raise
            else:
                metrics.EVENTS.labels(result).inc()
        if self._waiting:
            self._wake.set()

    async def _post(self, series: _Series) -> str:
        """Post the Event, or count in the one that is there; it may have expired since."""
        counted = {"series": {"count": series.count, "lastObservedTime": series.observed}}
        if series.uid is not None:
            name = str(series.body["metadata"]["name"])
            try:
                await self._kube.merge(EVENT, self._namespace, name, counted, uid=series.uid)
            except (ObjectNotFoundError, ObjectConflictError):
                series.uid = None
            else:
                return "counted"
        body = {**series.body, **(counted if series.count > 1 else {})}
        series.uid = uid_of(await self._kube.create(EVENT, self._namespace, body))
        return "posted"
