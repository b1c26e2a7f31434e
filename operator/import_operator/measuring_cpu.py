"""Measures the CPU that a pool's workers use, from metrics.k8s.io, while the depth of their queue is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import POD_METRICS
from import_core.domain.cpu_use import CpuUse, requested_cores, used_cores
from import_core.domain.errors import (
    ImportOperatorError,
    ObjectForbiddenError,
    ObjectNotFoundError,
)
from import_core.observability.logs import get_logger
from import_operator.deployments import POOL_LABEL

log = get_logger(__name__)

LOOK_SECONDS = 15.0
"""As often as metrics-server measures."""
TIMEOUT_SECONDS = 2.0
"""A slow metrics API must not keep other pools from their turn."""


class CpuKnown(StrEnum):
    """Whether the CPU of a pool's workers is known, or why not."""

    MEASURED = "workers are added by their CPU (metrics.k8s.io), none is taken away"
    NO_API = "the number of workers is held, as the cluster has no metrics API (metrics.k8s.io)"
    FORBIDDEN = "the number of workers is held, as the operator may not list pods.metrics.k8s.io"
    UNAVAILABLE = "the number of workers is held, as the metrics API (metrics.k8s.io) does not answer"
    NO_REQUEST = "the number of workers is held, as their template requests no CPU"
    NO_WORKER = "the number of workers is held, as no worker's CPU was measured lately"


@dataclass(frozen=True, slots=True)
class CpuLook:
    """What a look has found."""

    known: CpuKnown
    use: CpuUse | None = None
    at: float = 0.0


class CpuMeasure:
    """Remembers the last look at each pool for as long as it is good."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._looks: dict[str, CpuLook] = {}

    def last(self, pool: str) -> CpuLook | None:
        """What the last look at a pool has found, while the depth is unknown."""
        return self._looks.get(pool)

    def forget(self, pool: str) -> None:
        """The depth is known again, or the pool is gone."""
        self._looks.pop(pool, None)

    async def look(self, pool: str, deployment: Mapping[str, Any], now: float) -> CpuUse | None:
        """CPU that the pool's workers use; None where it is not known."""
        last = self._looks.get(pool)
        if last is None or now - last.at >= LOOK_SECONDS:
            known, use = await self._measure(pool, deployment)
            if last is None or last.known is not known:
                log.warning("cpu.looked_at", pool=pool, known=known.name)
            self._looks[pool] = last = CpuLook(known, use, now)
        return last.use

    async def _measure(self, pool: str, deployment: Mapping[str, Any]) -> tuple[CpuKnown, CpuUse | None]:
        template = ((deployment.get("spec") or {}).get("template") or {}).get("spec") or {}
        requested = requested_cores(template)
        if requested is None:
            return CpuKnown.NO_REQUEST, None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                pods = [
                    pod
                    async for pod in self._kube.list(POD_METRICS, self._namespace, labels={POOL_LABEL: pool})
                ]
        except ObjectNotFoundError:
            return CpuKnown.NO_API, None
        except ObjectForbiddenError:
            return CpuKnown.FORBIDDEN, None
        except (ImportOperatorError, TimeoutError):
            return CpuKnown.UNAVAILABLE, None
        used, measured = used_cores(pods, datetime.now(UTC))
        if not measured:
            return CpuKnown.NO_WORKER, None
        return CpuKnown.MEASURED, CpuUse(used, measured, requested)
