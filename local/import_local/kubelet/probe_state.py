"""What a probe's outcomes mean: a pure state machine."""

from dataclasses import dataclass, replace
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """Timing (seconds) and thresholds of a probe, with the defaults of the Kubernetes API."""

    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3

    @classmethod
    def from_probe(cls, probe: Json) -> "ProbeSettings":
        """Read a probe of the API."""
        return cls(
            initial_delay=float(probe.get("initialDelaySeconds") or 0),
            period=float(probe.get("periodSeconds") or 10),
            timeout=float(probe.get("timeoutSeconds") or 1),
            success_threshold=int(probe.get("successThreshold") or 1),
            failure_threshold=int(probe.get("failureThreshold") or 3),
        )


@dataclass(frozen=True, slots=True)
class ProbeState:
    """The run of equal outcomes so far, and the verdict: None until a threshold is reached."""

    successes: int = 0
    failures: int = 0
    verdict: bool | None = None


def record_outcome(state: ProbeState, succeeded: bool, settings: ProbeSettings) -> ProbeState:
    """Return the state after one more outcome: the verdict changes only at a threshold."""
    if succeeded:
        after = ProbeState(successes=state.successes + 1, verdict=state.verdict)
        return replace(after, verdict=True) if after.successes >= settings.success_threshold else after
    after = ProbeState(failures=state.failures + 1, verdict=state.verdict)
    return replace(after, verdict=False) if after.failures >= settings.failure_threshold else after
