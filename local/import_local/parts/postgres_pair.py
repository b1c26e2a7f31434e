"""PostgreSQL with a synchronous standby that can be promoted, as RDS Multi-AZ has it: for tests of a failover."""

import asyncio
import shutil
from pathlib import Path

from import_local.parts.postgres import PostgresServer
from import_local.processes import Child, wait_until_ready

_SETTINGS = {
    # What was acknowledged must survive the end of the process, and be on the standby.
    "synchronous_commit": "on",
    "wal_keep_size": "128MB",
    "wal_retrieve_retry_interval": "200ms",
}
_NAMES = "synchronous_standby_names"


class PostgresPair:
    """A primary, its data in `folder`, and a standby, its data beside it; each with `password`."""

    name = "postgres"

    def __init__(
        self, folder: Path, *, log_folder: Path, password: str, port: int | None = None, durable: bool = True
    ) -> None:
        self._folder = folder
        self._log_folder = log_folder
        self._password = password
        self._durable = durable
        self._made = 0
        self.primary = self._make_server(port)
        self.standby: PostgresServer | None = None

    @property
    def port(self) -> int:
        """Port of the primary; another one after a failover."""
        return self.primary.port

    def url(self, database: str = "postgres") -> str:
        """Connection URL of one of the primary's databases, with the application's rights."""
        return self.primary.url(database)

    async def create_database(self, database: str) -> str:
        """Create a database owned by the application's role, unless it exists; returns its URL."""
        return await self.primary.create_database(database)

    def processes(self) -> list[Child]:
        """Return the processes that run now."""
        servers = [self.primary] if self.standby is None else [self.primary, self.standby]
        return [child for server in servers for child in server.processes()]

    async def start(self) -> None:
        """Start both and wait until each commit reaches the standby."""
        await asyncio.to_thread(self._remove_other_data)
        await self.primary.start()
        try:
            await self._wait_for_nobody()
            await self.add_standby()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop both; the next start finds the data of the last primary."""
        await self.primary.stop()
        if self.standby is not None:
            await self.standby.stop()
            self.standby = None
        if self.primary.data.parent != self._folder:
            await asyncio.to_thread(self._take_over_data)

    async def add_standby(self) -> None:
        """Make a new standby, unless there is one; from then on each commit waits until it has it."""
        if self.standby is not None:
            return
        standby = self._make_server()
        await standby.start(copy_of=self.primary)
        self.standby = standby
        async with await self.primary.superuser_connection() as connection:
            await connection.execute(f"ALTER SYSTEM SET {_NAMES} = '*'")
            await connection.execute("SELECT pg_reload_conf()")
        await self.wait_until_synchronous()

    async def wait_until_synchronous(self) -> None:
        """Wait until each commit of the primary reaches the standby."""
        if self.primary.child is not None:
            await wait_until_ready(self.primary.child, self._is_synchronous, interval=0.1)

    async def restart_primary(self) -> None:
        """Kill the primary with all its processes and start it again at the same port."""
        await self.primary.kill()
        await self.primary.start()

    async def fail_over(self) -> None:
        """Kill the primary and make the standby the primary; there is no standby then."""
        if self.standby is None:
            raise RuntimeError("there is no standby to fail over to")
        await self.primary.kill()
        await self.standby.promote()
        await self._replace_primary(self.standby)

    async def repair(self) -> bool:
        """Have a primary that runs and a standby that has all it acknowledged, wherever an order was broken off.

        Returns whether anything was to be done. A standby that has become a primary takes over: it may have
        acknowledged what the old one lacks.
        """
        broken = self.standby is None
        if self.standby is not None and await self.standby.is_primary():
            broken = True
            await self.primary.kill()
            await self._replace_primary(self.standby)
        elif not await self.primary.is_primary():
            broken = True
            await self.restart_primary()
        await self.add_standby()
        await self.wait_until_synchronous()
        return broken

    async def _replace_primary(self, promoted: PostgresServer) -> None:
        # It was copied before the primary began to wait for it, so it waits for no standby itself.
        lost, self.primary, self.standby = self.primary, promoted, None
        if lost.data.parent != self._folder:
            await asyncio.to_thread(shutil.rmtree, lost.data.parent)

    async def _wait_for_nobody(self) -> None:
        """Let commits pass without a standby, which a primary of an earlier run still waits for."""
        async with await self.primary.superuser_connection() as connection:
            await connection.execute(f"ALTER SYSTEM RESET {_NAMES}")
            await connection.execute("SELECT pg_reload_conf()")

    async def _is_synchronous(self) -> bool:
        async with await self.primary.superuser_connection() as connection:
            found = await connection.execute("SELECT sync_state FROM pg_stat_replication")
            return await found.fetchall() == [("sync",)]

    def _make_server(self, port: int | None = None) -> PostgresServer:
        self._made += 1
        ending = "" if self._made == 1 else f"-{self._made}"
        return PostgresServer(
            self._folder.with_name(self._folder.name + ending),
            log_path=self._log_folder / f"{self.name}{ending}.log",
            password=self._password,
            port=port,
            durable=self._durable,
            settings=_SETTINGS,
            name=self.name + ending,
        )

    def _take_over_data(self) -> None:
        first = self._folder / "data"
        shutil.rmtree(first)
        self.primary.data.replace(first)
        self._remove_other_data()

    def _remove_other_data(self) -> None:
        for folder in self._folder.parent.glob(f"{self._folder.name}-*"):
            if folder.is_dir():
                shutil.rmtree(folder)
