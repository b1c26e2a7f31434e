"""Connections to Redis whose every failure is one that the client knows, and answers by a new connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError


@contextmanager
def closed_is_an_outage() -> Iterator[None]:
    """Turn uvloop's word for a transport that has closed under the caller into redis-py's.

    uvloop raises RuntimeError where asyncio's own loop raises an OSError (uvloop, handles/handle.pyx), which
    redis-py takes for a mistake of the program.
    """
    try:
        yield
    except RuntimeError as error:
        if "is closed" not in str(error):
            raise
        raise RedisConnectionError("the connection has closed") from error


class _Sober:
    """Mixed into a connection class."""

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        with closed_is_an_outage():
            await super().send_packed_command(*args, **options)  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        with closed_is_an_outage():
            return await super().read_response(*args, **options)  # type: ignore[misc]


class PlainConnection(_Sober, Connection):
    """Over TCP."""


class EncryptedConnection(_Sober, SSLConnection):
    """Over TLS."""


def pool(url: str, **options: Any) -> ConnectionPool:
    """A pool of such connections; `options` as redis-py's."""
    made = ConnectionPool.from_url(url, **options)
    encrypted = issubclass(made.connection_class, SSLConnection)
    made.connection_class = EncryptedConnection if encrypted else PlainConnection
    return made
