"""Tells of the few things that a person wants to see in `kubectl describe`: Kubernetes Events, best-effort."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import EVENT, GROUP, Kind
from import_core.domain.errors import (
    KubernetesUnavailableError,
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
PER_ROUND = 10
PAUSE_SECONDS = 1.0


class TellLoop:
    """Posts Events at a bounded rate; what can't be posted is dropped, since the status says it too."""

    def __init__(self, kube: KubeClient, *, namespace: str, instance: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._instance = instance
        self._waiting: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._wake = asyncio.Event()

    def loop(self) -> Loop:
        """The loop."""
        return Loop("tell", self.round, interval=60.0, wake=self._wake, pause=PAUSE_SECONDS)

    def tell(
        self, kind: Kind, body: Body, *, reason: str, action: str, note: str, warning: bool = False
    ) -> None:
        """Have an Event posted about an object; `reason` and `action` are one word each."""
        if len(self._waiting) == KEPT:
            metrics.EVENTS.labels("dropped").inc()
        name = name_of(body)
        self._waiting.append(
            {
                "metadata": {"name": f"{name[:200]}.{uuid.uuid4().hex[:16]}"},
                "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
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
        )
        self._wake.set()

    async def round(self) -> None:
        """Post a few."""
        for _ in range(min(PER_ROUND, len(self._waiting))):
            event = self._waiting.popleft()
            try:
                await self._kube.create(EVENT, self._namespace, event)
            except (ObjectRefusedError, ObjectForbiddenError, ObjectNotFoundError) as error:
                metrics.EVENTS.labels("refused").inc()
                log.warning("event.refused", message=error.message)
            except KubernetesUnavailableError:
                metrics.EVENTS.labels("dropped").inc()
                raise
            else:
                metrics.EVENTS.labels("posted").inc()
        if self._waiting:
            self._wake.set()
