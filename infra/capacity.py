"""How many machines so many workers need: plain calculations on the sizes that are in AWS's instance types."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

WORKER_CPU = 2
WORKER_MEMORY_GIB = 4

# What the system, the kubelet and the agents of a node (logs, network, metrics) keep for themselves. Rounded
# against us: a node too many costs little, a worker that finds no place costs a night.
RESERVED_CPU = 0.5
RESERVED_MEMORY_GIB = 1.0
USABLE_MEMORY = 0.9

_GIB_PER_CPU = {"c": 2, "m": 4, "r": 8}
_CPUS = {"large": 2, "xlarge": 4}
_TYPE = re.compile(r"^(?P<family>[cmr])\d+[a-z-]*\.(?:(?P<times>\d+)xlarge|(?P<size>large|xlarge))$")


@dataclass(frozen=True, slots=True)
class InstanceSize:
    """CPUs and memory (GiB) of an instance type."""

    cpu: int
    memory: int


def instance_size(instance_type: str) -> InstanceSize:
    """Read the size out of a name such as m7i.4xlarge; raise ValueError for families that follow other rules."""
    match = _TYPE.match(instance_type)
    if match is None:
        raise ValueError(f"{instance_type} is no type of the families c, m or r, such as m7i.4xlarge")
    cpu = 4 * int(match["times"]) if match["times"] else _CPUS[match["size"]]
    return InstanceSize(cpu=cpu, memory=cpu * _GIB_PER_CPU[match["family"]])


def workers_per_node(instance_type: str) -> int:
    """Count the workers of 2 vCPU and 4 GiB that fit on one node; raise ValueError when none does."""
    size = instance_size(instance_type)
    by_cpu = (size.cpu - RESERVED_CPU) / WORKER_CPU
    by_memory = (size.memory * USABLE_MEMORY - RESERVED_MEMORY_GIB) / WORKER_MEMORY_GIB
    workers = math.floor(min(by_cpu, by_memory))
    if workers < 1:
        raise ValueError(
            f"{instance_type} has no room for a worker of {WORKER_CPU} vCPU and {WORKER_MEMORY_GIB} GiB"
        )
    return workers


def nodes_for_workers(workers: int, instance_types: list[str]) -> int:
    """Count the nodes that so many workers need, whichever of the types AWS has left to give."""
    return math.ceil(workers / min(workers_per_node(each) for each in instance_types))


# Sizes that EKS Auto Mode may choose for workers: below 8 vCPU a large part of each node is reserved.
AUTOMATIC_CPUS = (8, 16, 32)


def automatic_limits(workers: int) -> InstanceSize:
    """Give the CPUs and GiB that a node pool may grow to, so that so many workers fit whichever sizes it chooses.

    The worst choice is the smallest with the least memory: 8 vCPU and 16 GiB hold three workers. One node more may
    be on its way out while its successor is there already.
    """
    nodes = nodes_for_workers(workers, ["c7i.2xlarge"]) + 1
    # Nodes with more memory for each CPU may be what is left to buy; memory must not be what stops the pool.
    return InstanceSize(cpu=nodes * 8, memory=nodes * 8 * _GIB_PER_CPU["m"])
