"""Which servers may be asked: which image URLs are well-formed and which addresses are out of bounds.

Merchants name image URLs and provider addresses, so they are untrusted: without these rules one could make
a worker read the cloud's metadata service, the cluster's own services or the worker's loopback
(server-side request forgery). The rules are decided on resolved addresses, never on names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from import_core.domain.errors import ImportOperatorError, InvalidInputError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_LENGTH = 2_048
"""Characters; what browsers and CDNs commonly accept."""
DEFAULT_PORTS = {"http": 80, "https": 443}
ALLOWED_PORTS = frozenset({80, 443, 8080, 8443})
"""Ports of web servers; any other is refused unless the allow-list names it (mail, databases, ...)."""
MAX_DISPLAY_LENGTH = 200

# IANA's special-purpose registries (RFC 6890 and its updates), spelt out because what the standard
# library calls "global" changed between Python's patch releases.
_FORBIDDEN_V4 = {
    "0.0.0.0/8": "unspecified",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "a cloud provider's metadata service",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "reserved",
    "192.88.99.0/24": "reserved",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "reserved",
    "198.51.100.0/24": "reserved",
    "203.0.113.0/24": "reserved",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
_FORBIDDEN_V6 = {
    "::/128": "unspecified",
    "::1/128": "loopback",
    "64:ff9b:1::/48": "private",
    "100::/64": "reserved",
    "2001::/23": "reserved",
    "2001:db8::/32": "reserved",
    "3fff::/20": "reserved",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "private",
    "ff00::/8": "multicast",
}
_V4_RULES = tuple((ipaddress.IPv4Network(network), kind) for network, kind in _FORBIDDEN_V4.items())
_V6_RULES = tuple((ipaddress.IPv6Network(network), kind) for network, kind in _FORBIDDEN_V6.items())
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class ForbiddenAddressError(ImportOperatorError):
    """A host has an address that must not be connected to."""


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """One entry of an allow-list: a network that may be connected to although it is not public.

    Without a port every port of it is open, else only that one.
    """

    network: IPNetwork
    port: int | None = None

    def covers(self, address: IPAddress, port: int) -> bool:
        """Whether this entry opens `address` and `port`."""
        return (
            address.version == self.network.version and address in self.network and self.port in {None, port}
        )


@dataclass(frozen=True, slots=True)
class ImageAddress:
    """A checked image URL, with the host and port it names."""

    url: str
    scheme: str
    host: str
    port: int


def parse_allow_list(text: str) -> tuple[AllowedNetwork, ...]:
    """Read comma-separated networks or addresses, each optionally with a port.

    Examples: `127.0.0.1:8080`, `10.1.0.0/16`, `[::1]:8080`, `fd00::/8`. Names are not accepted: an
    entry must say where the bytes come from, and a name leaves that to whoever answers for DNS.
    Raises InvalidInputError naming the entry.
    """
    return tuple(_parse_allowed(entry.strip()) for entry in text.split(",") if entry.strip())


def _parse_allowed(entry: str) -> AllowedNetwork:
    network, port = entry, None
    if entry.startswith("["):
        network, _, rest = entry[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise InvalidInputError("allow-list", f"{entry!r} is not a network, address or address:port")
        port = rest[1:] or None
    elif entry.count(":") == 1:
        network, _, port = entry.partition(":")
    try:
        number = None if port is None else int(port)
        parsed = ipaddress.ip_network(network)
    except ValueError as error:
        raise InvalidInputError("allow-list", f"{entry!r}: {error}") from error
    if number is not None and not 1 <= number <= 65_535:
        raise InvalidInputError("allow-list", f"{entry!r}: the port must be between 1 and 65535")
    return AllowedNetwork(parsed, number)


def forbidden_kind(address: IPAddress) -> str | None:
    """Say why an address is not a public one ("private", "loopback", ...), or None if it is public.

    Addresses that carry an IPv4 address inside (mapped, compatible, NAT64, 6to4, Teredo) are judged by that.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return next((kind for network, kind in _V4_RULES if address in network), None)
    embedded = _embedded_v4(address)
    if embedded is not None:
        return forbidden_kind(embedded)
    for network, kind in _V6_RULES:
        if address in network:
            return kind
    return None if address in _GLOBAL_UNICAST else "reserved"


def _embedded_v4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def is_forbidden_address(address: IPAddress, port: int, allow: Sequence[AllowedNetwork] = ()) -> bool:
    """Whether nothing may be fetched from `address` and `port`: the short form of `refusal`."""
    return refusal(address, port, allow) is not None


def refusal(address: IPAddress, port: int, allow: Sequence[AllowedNetwork] = ()) -> str | None:
    """Say why `address` and `port` must not be connected to, or None if they may.

    The reason completes the sentence "the host resolves to <address>, which is ...".
    """
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(entry.covers(address, port) for entry in allow):
        return None
    kind = forbidden_kind(address)
    if kind is not None:
        return f"{kind} and not in the allow-list"
    if port not in ALLOWED_PORTS:
        return f"asked for port {port}, which is not a web server's"
    return None


def parse_image_url(url: str) -> ImageAddress:
    """Check an image URL's form; whether its host may be connected to is decided once it is resolved.

    Raises InvalidInputError with field "url" whose reason names the problem.
    """
    if len(url) > MAX_URL_LENGTH:
        raise InvalidInputError("url", f"is {len(url)} characters long, at most {MAX_URL_LENGTH} are allowed")
    if any(ord(char) <= 0x20 or 0x7F <= ord(char) <= 0x9F or char == "\\" for char in url):
        raise InvalidInputError("url", "has a space, control character or backslash in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInputError("url", f"can't be read: {error}") from error
    if parts.scheme not in DEFAULT_PORTS:
        raise InvalidInputError("url", f"must start with http:// or https://, not {parts.scheme[:20]!r}")
    if "@" in parts.netloc:
        raise InvalidInputError("url", "has a user name or password in it")
    if not parts.hostname:
        raise InvalidInputError("url", "has no host")
    if port == 0:
        raise InvalidInputError("url", "has port 0")
    return ImageAddress(url, parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme])


def display_url(url: str) -> str:
    """Shorten a URL for messages: without user, query or fragment (they may hold secrets), printable, bounded."""
    bare = url.split("?", 1)[0].split("#", 1)[0]
    scheme, separator, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    shown = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}" if separator else bare
    printable = "".join(char if char.isprintable() else "�" for char in shown)
    return printable if len(printable) <= MAX_DISPLAY_LENGTH else printable[: MAX_DISPLAY_LENGTH - 1] + "…"
