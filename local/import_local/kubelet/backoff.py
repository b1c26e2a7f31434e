"""When a container that ended is started again: pure decisions."""

from dataclasses import dataclass
from typing import Literal

RestartPolicy = Literal["Always", "OnFailure", "Never"]


@dataclass(frozen=True, slots=True)
class BackOffSettings:
    """Seconds of the first delay, and the bound of its doubling. A first delay of 0 means no delays."""

    first: float = 10.0
    limit: float = 300.0


def should_restart(policy: RestartPolicy, exit_code: int) -> bool:
    """Apply a pod's restart policy to the exit code of a container."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def get_init_policy(policy: RestartPolicy) -> RestartPolicy:
    """Init containers must succeed once: Always means for them what OnFailure means."""
    return "OnFailure" if policy == "Always" else policy


def next_delay(previous: float | None, ran_for: float, settings: BackOffSettings) -> float:
    """Return the seconds to wait, counted from a container's end, before it starts again.

    `previous` is the delay before its last start (None: it has not been restarted yet) and `ran_for`
    the seconds it ran. As Kubernetes has it, the first restart is immediate, then the delay doubles up
    to its limit, and a container that ran for twice the limit begins anew.
    """
    if previous is None or ran_for >= 2 * settings.limit:
        return 0.0
    if previous == 0:
        return min(settings.first, settings.limit)
    return min(2 * previous, settings.limit)
