"""Free loopback ports, chosen where the system's outgoing connections don't take them meanwhile."""

import random
import socket

from import_local.errors import LocalError

LOOPBACK = "127.0.0.1"
# Below every common ephemeral range (Linux starts at 32768, macOS at 49152): between choosing a port and
# the server's bind, no outgoing connection of another process can be given the same one.
_FIRST, _LAST = 18_000, 32_000


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(preferred: int | None = None) -> int:
    """Return `preferred` if it is free, else a free port; LocalError when none is found."""
    if preferred is not None and is_free(preferred):
        return preferred
    for _ in range(200):
        port = random.randint(_FIRST, _LAST)
        if is_free(port):
            return port
    raise LocalError(f"no free TCP port between {_FIRST} and {_LAST} on {LOOPBACK}")
