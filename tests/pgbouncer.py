"""A real PgBouncer in transaction mode, where this machine has one."""

import os
import pwd
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from import_local.ports import LOOPBACK, free_port
from import_local.processes import Account, base_environment, start_child, wait_until_ready


@asynccontextmanager
async def pgbouncer(server_url: str, folder: Path, *, size: int, init_query: str) -> AsyncIterator[str]:
    """Run it with `size` connections to the server, each begun with `init_query`; yields its address.

    Skips the test where there is none. `folder` must be reachable by the user `nobody` as root: it refuses to be root.
    """
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    parts, port = urlsplit(server_url), free_port()
    query = init_query.replace("'", "''")
    settings = (
        f"[databases]\n* = host={parts.hostname} port={parts.port} connect_query='{query}'\n"
        f"[pgbouncer]\nlisten_addr = {LOOPBACK}\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n"
        f"auth_file = {folder / 'users.txt'}\npool_mode = transaction\ndefault_pool_size = {size}\n"
    )
    users = f'"{parts.username}" "{parts.password}"\n'
    child = await start_child(
        "pgbouncer",
        [program, folder / "pgbouncer.ini"],
        log_path=folder.with_suffix(".log"),
        environment=base_environment(),
        account=_write_files(folder, {"users.txt": users, "pgbouncer.ini": settings}),
    )
    url = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{LOOPBACK}:{port}"))

    async def answers() -> bool:
        try:
            await (await psycopg.AsyncConnection.connect(url, connect_timeout=5)).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        await wait_until_ready(child, answers, timeout=30)
        yield url
    finally:
        await child.stop()


def _write_files(folder: Path, files: dict[str, str]) -> Account | None:
    """Write them into a new folder; returns the account that owns it, None for this process's own."""
    folder.mkdir()
    paths = [folder, *(folder / name for name in files)]
    for path, text in zip(paths[1:], files.values(), strict=True):
        path.write_text(text)
    if os.getuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    for path in paths:
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return Account(user=nobody.pw_name, group=nobody.pw_gid)
