"""A TCP proxy that misbehaves when told to: cuts, swallows, delays, throttles, and switches its target.

It stands for the network between two processes. One thing it cannot do: this machine's kernel acknowledges
what the proxy swallows, so TCP keepalive and TCP_USER_TIMEOUT never notice; only an answer that does not come
in time does, as with a server that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from import_core.adapters.tasks import end_tasks
from import_local.ports import LOOPBACK, free_port

_BUFFER_BYTES = 256 * 1024
_CONNECT_SECONDS = 10.0
_BACKLOG = 1024
# A throttled link passes its bytes in this many portions per second.
_PORTIONS_PER_SECOND = 20
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class LinkRules:
    """What happens to bytes on their way. None and 0 mean: nothing.

    `delay` is in seconds, each way; `bytes_per_second` holds per connection and way; a connection is reset
    once `bytes_until_cut` have passed, both ways together.
    """

    delay: float = 0.0
    bytes_per_second: int | None = None
    bytes_until_cut: int | None = None


class TcpProxy:
    """One listener on loopback and the connections through it; all methods belong to one event loop.

    `target` is the loopback port that new connections lead to.
    """

    def __init__(self, target: int = 0, *, port: int | None = None) -> None:
        self.target = target
        self.port = port or 0
        self.rules = LinkRules()
        self.swallows = False
        self.bytes_passed = 0
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None
        self._connections: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many connections are open now, also those that lead nowhere."""
        return len(self._connections)

    def through(self, url: str) -> str:
        """Return the URL with this proxy's address instead of its own."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{LOOPBACK}:{self.port}"))

    async def start(self) -> None:
        """Listen, at the same port as before; nothing happens when it does already."""
        if self._server is not None:
            return
        self.port = self.port or free_port()
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self).near, LOOPBACK, self.port, backlog=_BACKLOG, reuse_address=True
        )

    async def stop(self) -> None:
        """Reset all connections and give the port back."""
        await self.cut()
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None

    async def cut(self) -> None:
        """Reset all connections and refuse new ones; the port stays ours."""
        if self._server is not None:
            self._server.close()
            self._server = None
            # Bound, but not listening: connecting is refused, and nobody else can take the port.
            self._placeholder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._placeholder.bind((LOOPBACK, self.port))
        self.reset_connections()
        await end_tasks(list(self._connecting))

    async def heal(self) -> None:
        """End every misbehaviour. Connections that have lost bytes are reset, the others go on."""
        self.swallows = False
        for connection in list(self._connections):
            connection.find_again()
        self.set_rules(LinkRules())
        await self.start()

    def black_hole(self) -> None:
        """Pass nothing any more, and tell nobody: no end, no reset; new connections are accepted."""
        self.swallows = True
        self.lose_connections()

    def lose_connections(self) -> None:
        """Let present connections be half-open from now on, as after a firewall's restart; new ones work."""
        for connection in list(self._connections):
            connection.lose()

    def set_rules(self, rules: LinkRules) -> None:
        """Hold these rules from now on, for all connections; what waits passes at once."""
        self.rules = rules
        for connection in list(self._connections):
            connection.start_anew()

    def reset_connections(self) -> None:
        """Reset all connections; new ones work."""
        for connection in list(self._connections):
            connection.reset()

    def point_to(self, target: int) -> None:
        """Lead new connections to another port and reset the present ones, as a database's endpoint does."""
        self.target = target
        self.reset_connections()

    def opened(self, connection: _Connection) -> None:
        """Take a new connection in, and reach the target for it."""
        self._connections.add(connection)
        if self._server is None:  # it was on its way while the link was cut
            connection.reset()
        elif self.swallows:
            connection.lose()
        else:
            task = asyncio.get_running_loop().create_task(self._reach_target(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def closed(self, connection: _Connection) -> None:
        """Forget a connection that both sides have left."""
        self._connections.discard(connection)

    async def _reach_target(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.create_connection(lambda: connection.far, LOOPBACK, self.target)
        except (OSError, TimeoutError):
            connection.reset()


class _Connection:
    """Two sockets and what is on its way between them."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.proxy = proxy
        self.lost = False
        self.lost_something = False
        self.near, self.far = _Side(self), _Side(self)
        self.near.other, self.far.other = self.far, self.near
        self._passed = 0

    def start_anew(self) -> None:
        """Let everything that waits pass, and count from 0 again."""
        self._passed = 0
        for side in (self.near, self.far):
            side.pass_on(all_of_it=True)

    def lose(self) -> None:
        """Be half-open: read on, and pass nothing."""
        self.lost = True
        for side in (self.near, self.far):
            side.pass_on()

    def find_again(self) -> None:
        """Go on after having been lost, if that is possible."""
        if self.lost_something or (self.lost and self.far.transport is None):
            self.reset()
        self.lost = False

    def count(self, data: bytes) -> bytes:
        """Count bytes that pass, and return those that still may."""
        limit = self.proxy.rules.bytes_until_cut
        if limit is not None:
            data = data[: max(0, limit - self._passed)]
        self._passed += len(data)
        self.proxy.bytes_passed += len(data)
        return data

    def is_used_up(self) -> bool:
        """Whether as many bytes have passed as may."""
        limit = self.proxy.rules.bytes_until_cut
        return limit is not None and self._passed >= limit

    def close_if_ended(self) -> None:
        """Close both sockets once the end of the stream has gone both ways."""
        if self.near.has_sent_end and self.far.has_sent_end:
            for side in (self.near, self.far):
                if side.transport is not None:
                    side.transport.close()

    def reset(self) -> None:
        """Break both sides the hard way."""
        for side in (self.near, self.far):
            side.reset()
        self.proxy.closed(self)

    def ended(self, side: _Side, error: Exception | None) -> None:
        """Tell one side that the other is gone, unless the connection is lost."""
        if self.lost:
            self.lost_something = True
        elif error is not None:
            side.other.reset()
        if side.other.transport is None:
            self.proxy.closed(self)


class _Side(asyncio.Protocol):
    """One of a connection's sockets; what it receives waits here for its time to go to the other side."""

    other: _Side

    def __init__(self, connection: _Connection) -> None:
        self.transport: asyncio.Transport | None = None
        self._connection = connection
        self._waiting: deque[tuple[float, bytes]] = deque()  # b"" is the end of the stream
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._last_due = 0.0
        self._writable = True
        self._was_reset = False
        self._has_read_end = False
        self.has_sent_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a TCP transport is needed")
        self.transport = transport
        transport.set_write_buffer_limits(_BUFFER_BYTES)
        if self is self._connection.near:
            self._connection.proxy.opened(self._connection)
        elif self.other.transport is None or self._was_reset:
            self.reset()  # the one that it was made for has left meanwhile
        else:
            self.other.pass_on()

    def data_received(self, data: bytes) -> None:
        if self._connection.lost:
            self._connection.lost_something = True
            return
        rules = self._connection.proxy.rules
        self._last_due = max(self._last_due, asyncio.get_running_loop().time() + rules.delay)
        if rules.bytes_per_second is None:
            self._append(data)
        else:
            portion = max(1, rules.bytes_per_second // _PORTIONS_PER_SECOND)
            for start in range(0, len(data), portion):
                piece = data[start : start + portion]
                self._last_due += len(piece) / rules.bytes_per_second
                self._append(piece)
        self.pass_on()

    def eof_received(self) -> bool:
        self._has_read_end = True
        if self._connection.lost:
            self._connection.lost_something = True
        else:
            self._append(b"")
            self.pass_on()
        return True  # the other way stays open, as it does without a proxy

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._writable = True
        self._connection.ended(self, exc)

    def pause_writing(self) -> None:
        self._writable = False
        self.other.hold_back()

    def resume_writing(self) -> None:
        self._writable = True
        self.other.pass_on()

    def hold_back(self) -> None:
        """Read no more for now: what was read already is as much as may wait."""
        if self.transport is not None and self.transport.is_reading() and not self._has_read_end:
            self.transport.pause_reading()

    def reset(self) -> None:
        """Break this side with a reset instead of an orderly end."""
        self._was_reset = True
        self._waiting.clear()
        self._waiting_bytes = 0
        self._cancel_timer()
        if self.transport is None:
            return
        endpoint = self.transport.get_extra_info("socket")
        if endpoint is not None and endpoint.fileno() >= 0:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def pass_on(self, *, all_of_it: bool = False) -> None:
        """Give the other side what is due, while it takes it; come back when more is due."""
        self._cancel_timer()
        loop = asyncio.get_running_loop()
        now = loop.time()
        if all_of_it:
            self._last_due = now
            self._waiting = deque((now, data) for _, data in self._waiting)
        target = self.other
        while self._waiting and target.takes_more() and not self._connection.lost:
            due, data = self._waiting[0]
            if due > now:
                self._timer = loop.call_at(due, self.pass_on)
                break
            self._waiting.popleft()
            self._waiting_bytes -= len(data)
            if data:
                target.give(self._connection.count(data))
            else:
                target.give_end()
            if self._connection.is_used_up():
                self._connection.reset()
        self._hold_back_or_read_on()

    def _hold_back_or_read_on(self) -> None:
        full = self._waiting_bytes >= _BUFFER_BYTES or not self.other.takes_more()
        if full and not self._connection.lost:
            self.hold_back()
        elif self.transport is not None and not self._has_read_end:
            self.transport.resume_reading()

    def takes_more(self) -> bool:
        """Whether this side is connected and its buffer has room."""
        return self.transport is not None and not self.transport.is_closing() and self._writable

    def give(self, data: bytes) -> None:
        """Send to this side's process."""
        if self.transport is not None:
            self.transport.write(data)

    def give_end(self) -> None:
        """Tell this side's process that nothing more comes."""
        if self.transport is not None:
            with contextlib.suppress(OSError):  # it was reset a moment ago, which shows only now
                self.transport.write_eof()
        self.has_sent_end = True
        self._connection.close_if_ended()

    def _append(self, data: bytes) -> None:
        self._waiting.append((self._last_due, data))
        self._waiting_bytes += len(data)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
