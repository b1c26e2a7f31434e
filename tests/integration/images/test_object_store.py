"""The object store adapter against a real S3 server that checks signatures."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from integration.images.image_server import ImageServer

from import_core.adapters.s3.store import IMMUTABLE, ObjectStore
from import_core.domain.errors import StorageRefusedError, StorageUnavailableError
from import_core.domain.images import object_key
from import_local.parts.objectstore import Bucket

DIGEST = "a" * 64


@pytest.fixture
def environment(object_store: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_access_key)
    return object_store


@pytest.fixture
def store(environment: Bucket) -> ObjectStore:
    return ObjectStore(environment.name, endpoint_url=environment.endpoint_url, region=environment.region)


async def test_second_conditional_put_writes_nothing(store: ObjectStore) -> None:
    key = object_key("acme", DIGEST, "jpg")
    assert await store.put_if_absent(key, b"first", "image/jpeg") is True
    before = await store.head(key)
    assert await store.put_if_absent(key, b"other", "image/jpeg") is False
    assert await store.get(key) == b"first"
    assert await store.head(key) == before


async def test_concurrent_conditional_puts_write_once(store: ObjectStore) -> None:
    key = object_key("acme", DIGEST, "png")
    written = await asyncio.gather(
        *(store.put_if_absent(key, b"%d" % number, "image/png") for number in range(10))
    )
    assert written.count(True) == 1
    assert await store.get(key) == b"%d" % written.index(True)


async def test_content_type_and_cache_control_are_stored(store: ObjectStore) -> None:
    import obstore

    await store.put_if_absent("images/a/b.webp", b"x", "image/webp")
    answer = await obstore.get_async(store._store, "images/a/b.webp")
    assert answer.attributes["Content-Type"] == "image/webp"
    assert answer.attributes["Cache-Control"] == IMMUTABLE


async def test_absent_object(store: ObjectStore) -> None:
    assert await store.head("images/a/none") is None
    assert await store.exists("images/a/none") is False
    assert await store.get("images/a/none") is None


async def test_list_gives_keys_as_they_were_written(store: ObjectStore) -> None:
    keys = [object_key(company, DIGEST, "jpg") for company in ("a", "../b", "c/d", "é 😀", "%2e")]
    for key in keys:
        assert await store.put_if_absent(key, b"12345", "image/jpeg")
    listed = [info async for info in store.list("images")]
    assert sorted(info.key for info in listed) == sorted(keys)
    assert {info.size for info in listed} == {5}
    assert [info.key async for info in store.list("images/a")] == [keys[0]]


async def test_check_passes_on_a_bucket_that_is_there(store: ObjectStore) -> None:
    await store.check()


async def test_missing_bucket_is_permanent_and_named(environment: Bucket) -> None:
    store = ObjectStore("no-such-bucket", endpoint_url=environment.endpoint_url, region=environment.region)
    with pytest.raises(StorageRefusedError, match="no-such-bucket"):
        await store.check()
    with pytest.raises(StorageRefusedError, match="no-such-bucket"):
        await store.put_if_absent("images/a/b", b"x", "image/png")


async def test_wrong_credentials_are_permanent_and_not_shown(
    environment: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    store = ObjectStore(environment.name, endpoint_url=environment.endpoint_url, region=environment.region)
    calls = (
        store.check,
        lambda: store.put_if_absent("images/a/b", b"x", "image/png"),
        lambda: store.head("images/a/b"),
    )
    for call in calls:
        with pytest.raises(StorageRefusedError, match="refused") as caught:
            await call()
        assert "wrong-secret" not in caught.value.message


async def test_store_that_is_away_is_worth_another_try(environment: Bucket) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        store = ObjectStore(environment.name, endpoint_url=url, max_retries=1, retry_time=1)
        with pytest.raises(StorageUnavailableError, match="images/a/b"):
            await store.put_if_absent("images/a/b", b"x", "image/png")
        with pytest.raises(StorageUnavailableError):
            await store.check()


async def test_store_that_never_answers_is_given_up(environment: Bucket) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        store = ObjectStore(environment.name, endpoint_url=url, timeout=0.2, max_retries=0, retry_time=0.2)
        with pytest.raises(StorageUnavailableError):
            await store.put_if_absent("images/a/b", b"x", "image/png")


async def test_credentials_of_eks_pod_identity_are_used(
    server: ImageServer, object_store: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The agent's address and the token file are all that EKS puts into a pod's environment."""
    credentials = {
        "AccessKeyId": object_store.access_key_id,
        "SecretAccessKey": object_store.secret_access_key,
        "Token": "",
        "Expiration": "2099-01-01T00:00:00Z",
    }
    token = tmp_path / "token"
    token.write_text("pod-token")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    agent = server.serve("/v1/credentials", json.dumps(credentials).encode())
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    store = ObjectStore(object_store.name, endpoint_url=object_store.endpoint_url, region=object_store.region)
    assert await store.put_if_absent("images/a/b", b"x", "image/png") is True
    assert [request.headers["authorization"] for request in server.requests] == ["pod-token"]
