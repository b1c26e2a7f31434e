"""The pods' addresses: each pod of a node has a loopback address of its own."""

import hashlib
import ipaddress
from collections.abc import Iterable
from pathlib import Path

POD_NETWORK = ipaddress.IPv4Network("127.64.0.0/10")
NODE_PREFIX = 20


def get_node_network(state: Path) -> ipaddress.IPv4Network:
    """Return a node's share (4,096 addresses) of the pods' network.

    It follows from the state folder, so that several installations on one machine (one in use, one
    under test) rarely share addresses and ports.
    """
    digest = hashlib.sha256(str(state.resolve()).encode()).digest()
    share = int.from_bytes(digest[:4], "big") % (1 << (NODE_PREFIX - POD_NETWORK.prefixlen))
    first = int(POD_NETWORK.network_address) + (share << (32 - NODE_PREFIX))
    return ipaddress.IPv4Network((first, NODE_PREFIX))


class AddressPool:
    """Hands out addresses in turn, so that one is not given again right after its release."""

    def __init__(self, network: ipaddress.IPv4Network, taken: Iterable[str] = ()) -> None:
        self._first = int(network.network_address) + 1
        self._count = network.num_addresses - 2
        self._taken = set(taken)
        self._next = 0

    def take(self) -> str:
        """Return a free address; raises LookupError when there is none."""
        for _ in range(self._count):
            address = str(ipaddress.IPv4Address(self._first + self._next))
            self._next = (self._next + 1) % self._count
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise LookupError("all pod addresses of this node are in use")

    def release(self, address: str) -> None:
        """Give an address back; one that was not taken is ignored."""
        self._taken.discard(address)
