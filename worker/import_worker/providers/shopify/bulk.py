"""Reads a large Shopify catalogue by one bulk operation: start or adopt, wait, download, group, page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx2

from import_core.domain.addresses import ForbiddenAddressError
from import_core.domain.errors import ProviderRejectedError, ProviderUnavailableError
from import_core.domain.limits import growing_delay
from import_core.domain.products import Page, SourceProduct
from import_worker.providers.base import Connection
from import_worker.providers.http import checked_client
from import_worker.providers.shopify.client import GraphQLClient
from import_worker.providers.shopify.queries import BULK_STATUS, CURRENT_BULK, RUN_BULK, bulk_query
from import_worker.providers.shopify.settings import ShopifyCursor, ShopifySettings
from import_worker.providers.shopify.spool import Spool

RUNNING = frozenset({"CREATED", "RUNNING", "CANCELING"})
LINES_PER_BATCH = 500


class BulkUnavailableError(ProviderUnavailableError):
    """The shop's catalogue can't be had by a bulk operation; paging can still read it."""


class BulkReader:
    """One shop's catalogue by bulk operation; raises BulkUnavailableError when paging must take over."""

    def __init__(
        self,
        client: GraphQLClient,
        connection: Connection,
        settings: ShopifySettings,
        search: str | None,
        *,
        adopts_older: bool = True,
    ) -> None:
        self._client = client
        self._connection = connection
        self._settings = settings
        self._query = bulk_query(search)
        self._adopts_older = adopts_older

    async def pages(self, place: ShopifyCursor) -> AsyncGenerator[Page, None]:
        """Yield products from `place.index` on; empty pages come first, so that the operation is kept."""
        clock = asyncio.get_running_loop().time
        operation_id = place.bulk
        if operation_id is None:
            operation_id = await self._start()
            place = replace(place, bulk=operation_id, index=0)
            yield Page(products=(), cursor=place.to_json(), total=place.total)
        deadline = clock() + self._settings.bulk_timeout
        next_beat = clock() + self._settings.bulk_heartbeat
        for attempt in count():
            operation = await self._status(operation_id)
            if operation.get("status") == "COMPLETED":
                break
            if operation.get("status") not in RUNNING:
                reason = operation.get("errorCode") or operation.get("status") or "unknown"
                raise BulkUnavailableError(f"The bulk operation ended without a result ({reason}).")
            if clock() >= deadline:
                raise BulkUnavailableError("The bulk operation takes too long.")
            if clock() >= next_beat:
                next_beat = clock() + self._settings.bulk_heartbeat
                yield Page(products=(), cursor=place.to_json(), total=place.total)
            await self._pause(attempt)
        spool = Spool()
        try:
            found = await self._filled(spool, operation.get("url"))
            # A result that was cut short must not look like the whole: the shop's own count stands.
            told = replace(place, total=max(found, place.total or 0))
            async for page in self._spooled(spool, told, found):
                yield page
        finally:
            spool.close()

    async def _spooled(self, spool: Spool, place: ShopifyCursor, found: int) -> AsyncGenerator[Page, None]:
        while True:
            items = await asyncio.to_thread(
                spool.page,
                place.index,
                self._settings.bulk_page_size,
                children=self._settings.bulk_page_children,
            )
            place = replace(place, index=place.index + len(items))
            at_end = place.index >= found
            yield Page(
                products=tuple(item for item in items if isinstance(item, SourceProduct)),
                cursor=None if at_end else place.to_json(),
                total=place.total,
                failures=tuple(item for item in items if not isinstance(item, SourceProduct)),
            )
            if at_end:
                return

    async def _pause(self, attempt: int) -> None:
        await asyncio.sleep(
            growing_delay(
                attempt, first=self._settings.first_poll, factor=1.5, longest=self._settings.longest_poll
            )
        )

    async def _start(self) -> str:
        """The id of our operation: one already running with our query, or a new one.

        Shopify runs one query operation per app and shop at a time; another one is waited for. Without
        `adopts_older` that goes for one which is there at the first look, too: only what comes after it is
        known to be younger than the job, whatever the shop's clock says.
        """
        older: object = None
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.foreign_bulk_wait
        for attempt in count():
            current = (await self._client.execute(CURRENT_BULK)).get("currentBulkOperation")
            if isinstance(current, dict) and current.get("status") in RUNNING:
                if attempt == 0 and not self._adopts_older:
                    older = current.get("id")
                if current.get("id") != older and self._is_ours(current):
                    return str(current["id"])
            else:
                operation_id = await self._run()
                if operation_id is not None:
                    return operation_id
            if clock() >= deadline:
                break
            await self._pause(attempt)
        raise BulkUnavailableError("Another bulk operation of this app is running.")

    def _is_ours(self, operation: Mapping[str, Any]) -> bool:
        return operation["status"] != "CANCELING" and _same_query(operation.get("query"), self._query)

    async def _run(self) -> str | None:
        """Start an operation; None when another one was quicker."""
        try:
            data = await self._client.execute(RUN_BULK, {"query": self._query})
        except ProviderRejectedError as error:
            raise BulkUnavailableError(error.message) from error
        payload = data.get("bulkOperationRunQuery") or {}
        errors = payload.get("userErrors") or []
        if not errors and payload.get("bulkOperation"):
            return str(payload["bulkOperation"]["id"])
        message = str(errors[0].get("message", "")) if errors else ""
        if "already in progress" in message.lower():
            return None
        raise BulkUnavailableError(f"Shopify starts no bulk operation.{self._client.api.quote(message)}")

    async def _status(self, operation_id: str) -> dict[str, Any]:
        try:
            node = (await self._client.execute(BULK_STATUS, {"id": operation_id})).get("node")
        except ProviderRejectedError as error:
            raise BulkUnavailableError(error.message) from error
        if not isinstance(node, dict):
            raise BulkUnavailableError("The bulk operation is not known any more.")
        return node

    async def _filled(self, spool: Spool, url: Any) -> int:
        """Download into the spool; returns the number of products. No address means an empty result."""
        if url is None:
            return await asyncio.to_thread(spool.finish)
        if not isinstance(url, str) or not is_allowed_download(url, self._connection.base_url):
            raise BulkUnavailableError("The bulk operation's result is at an address that is not allowed.")
        problem: Exception | None = None
        for attempt in range(self._settings.download_tries):
            if attempt:
                await self._pause(attempt)
            try:
                async with asyncio.timeout(self._settings.download_timeout):
                    await self._download(spool, url)
                return await asyncio.to_thread(spool.finish)
            except ForbiddenAddressError as error:
                raise BulkUnavailableError(
                    f"The bulk operation's result must not be fetched: {error.message}; the worker's setting"
                    " PROVIDER_ALLOW opens addresses that are not public."
                ) from error
            except (httpx2.RequestError, TimeoutError, ValueError) as error:
                problem = error
                await asyncio.to_thread(spool.clear)
        name = type(problem).__name__
        raise ProviderUnavailableError(f"The bulk operation's result can't be downloaded ({name}).")

    async def _download(self, spool: Spool, url: str) -> None:
        # A client of its own: the address is signed, so our credentials don't belong in its requests.
        async with (
            checked_client(self._connection, connections=1) as client,
            client.stream("GET", url, headers={"Accept": "*/*"}) as response,
        ):
            if response.status_code >= 500:
                raise httpx2.RemoteProtocolError(f"HTTP {response.status_code}", request=response.request)
            if response.status_code != 200:
                raise BulkUnavailableError(
                    f"The bulk operation's result is not there any more (HTTP {response.status_code})."
                )
            batch: list[bytes] = []
            async for line in self._lines(response):
                batch.append(line)
                if len(batch) >= LINES_PER_BATCH:
                    await asyncio.to_thread(spool.add, batch)
                    batch = []
            await asyncio.to_thread(spool.add, batch)

    async def _lines(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        size, rest = 0, b""
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > self._settings.longest_download:
                raise ProviderRejectedError(
                    f"The bulk operation's result has more than {self._settings.longest_download} bytes."
                )
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
            if len(rest) > self._settings.longest_line:
                raise ProviderRejectedError(
                    f"A line of the bulk operation's result has over {self._settings.longest_line} bytes."
                )
        if rest.strip():
            yield rest


def is_allowed_download(url: str, base_url: str) -> bool:
    """Whether a result may be fetched from `url`: over https, or from the very server that named it."""
    try:
        target, own = urlsplit(url), urlsplit(base_url)
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        return False
    if target.scheme == "https" and target.hostname:
        return True
    return (target.scheme, target.netloc) == (own.scheme, own.netloc)


def _same_query(left: Any, right: str) -> bool:
    return isinstance(left, str) and left.split() == right.split()
