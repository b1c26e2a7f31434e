"""Servers that die and come back, behind addresses that stay the same."""

import asyncio
from collections.abc import Callable

from import_local.faults.links import Link, Links
from import_local.parts.control_plane import ControlPlane
from import_local.parts.node import ProcessNode
from import_local.parts.postgres_pair import PostgresPair
from import_local.parts.valkey_pair import LostWrites, ValkeyPair

_LOST_SECONDS = 0.3


def _nothing() -> None:
    """Tell nobody."""


class RedisFaults:
    """What can happen to Valkey. `changed` is called when other processes run than before."""

    def __init__(self, pair: ValkeyPair, links: Links, *, changed: Callable[[], None] = _nothing) -> None:
        self._pair = pair
        self._links = links.ending_in("redis")
        self._changed = changed
        self._one_at_a_time = asyncio.Lock()

    async def kill_and_restart(self) -> None:
        """Kill the primary and start it again at once: it comes back without any data."""
        async with self._one_at_a_time:
            await self._pair.restart_primary()
            _switch(self._links, self._pair.port)
            await self._pair.add_replica()
            self._changed()

    async def fail_over(
        self,
        *,
        lose_last_writes: bool = False,
        seconds_lost: float = _LOST_SECONDS,
        outage_seconds: float = 0.0,
    ) -> LostWrites | None:
        """Kill the primary, promote the replica, and switch all addresses to it; a new replica follows it.

        `lose_last_writes`: what was written in the last `seconds_lost` does not reach the replica, and the
        answer says when that was; else it has all. For `outage_seconds` more nobody is reached at all (at
        ElastiCache these are up to 60).
        """
        lost = None
        async with self._one_at_a_time:
            if lose_last_writes:
                lost = await self._pair.fail_over(seconds_lost=seconds_lost)
                _cut(self._links)
            else:
                _cut(self._links)  # so that nothing is written any more
                await self._pair.wait_until_replica_has_all()
                await self._pair.fail_over()
            await asyncio.sleep(outage_seconds)
            _switch(self._links, self._pair.port)
            await self._pair.add_replica()
            self._changed()
        return lost

    async def repair(self) -> None:
        """Bring to its end what was broken off: a primary at all addresses, and a replica that follows it."""
        async with self._one_at_a_time:
            if await self._pair.repair():
                _switch(self._links, self._pair.port)
                self._changed()


class PostgresFaults:
    """What can happen to PostgreSQL. `changed` is called when other processes run than before."""

    def __init__(self, pair: PostgresPair, links: Links, *, changed: Callable[[], None] = _nothing) -> None:
        self._pair = pair
        self._links = links.ending_in("postgres")
        self._changed = changed
        self._one_at_a_time = asyncio.Lock()

    async def kill_and_restart(self) -> None:
        """Kill the primary and start it again at once: it recovers, with all that it acknowledged."""
        async with self._one_at_a_time:
            await self._pair.restart_primary()
            _switch(self._links, self._pair.port)
            self._changed()
            await self._pair.wait_until_synchronous()

    async def fail_over(self, *, outage_seconds: float = 0.0) -> None:
        """Kill the primary, promote the standby, and switch all addresses to it; a new standby follows it.

        Nothing that was acknowledged is lost. For `outage_seconds` more nobody is reached at all (at RDS
        with one standby these are 60 to 120). Until the new standby is there, commits wait for none.
        """
        async with self._one_at_a_time:
            await self._pair.fail_over()
            _cut(self._links)
            await asyncio.sleep(outage_seconds)
            _switch(self._links, self._pair.port)
            await self._pair.add_standby()
            self._changed()

    async def repair(self) -> None:
        """Bring to its end what was broken off: a primary at all addresses, and a standby that has all."""
        async with self._one_at_a_time:
            if await self._pair.repair():
                _switch(self._links, self._pair.port)
                self._changed()


class ApiServerFaults:
    """What can happen to the API server; etcd, controllers, scheduler and kubelet run on."""

    def __init__(self, control_plane: ControlPlane, *, changed: Callable[[], None] = _nothing) -> None:
        self._control_plane = control_plane
        self._changed = changed
        self._one_at_a_time = asyncio.Lock()

    async def stop(self) -> None:
        """Kill it; nothing happens when it does not run."""
        async with self._one_at_a_time:
            await self._control_plane.kill_api_server()

    async def start(self) -> None:
        """Start it again at its port and wait until it is ready; nothing happens when it runs."""
        async with self._one_at_a_time:
            await self._control_plane.start_api_server()
            self._changed()


class NodeFaults:
    """What can happen to the node agent; pods run on without it."""

    def __init__(self, node: ProcessNode, *, changed: Callable[[], None] = _nothing) -> None:
        self._node = node
        self._changed = changed
        self._one_at_a_time = asyncio.Lock()

    async def kill(self) -> None:
        """Kill it; nothing happens when it does not run."""
        async with self._one_at_a_time:
            await self._node.kill()

    async def start(self) -> None:
        """Start it again and wait until the API server has heard of it; nothing happens when it runs."""
        async with self._one_at_a_time:
            await self._node.start_again()
            self._changed()

    async def kill_and_restart(self) -> None:
        """Kill it and start it again at once."""
        await self.kill()
        await self.start()


def _cut(links: list[Link]) -> None:
    for link in links:
        link.cut()


def _switch(links: list[Link], port: int) -> None:
    for link in links:
        link.point_to(port)
        link.open()
