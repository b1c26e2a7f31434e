"""How many connections the database must bear: plain calculations from the most workers and their pools.

With a proxy, the pools' connections share BUSY_PART of their number at the server. That holds only while no session is
pinned (Amazon RDS User Guide, "Avoiding pinning an RDS Proxy": SET and set_config, named prepared statements, LISTEN,
advisory locks of sessions, statements over 16 KB, …); a pinned one counts like one without a proxy, for as long as the
pool keeps it. The processes do none of this through the proxy once they know the direct address, and a test holds them
to it (tests/integration/postgres/test_poolers.py). Advisory locks of transactions don't pin. The limits that
DatabaseProxy's INIT_QUERY sets are part of it: without them each page's transaction would set its own.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

# What a process opens; a test compares these with the processes' own numbers.
WORKER_POOL = 9
SERVICE_POOL = 8
DIRECT = 3
"""Connections of each process beside its pool: LISTEN (up to two) and the sign of life."""

SURGE = 1.25
"""Old and new pods overlap while a version rolls out."""
RESERVED = 25
"""The server's own, migrations and people."""
BUSY_PART = 0.25
"""Part of the pools' connections that are busy at the same time, as the proxy sees them."""

_BYTES_PER_CONNECTION = 9_531_392
_MOST_CONNECTIONS = 5_000
_CLASS = re.compile(
    r"^db\.(?P<family>[mrt])\d+[a-z]*\.(?:(?P<times>\d*)x)?(?P<size>micro|small|medium|large)$"
)
_GIB = {"m": 8, "r": 16, "t": 8}
_SMALL_GIB = {"micro": 1, "small": 2, "medium": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionBudget:
    """What the processes open, and what of it reaches the server."""

    pooled: int
    """Connections of all pools."""
    direct: int
    """Connections that go straight to the server, proxy or not."""
    proxied: int | None
    """Connections that the proxy makes out of the pooled ones; None: there is no proxy."""

    @property
    def at_server(self) -> int:
        """Connections that the server must bear."""
        return self.direct + (self.pooled if self.proxied is None else self.proxied) + RESERVED

    @property
    def max_connections(self) -> int:
        """The server's limit that leaves a tenth free, in whole fifties."""
        return max(100, 50 * math.ceil(self.at_server * 1.1 / 50))

    def proxy_percent(self, max_connections: int) -> int:
        """Part of the server's limit that the proxy may use, so that direct connections always find room."""
        free = max_connections - self.direct - RESERVED
        return max(1, min(100, math.floor(100 * free / max_connections)))


def connection_budget(*, workers: int, operators: int, gateways: int, proxy: bool) -> ConnectionBudget:
    """The budget of so many processes, all of them at once while a version rolls out."""
    worker_pods = math.ceil(workers * SURGE)
    service_pods = operators + gateways + 2
    pooled = worker_pods * WORKER_POOL + service_pods * SERVICE_POOL
    direct = (worker_pods + service_pods) * DIRECT
    return ConnectionBudget(
        pooled=pooled, direct=direct, proxied=math.ceil(pooled * BUSY_PART) if proxy else None
    )


def bearable_connections(instance_class: str) -> int | None:
    """Connections that RDS allows an instance of this size by its memory; None for families not known here."""
    match = _CLASS.match(instance_class)
    if match is None:
        return None
    size, times = match["size"], match["times"]
    if size in _SMALL_GIB:
        gib = _SMALL_GIB[size]
    else:
        # large is half of xlarge; 2xlarge is two of those.
        gib = _GIB[match["family"]] * (1 if times is None else 2 * int(times or 1))
    return min(_MOST_CONNECTIONS, gib * 2**30 // _BYTES_PER_CONNECTION)
