"""The links of an installation: each leads one of its processes to one of its servers, through a proxy.

The proxies have a thread with an event loop of their own, so that they pass bytes also while a test computes
or waits in another way. They end with the process.
"""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from import_local.faults.proxy import LinkRules, TcpProxy
from import_local.ports import LOOPBACK
from import_local.processes import Child

LINKS = (
    "operator-postgres",
    "operator-redis",
    "workers-postgres",
    "workers-redis",
    "workers-s3",
    "workers-provider",
)
_SERVERS = {"DATABASE_URL": "postgres", "REDIS_URL": "redis", "S3_ENDPOINT_URL": "s3"}
_ALLOW_LISTS = ("IMAGE_ALLOW", "PROVIDER_ALLOW")
_ORDER_SECONDS = 10.0
_OPEN_FILES = 16_384
_Result = TypeVar("_Result")


class Link:
    """One proxied way from a process to a server. Each method returns when the order holds."""

    def __init__(self, name: str, proxy: TcpProxy, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self._proxy = proxy
        self._loop = loop

    @property
    def port(self) -> int:
        """Loopback port that the process connects to."""
        return self._proxy.port

    @property
    def connections(self) -> int:
        """How many connections are open now, also those that lead nowhere."""
        return self._proxy.connections

    @property
    def bytes_passed(self) -> int:
        """How many bytes went through so far, both ways together."""
        return self._proxy.bytes_passed

    def through(self, url: str) -> str:
        """Return a server's URL with this link's address."""
        return self._proxy.through(url)

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._wait_for(self._proxy.cut())

    def heal(self) -> None:
        """End every misbehaviour. Connections that have lost bytes are reset, the others go on."""
        self._wait_for(self._proxy.heal())

    def open(self) -> None:
        """Take connections again after a cut; other misbehaviour stays."""
        self._wait_for(self._proxy.start())

    def black_hole(self) -> None:
        """Pass nothing and tell nobody; new connections are accepted and lead nowhere."""
        self._call(self._proxy.black_hole)

    def lose_connections(self) -> None:
        """Let the present connections be half-open from now on; new ones work."""
        self._call(self._proxy.lose_connections)

    def reset_connections(self) -> None:
        """Reset the present connections; new ones work."""
        self._call(self._proxy.reset_connections)

    def set_rules(
        self,
        *,
        delay: float = 0.0,
        bytes_per_second: int | None = None,
        bytes_until_cut: int | None = None,
    ) -> None:
        """Slow down or break connections by these rules (see LinkRules), until they are healed."""
        rules = LinkRules(delay, bytes_per_second, bytes_until_cut)
        self._call(lambda: self._proxy.set_rules(rules))

    def point_to(self, port: int) -> None:
        """Lead to another loopback port from now on, and reset the present connections."""
        self._call(lambda: self._proxy.point_to(port))

    def _call(self, order: Callable[[], None]) -> None:
        async def carry_out() -> None:
            order()

        self._wait_for(carry_out())

    def _wait_for(self, order: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(order, self._loop).result(_ORDER_SECONDS)


class Links:
    """Links by name. `ports` are those of an earlier run, so that addresses stay the same."""

    name = "links"

    def __init__(self, names: tuple[str, ...], ports: Mapping[str, int] | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        known = ports or {}
        self._proxies = {name: TcpProxy(port=known.get(name)) for name in names}
        self._links = {name: Link(name, proxy, self._loop) for name, proxy in self._proxies.items()}

    def __getitem__(self, name: str) -> Link:
        return self._links[name]

    @property
    def ports(self) -> dict[str, int]:
        """The loopback port of each link."""
        return {name: proxy.port for name, proxy in self._proxies.items()}

    def ending_in(self, server: str) -> list[Link]:
        """Return the links that lead to one server, whoever uses them."""
        return [link for name, link in self._links.items() if name.endswith(f"-{server}")]

    async def start(self) -> None:
        """Listen on all links; they lead somewhere once they have been pointed to it."""
        _allow_many_connections()
        self._thread.start()
        for proxy in self._proxies.values():
            await self._carry_out(proxy.start())

    async def stop(self) -> None:
        """Reset all connections and end the thread; nothing happens when it does not run."""
        if not self._thread.is_alive():
            return
        for proxy in self._proxies.values():
            await self._carry_out(proxy.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    def processes(self) -> list[Child]:
        """Return no processes: the links are in this one."""
        return []

    def heal(self) -> None:
        """End every misbehaviour of all links."""
        for link in self._links.values():
            link.heal()

    async def _carry_out(self, order: Coroutine[Any, Any, _Result]) -> _Result:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(order, self._loop))


def _allow_many_connections() -> None:
    """Raise this process's soft limit of open files: each proxied connection takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


def lead_through(links: Links, client: str, connections: Mapping[str, str]) -> dict[str, str]:
    """Return a process's environment with the addresses of `client`'s links instead of the servers' own.

    `client` is `operator` or `workers`. What has no link of that client keeps its address; the sample stores
    may be called at both.
    """
    led = dict(connections)
    for variable, server in _SERVERS.items():
        name = f"{client}-{server}"
        if name in links.ports:
            led[variable] = links[name].through(connections[variable])
    provider = f"{LOOPBACK}:{links['workers-provider'].port}"
    return {**led, **{variable: f"{connections[variable]},{provider}" for variable in _ALLOW_LISTS}}
