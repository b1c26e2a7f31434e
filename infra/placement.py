"""Which nodes pods run on: the label, and taint, that tell the workers' nodes from all others."""

from __future__ import annotations

from typing import Any

POOL_LABEL = "imports.avnz.io/nodes"
SERVICES = "services"
WORKERS = "workers"

WORKER_PLACEMENT: dict[str, Any] = {
    "nodeSelector": {POOL_LABEL: WORKERS},
    "tolerations": [{"key": POOL_LABEL, "operator": "Equal", "value": WORKERS, "effect": "NoSchedule"}],
}
"""What a worker's pod template says to be put on the workers' nodes."""
