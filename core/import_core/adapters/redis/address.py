"""Where Redis is, from one address or from host, port and password."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from import_core.domain.errors import InvalidInputError

DEFAULT_PORT = "6379"
_HIGHEST_PORT = 65_535


def redis_address(*, url: str, host: str, port: str = DEFAULT_PORT, password: str = "") -> str:
    """The address to connect to: `url` where it is given, whatever the others say; else of the others.

    Raises InvalidInputError naming the variable, never a password.
    """
    if url:
        return url
    if not host:
        raise InvalidInputError("REDIS_URL", "is missing, and so is REDIS_HOST")
    if any(character in host for character in "/@?#") or host.split() != [host]:
        raise InvalidInputError("REDIS_HOST", "must be the name or address of a host alone")
    if "://" in port:
        # Of a Service named redis: https://kubernetes.io/docs/tutorials/services/connect-applications-service/
        reason = "holds a Kubernetes service link: set enableServiceLinks: false, or REDIS_URL"
        raise InvalidInputError("REDIS_PORT", reason)
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT):
        raise InvalidInputError("REDIS_PORT", f"must be a whole number from 1 to {_HIGHEST_PORT}")
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    credentials = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{credentials}{shown}:{port}/0"


def redis_address_in(environment: Mapping[str, str]) -> str | None:
    """The address that the environment's variables name; None: neither REDIS_URL nor REDIS_HOST is set.

    Raises InvalidInputError.
    """
    url, host = environment.get("REDIS_URL", ""), environment.get("REDIS_HOST", "")
    if not url and not host:
        return None
    return redis_address(
        url=url,
        host=host,
        port=environment.get("REDIS_PORT") or DEFAULT_PORT,
        password=environment.get("REDIS_PASSWORD", ""),
    )
