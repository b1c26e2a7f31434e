"""Free loopback ports, chosen where neither outgoing connections nor other installations take them meanwhile."""

import fcntl
import os
import random
import socket
from functools import cache

from import_local.errors import LocalError
from import_local.folders import cache_folder

LOOPBACK = "127.0.0.1"
# Below every common ephemeral range (Linux starts at 32768, macOS at 49152): between choosing a port and
# the server's bind, no outgoing connection of another process can be given the same one.
_FIRST, _LAST = 18_000, 32_000
_given: set[int] = set()


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
    """Return `preferred` if it is free, else a free port; LocalError when none is found.

    No other process of this user is given the same one for as long as the caller's process lives: its server
    may take seconds to listen.
    """
    if preferred is not None and _reserve(preferred) and is_free(preferred):
        return preferred
    for _ in range(200):
        port = random.randint(_FIRST, _LAST)
        if port not in _given and _reserve(port) and is_free(port):
            _given.add(port)
            return port
    raise LocalError(f"no free TCP port between {_FIRST} and {_LAST} on {LOOPBACK}")


def _reserve(port: int) -> bool:
    """Take the lock on this port's byte, which the system gives back when the process ends, however it ends."""
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


@cache
def _reservations() -> int:
    # Never closed: closing any descriptor of the file would give back all of this process's locks.
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / "ports.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
