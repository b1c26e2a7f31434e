"""The backup signal while the depth is unknown: how much CPU workers use of what they request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

DEPTH_UNKNOWN_SECONDS = 60.0
"""The number of workers is held for so long before the CPU counts: most outages are shorter."""
TOLERANCE = 1.1
"""Up to a tenth above the target is as good as the target, as with a HorizontalPodAutoscaler."""
OLDEST_USE = timedelta(minutes=2)
"""An older measure says nothing of now; metrics-server measures every 15 s."""
LEAST_REQUEST = 0.001
"""Kubernetes knows no finer CPU than a thousandth of a core; less is no request."""

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?")
_FACTORS = {
    "": 1.0,
    **{"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18},
    **{f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)},
}


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPU that workers use, in cores. Workers without a measure count as using none, which asks for fewer."""

    used: float
    """By all workers that were measured."""
    measured: int
    """Workers that were measured."""
    requested: float
    """By one worker."""


def needed_by_cpu(use: CpuUse, *, current: int, target_percent: int) -> int | None:
    """Workers that the use asks for, where it asks for more than `current`; None: no more than there are."""
    target = use.requested * target_percent / 100.0
    if use.requested < LEAST_REQUEST or use.measured == 0 or use.used <= TOLERANCE * target * current:
        return None
    # A billionth less: a sum of fractions that should be whole may come out a little above.
    return -int(-(use.used / target - 1e-9) // 1)


def cores_of(quantity: object) -> float | None:
    """A Kubernetes quantity of CPU (`250m`, `1842391n`, `2`) in cores; None where it is none."""
    found = _QUANTITY.fullmatch(str(quantity))
    if found is None:
        return None
    number, suffix = float(found[1]), found[2] or ""
    return number * _FACTORS[suffix] if suffix in _FACTORS else number * 10.0 ** int(suffix[1:])


def requested_cores(pod_spec: Mapping[str, Any]) -> float | None:
    """CPU that a pod of this spec requests; None where any container requests none.

    A limit without a request is the request, as the API server has it.
    """
    cores = 0.0
    for container in pod_spec.get("containers") or ():
        resources = container.get("resources") or {}
        wanted = (resources.get("requests") or {}).get("cpu", (resources.get("limits") or {}).get("cpu"))
        requested = None if wanted is None else cores_of(wanted)
        if requested is None:
            return None
        cores += requested
    return cores if cores >= LEAST_REQUEST else None


def used_cores(pods: Iterable[Mapping[str, Any]], now: datetime) -> tuple[float, int]:
    """CPU that pods use, and how many were measured, by the items of a PodMetricsList (metrics.k8s.io/v1beta1).

    A pod whose measure is too old, or that has a container without one, was not measured.
    """
    used, measured = 0.0, 0
    for pod in pods:
        taken_at = datetime.fromisoformat(str(pod.get("timestamp") or "0001-01-01T00:00:00Z"))
        containers = pod.get("containers") or []
        cores = [cores_of((container.get("usage") or {}).get("cpu")) for container in containers]
        if not cores or None in cores or now - taken_at > OLDEST_USE:
            continue
        used += sum(core for core in cores if core is not None)
        measured += 1
    return used, measured
