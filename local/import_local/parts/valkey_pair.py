"""Valkey with a replica that can be promoted, as ElastiCache has it: for tests of a failover."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from import_local.parts.valkey import ValkeyServer
from import_local.processes import Child, wait_until_ready


@dataclass(frozen=True, slots=True)
class LostWrites:
    """What the primary acknowledged between these moments (UTC) is on no server."""

    since: datetime
    until: datetime


class ValkeyPair:
    """A primary and its replica, each with `password`; replication is asynchronous."""

    name = "valkey"

    def __init__(self, folder: Path, *, log_folder: Path, password: str, port: int | None = None) -> None:
        self._folder = folder
        self._log_folder = log_folder
        self._password = password
        self._started = 0
        self.primary = self._make_server(port)
        self.replica: ValkeyServer | None = None

    @property
    def port(self) -> int:
        """Port of the primary; another one after a failover."""
        return self.primary.port

    @property
    def url(self) -> str:
        """Connection URL of the primary."""
        return self.primary.url

    def processes(self) -> list[Child]:
        """Return the processes that run now."""
        servers = [self.primary] if self.replica is None else [self.primary, self.replica]
        return [child for server in servers for child in server.processes()]

    async def start(self) -> None:
        """Start both and wait until the replica follows."""
        await self.primary.start()
        try:
            await self.add_replica()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop both; nothing happens when none runs."""
        if self.replica is not None:
            await self.replica.stop()
        await self.primary.stop()

    async def add_replica(self) -> None:
        """Start a new replica of the primary, unless there is one, and wait until it follows."""
        if self.replica is None:
            replica = self._make_server()
            await replica.start(replica_of=self.primary.port)
            self.replica = replica

    async def restart_primary(self) -> None:
        """Kill the primary and start it again at the same port, empty: it keeps nothing on disk."""
        await self.remove_replica()  # it would follow, and be emptied as well
        await self.primary.kill()
        await self.primary.start()

    async def remove_replica(self) -> None:
        """Kill the replica; nothing happens when there is none."""
        if self.replica is not None:
            await self.replica.kill()
            self.replica = None

    async def wait_until_replica_has_all(self) -> None:
        """Wait until the replica has read all that the primary wrote until now."""
        replica = self._needed_replica()
        wanted = await self.primary.replication_offset()

        async def has_all() -> bool:
            return await replica.replication_offset() >= wanted

        if replica.child is not None:
            await wait_until_ready(replica.child, has_all, interval=0.02)

    async def fail_over(self, *, seconds_lost: float = 0.0) -> LostWrites | None:
        """Kill the primary and make the replica the primary; there is no replica then.

        What the primary acknowledges in its last `seconds_lost` seconds is lost; returns when that was.
        """
        replica = self._needed_replica()
        lost = None
        if seconds_lost:
            await replica.promote()  # from now on the primary writes for nobody
            since = datetime.now(UTC)
            await asyncio.sleep(seconds_lost)
            lost = LostWrites(since, datetime.now(UTC))
            await self.primary.kill()
        else:
            await self.primary.kill()
            await replica.promote()
        self.primary, self.replica = replica, None
        return lost

    async def repair(self) -> bool:
        """Have a primary that runs and a replica that follows it, wherever an order was broken off.

        Returns whether anything was to be done. A replica that does not follow is replaced; without a primary
        it takes over.
        """
        if self.replica is not None and not await self.replica.answers():
            await self.remove_replica()
        broken = self.replica is None
        if not await self.primary.answers():
            broken = True
            if self.replica is not None:
                await self.fail_over()
            else:
                await self.primary.kill()
                await self.primary.start()
        elif self.replica is not None and not await self.replica.follows(self.primary.port):
            broken = True
            await self.remove_replica()
        await self.add_replica()
        return broken

    def _needed_replica(self) -> ValkeyServer:
        if self.replica is None:
            raise RuntimeError("there is no replica to fail over to")
        return self.replica

    def _make_server(self, port: int | None = None) -> ValkeyServer:
        self._started += 1
        name = self.name if self._started == 1 else f"{self.name}-{self._started}"
        return ValkeyServer(
            self._folder / name,
            log_path=self._log_folder / f"{name}.log",
            password=self._password,
            port=port,
            name=name,
        )
