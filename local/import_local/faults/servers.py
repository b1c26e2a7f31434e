"""Databases that die and come back: Valkey and PostgreSQL behind addresses that stay the same."""

import asyncio
from collections.abc import Callable

from import_local.faults.links import Link, Links
from import_local.parts.postgres_pair import PostgresPair
from import_local.parts.valkey_pair import ValkeyPair

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
            await self._pair.add_replica()
            self._changed()

    async def fail_over(self, *, lose_last_writes: bool = False, outage_seconds: float = 0.0) -> None:
        """Kill the primary, promote the replica, and switch all addresses to it; a new replica follows it.

        `lose_last_writes`: what was written in the last 0.3 s does not reach the replica, else it has all.
        For `outage_seconds` more nobody is reached at all (at ElastiCache these are up to 60).
        """
        async with self._one_at_a_time:
            if lose_last_writes:
                await self._pair.fail_over(seconds_lost=_LOST_SECONDS)
                _cut(self._links)
            else:
                _cut(self._links)  # so that nothing is written any more
                await self._pair.wait_until_replica_has_all()
                await self._pair.fail_over()
            await asyncio.sleep(outage_seconds)
            _switch(self._links, self._pair.port)
            await self._pair.add_replica()
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


def _cut(links: list[Link]) -> None:
    for link in links:
        link.cut()


def _switch(links: list[Link], port: int) -> None:
    for link in links:
        link.point_to(port)
        link.heal()
