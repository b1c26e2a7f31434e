"""What rollouts need to know of the workers' pods: which version they run, and how often it restarted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from import_core.domain.worker_restarts import Restarts, restarts_of
from import_operator.deployments import HASH_LABEL
from import_operator.state import Body


@dataclass(frozen=True, slots=True)
class VersionPods:
    """The live pods of one version, those that stop included."""

    pods: tuple[Restarts, ...]

    @property
    def restarts(self) -> int:
        """How often the version's workers restarted in their pods' lives."""
        return sum(pod.count for pod in self.pods)

    def restarted_since(self, since: datetime) -> int:
        """How often workers restarted in those pods in which the last restart was since then."""
        return sum(pod.count for pod in self.pods if pod.ended_at is not None and pod.ended_at >= since)


def pods_of_version(pods: Iterable[Body], version: str) -> VersionPods:
    """Those of the pods that run a version of a pool's template."""
    return VersionPods(
        tuple(
            restarts_of(pod)
            for pod in pods
            if (pod["metadata"].get("labels") or {}).get(HASH_LABEL) == version
        )
    )
