"""The servers that a local installation starts are the real ones, with the settings we rely on."""

import asyncio
import os
import signal
from pathlib import Path

import obstore
import psycopg
import pytest
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError
from obstore.store import S3Store
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from import_local.errors import LocalError, PartError
from import_local.parts.objectstore import Bucket, ObjectStoreServer
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer


async def _value(url: str, query: str) -> object:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute(query)).fetchone()
        assert row is not None
        return row[0]


async def test_postgres_is_version_18_in_utc_and_utf8(empty_database_url: str) -> None:
    assert str(await _value(empty_database_url, "SHOW server_version")).startswith("18.")
    assert await _value(empty_database_url, "SHOW timezone") == "UTC"
    assert await _value(empty_database_url, "SHOW server_encoding") == "UTF8"


async def test_postgres_application_role_owns_its_database_and_is_no_superuser(
    empty_database_url: str,
) -> None:
    assert (
        await _value(empty_database_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        is False
    )
    async with await psycopg.AsyncConnection.connect(empty_database_url) as connection:
        await connection.execute("CREATE SCHEMA imports")


async def test_postgres_refuses_a_wrong_password(postgres_server: PostgresServer) -> None:
    url = postgres_server.url().replace(postgres_server.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await psycopg.AsyncConnection.connect(url)


async def test_postgres_keeps_its_data_over_a_restart(servers_folder: Path) -> None:
    log_path = servers_folder / "restarted.log"
    first = PostgresServer(servers_folder / "restarted", log_path=log_path)
    await first.start()
    try:
        async with await psycopg.AsyncConnection.connect(await first.create_database("kept")) as connection:
            await connection.execute("CREATE TABLE seen AS SELECT 7 AS number")
    finally:
        await first.stop()
    second = PostgresServer(
        servers_folder / "restarted", log_path=log_path, password=first.password, port=first.port
    )
    await second.start()
    try:
        assert second.port == first.port
        assert await _value(second.url("kept"), "SELECT number FROM seen") == 7
    finally:
        await second.stop()
    third = PostgresServer(servers_folder / "restarted", log_path=log_path)
    with pytest.raises(LocalError, match="is another installation's"):
        await third.start()
    assert third.child is None


async def test_postgres_that_cannot_start_says_why(servers_folder: Path) -> None:
    server = PostgresServer(servers_folder / "broken", log_path=servers_folder / "broken.log", durable=False)
    await server.start()
    await server.stop()
    (servers_folder / "broken" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(PartError, match=r"(?s)postgres ended with exit code \d.*pg_control"):
        await server.start()


async def test_databases_are_apart(postgres_server: PostgresServer, empty_database_url: str) -> None:
    other = await postgres_server.create_database("other")
    try:
        async with await psycopg.AsyncConnection.connect(empty_database_url) as connection:
            await connection.execute("CREATE TABLE only_here ()")
        assert await _value(other, "SELECT to_regclass('only_here')") is None
    finally:
        await postgres_server.drop_database("other")


async def test_valkey_never_evicts_and_wants_its_password(
    redis_url: str, valkey_server: ValkeyServer
) -> None:
    client = Redis.from_url(redis_url, decode_responses=True)
    assert await client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert await client.config_get("save") == {"save": ""}
    await client.aclose()
    stranger = Redis(port=valkey_server.port)
    with pytest.raises(AuthenticationError):
        await stranger.ping()
    await stranger.aclose()


@pytest.mark.parametrize("run", [1, 2])
async def test_valkey_is_empty_for_each_test(redis_url: str, run: int) -> None:
    client = Redis.from_url(redis_url)
    assert await client.dbsize() == 0
    await client.set("left", run)
    await client.aclose()


def _store(settings: Bucket, secret: str | None = None) -> S3Store:
    return S3Store(
        settings.name,
        endpoint=settings.endpoint_url,
        access_key_id=settings.access_key_id,
        secret_access_key=secret or settings.secret_access_key,
        region=settings.region,
        client_options={"allow_http": True},
    )


async def test_object_store_puts_once_when_asked_to(object_store: Bucket) -> None:
    store = _store(object_store)
    outcomes = await asyncio.gather(
        *(obstore.put_async(store, "images/a/b.png", bytes([i]), mode="create") for i in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, AlreadyExistsError) for outcome in outcomes) == 9


async def test_object_store_keeps_content_type_and_etag(object_store: Bucket) -> None:
    store = _store(object_store)
    put = await obstore.put_async(store, "a.webp", b"bytes", attributes={"Content-Type": "image/webp"})
    got = await obstore.get_async(store, "a.webp")
    assert got.attributes["Content-Type"] == "image/webp"
    assert (await obstore.head_async(store, "a.webp"))["e_tag"] == put["e_tag"]


async def test_object_store_checks_signatures(object_store: Bucket) -> None:
    with pytest.raises(PermissionDeniedError):
        await obstore.put_async(_store(object_store, "wrong"), "a", b"1")


async def test_a_killed_server_is_described_by_signal_and_log(tmp_path: Path) -> None:
    server = ObjectStoreServer(tmp_path, log_path=tmp_path / "object-store.log")
    await server.start()
    assert server.child is not None
    os.kill(server.child.pid, signal.SIGKILL)
    assert await server.child.wait() == -signal.SIGKILL
    assert "object-store was killed by SIGKILL" in str(server.child.failure())
    assert str(tmp_path / "object-store.log") in str(server.child.failure())
    await server.stop()
