"""The object store (S3 or what speaks its protocol): content-addressed objects, written once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from import_core.domain.errors import ObjectTooLargeError, StorageRefusedError, StorageUnavailableError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config

IMMUTABLE = "public, max-age=31536000, immutable"
"""Cache-Control of content-addressed objects: a key never gets other bytes (RFC 8246)."""
_STATUS = re.compile(r"status code: (\d{3})")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store tells of an object; `size` in bytes, `last_modified` timezone-aware."""

    key: str
    size: int
    etag: str | None
    last_modified: datetime


class ObjectStore:
    """One bucket. Safe for use by many tasks of one event loop.

    `endpoint_url` is for stores other than AWS; `timeout` (seconds) bounds one request, `retry_time`
    (seconds) all tries of one call. Credentials are `keys`, or come from the environment, in the order of AWS' SDKs:
    AWS_ACCESS_KEY_ID, IRSA (AWS_WEB_IDENTITY_TOKEN_FILE), EKS Pod Identity
    (AWS_CONTAINER_CREDENTIALS_FULL_URI), the instance's metadata service.

    Every method raises StorageUnavailableError when the store does not answer (worth another try later)
    and StorageRefusedError when it refuses: wrong credentials, no permission, no such bucket.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        keys: tuple[str, str] | None = None,
        timeout: float = 20.0,
        max_retries: int = 3,
        retry_time: float = 30.0,
    ) -> None:
        self.bucket = bucket
        self._deadline = timeout + retry_time
        config: S3Config = {"virtual_hosted_style_request": endpoint_url is None}
        if endpoint_url is not None:
            config["endpoint"] = endpoint_url
        if region is not None:
            config["region"] = region
        if keys is not None:
            config["access_key_id"], config["secret_access_key"] = keys
        client: ClientConfig = {
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": timedelta(seconds=5),
            "allow_http": endpoint_url is not None and endpoint_url.startswith("http://"),
        }
        retry: RetryConfig = {"max_retries": max_retries, "retry_timeout": timedelta(seconds=retry_time)}
        self._store = S3Store(bucket, config=config, client_options=client, retry_config=retry)

    async def put_if_absent(
        self, key: str, content: bytes, content_type: str, cache_control: str = IMMUTABLE
    ) -> bool:
        """Write an object unless its key exists; returns whether it was written (If-None-Match: *)."""
        attributes = {"Content-Type": content_type, "Cache-Control": cache_control}
        with self._mapped_errors("write", key):
            async with asyncio.timeout(self._deadline):
                try:
                    await obstore.put_async(
                        self._store, key, content, attributes=attributes, mode="create", use_multipart=False
                    )
                except (AlreadyExistsError, PreconditionError):
                    return False
        return True

    async def head(self, key: str) -> ObjectInfo | None:
        """What the store tells of an object; None if there is none."""
        with self._mapped_errors("look up", key):
            async with asyncio.timeout(self._deadline):
                try:
                    return _info(await obstore.head_async(self._store, key))
                except FileNotFoundError:
                    return None

    async def exists(self, key: str) -> bool:
        """Whether there is an object under `key`."""
        return await self.head(key) is not None

    async def get(self, key: str, *, at_most: int | None = None) -> bytes | None:
        """An object's bytes, all in memory; None if there is none.

        Raises ObjectTooLargeError for one of more than `at_most` bytes, before it is read.
        """
        with self._mapped_errors("read", key):
            async with asyncio.timeout(self._deadline):
                try:
                    result = await obstore.get_async(self._store, key)
                    if at_most is not None and result.meta["size"] > at_most:
                        size = result.meta["size"]
                        raise ObjectTooLargeError(f"{key} has {size:,} bytes, at most {at_most:,} are taken")
                    return bytes(await result.bytes_async())
                except FileNotFoundError:
                    return None

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """All objects under a prefix (whole path segments), in the order of their keys."""
        with self._mapped_errors("list", prefix):
            async for batch in obstore.list(self._store, prefix or None):
                for meta in batch:
                    yield _info(meta)

    async def check(self) -> None:
        """Prove with one cheap call that the bucket is there and the credentials may list it."""
        with self._mapped_errors("list", "images/"):
            async with asyncio.timeout(self._deadline):
                await obstore.list_with_delimiter_async(self._store, "images/!check")

    async def put(self, key: str, content: bytes, content_type: str) -> None:
        """Write an object, in place of one that is there: for what is not content-addressed."""
        with self._mapped_errors("write", key):
            async with asyncio.timeout(self._deadline):
                await obstore.put_async(
                    self._store, key, content, attributes={"Content-Type": content_type}, use_multipart=False
                )

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        with self._mapped_errors("delete", key):
            async with asyncio.timeout(self._deadline):
                try:
                    await obstore.delete_async(self._store, key)
                except FileNotFoundError:
                    # Not every store says nothing of an object that is not there; a bucket's absence shows at `put`.
                    return

    @contextmanager
    def _mapped_errors(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StorageRefusedError(self._refused(verb, key, error)) from error
        except FileNotFoundError as error:
            raise StorageRefusedError(self._no_bucket()) from error
        except TimeoutError as error:
            message = f"the object store did not {verb} {key} within {self._deadline:g} s"
            raise StorageUnavailableError(message) from error
        except BaseError as error:
            raise self._generic(verb, key, error) from error

    def _generic(
        self, verb: str, key: str, error: BaseError
    ) -> StorageRefusedError | StorageUnavailableError:
        """Sort an error without a class of its own (all of a list request's) by the answer's status."""
        found = _STATUS.search(str(error))
        status = int(found.group(1)) if found else None
        if status in {401, 403}:
            return StorageRefusedError(self._refused(verb, key, error))
        if status == 404:
            return StorageRefusedError(self._no_bucket())
        message = f"the object store could not {verb} {key}: {_detail(error)}"
        if status is not None and 300 <= status < 500 and status not in {408, 429}:
            return StorageRefusedError(message)
        return StorageUnavailableError(message)

    def _refused(self, verb: str, key: str, error: BaseError) -> str:
        return f"the object store refused to {verb} {key} in bucket {self.bucket}: {_detail(error)}"

    def _no_bucket(self) -> str:
        return f"the bucket {self.bucket} does not exist"


def _info(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(
        key=meta["path"], size=meta["size"], etag=meta["e_tag"], last_modified=meta["last_modified"]
    )


def _detail(error: Exception) -> str:
    """The library's first line; what follows is its debugging output."""
    return (str(error).strip().splitlines() or ["no detail"])[0][:300]
