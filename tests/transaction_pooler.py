"""A pooler in transaction mode that is as strict as RDS Proxy, for tests: its server connections are shared after each
transaction, and it notes whatever would make RDS Proxy keep one for a single client.

What it refuses and what it notes is taken from Amazon RDS's documentation ("Avoiding pinning an RDS Proxy"). It
speaks protocol 3 without TLS, and lets in whoever reaches it on loopback.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg

from import_core.adapters.tasks import end_tasks

OPTIONS_REFUSED = "Feature not supported: RDS Proxy currently doesn't support command-line options."
PINNING = re.compile(
    r"(?:^|;)\s*(?:SET|RESET|PREPARE|EXECUTE|DEALLOCATE|DISCARD|LISTEN|UNLISTEN|DECLARE|LOAD)\b"
    r"|\bCREATE\s+TEMP|\b(?:set_config|nextval|setval)\s*\(|\bpg_(?:try_)?advisory_(?:un)?lock",
    re.IGNORECASE,
)
STATEMENT_BYTES = 16 * 1024
_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_REPORTED = (
    *("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes"),
    *("standard_conforming_strings", "IntervalStyle", "is_superuser", "session_authorization"),
)


@dataclass
class _Server:
    """One connection to PostgreSQL: opened by the driver, then spoken to byte by byte."""

    connection: psycopg.AsyncConnection[tuple[object, ...]]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class TransactionPooler:
    """`size` connections to `server_url`, each begun with `init_query`, behind one port on loopback."""

    def __init__(self, server_url: str, *, size: int, init_query: str = "") -> None:
        self._server_url = server_url
        self._size = size
        self._init_query = init_query
        self._free: asyncio.Queue[_Server] = asyncio.Queue()
        self._servers: list[_Server] = []
        self._clients: set[asyncio.Task[None]] = set()
        self._door: asyncio.Server | None = None
        self.pins: list[str] = []
        """What would have bound a client to one server connection."""
        self.names: set[str] = set()
        """application_name of each client that came."""
        self.transactions = 0

    async def __aenter__(self) -> TransactionPooler:
        for _ in range(self._size):
            connection = await psycopg.AsyncConnection.connect(self._server_url, autocommit=True)
            if self._init_query:
                await connection.execute(self._init_query.encode())
            line = socket.socket(fileno=os.dup(connection.fileno()))
            line.setblocking(False)
            server = _Server(connection, *await asyncio.open_connection(sock=line))
            self._servers.append(server)
            self._free.put_nowait(server)
        self._door = await asyncio.start_server(self._open, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._door is not None
        self._door.close()
        await end_tasks(list(self._clients))
        for server in self._servers:
            server.writer.close()
            await server.connection.close()

    @property
    def url(self) -> str:
        """The address of the database through the pooler."""
        assert self._door is not None
        parts = urlsplit(self._server_url)
        port = self._door.sockets[0].getsockname()[1]
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))

    def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._welcome(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                if await self._let_in(reader, writer):
                    await self._serve(reader, writer)
        finally:
            writer.close()

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            packet = await reader.readexactly(length - 4)
            (code,) = struct.unpack_from("!I", packet)
            if code in {_SSL, _GSS}:
                writer.write(b"N")
                continue
            if code == _CANCEL:
                return False
            break
        words = packet[4:].decode().split("\0")
        parameters = dict(zip(words[::2], words[1::2], strict=False))
        if "options" in parameters:
            fields = f"SFATAL\0VFATAL\0C0A000\0M{OPTIONS_REFUSED}\0\0"
            writer.write(_message(b"E", fields.encode()))
            await writer.drain()
            return False
        self.names.add(parameters.get("application_name", ""))
        info = self._servers[0].connection.info
        told = [(name, info.parameter_status(name)) for name in _REPORTED]
        writer.write(
            _message(b"R", struct.pack("!I", 0))
            + b"".join(
                _message(b"S", f"{name}\0{value}\0".encode()) for name, value in told if value is not None
            )
            + _message(b"K", struct.pack("!II", 0, 0))
            + _message(b"Z", b"I")
        )
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lend a server connection for each transaction, or for good once something pinned it."""
        server: _Server | None = None
        pinned = False
        try:
            while (batch := await self._batch(reader)) is not None:
                before = len(self.pins)
                for kind, body in batch:
                    self._look(kind, body)
                pinned = pinned or len(self.pins) > before
                server = server or await self._free.get()
                server.writer.write(b"".join(_message(kind, body) for kind, body in batch))
                idle = await _answer(server, writer)
                if idle and not pinned:
                    self.transactions += 1
                    self._free.put_nowait(server)
                    server = None
        finally:
            if server is not None:
                # A client that left in the middle: what it did is undone by the server only when asked to.
                await _roll_back(server)
                self._free.put_nowait(server)

    async def _batch(self, reader: asyncio.StreamReader) -> list[tuple[bytes, bytes]] | None:
        """The messages up to the next that PostgreSQL answers as a whole; None: the client leaves."""
        batch: list[tuple[bytes, bytes]] = []
        while True:
            kind, body = await _read(reader)
            if kind == b"X":
                return None
            batch.append((kind, body))
            if kind in {b"S", b"Q"}:
                return batch

    def _look(self, kind: bytes, body: bytes) -> None:
        if kind == b"Q":
            name, text = "", body.split(b"\0")[0].decode()
        elif kind == b"P":
            name, text = (part.decode() for part in body.split(b"\0")[:2])
        else:
            return
        if name:
            self.pins.append(f"prepared as {name}: {text}")
        elif PINNING.search(text):
            self.pins.append(text)
        elif len(text.encode()) > STATEMENT_BYTES:
            self.pins.append(f"{len(text)} characters: {text[:80]}")


async def _answer(server: _Server, writer: asyncio.StreamWriter) -> bool:
    """Pass on what the server answers; whether it is outside a transaction then."""
    while True:
        kind, body = await _read(server.reader)
        writer.write(_message(kind, body))
        if kind == b"Z":
            await writer.drain()
            return body == b"I"


async def _roll_back(server: _Server) -> None:
    server.writer.write(_message(b"Q", b"ROLLBACK\0"))
    while (await _read(server.reader))[0] != b"Z":
        pass


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body
