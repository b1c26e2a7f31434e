"""Downloads one image from an untrusted URL: streamed, bounded in bytes, time and memory, never internal.

Built on httpcore2 (the transport under httpx2) rather than on its client: a client would keep cookies
between merchants, decompress bodies and read proxies from the environment, none of which is wanted here.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpcore2
import httpx2

from import_core.domain.addresses import AllowedNetwork, ForbiddenAddressError, display_url, parse_image_url
from import_core.domain.errors import InvalidInputError, ItemError
from import_core.domain.images import MAX_BYTES, SNIFF_BYTES, Fetch, ImageFormat, sniff
from import_worker.network import CheckedNetworkBackend, Resolver, resolve, tls_context
from import_worker.pipeline.limits import ByteBudget, HostLimits

MAX_REDIRECTS = 5
MAX_VALIDATOR_LENGTH = 512
"""Longest ETag or Last-Modified kept (characters); a longer one is as good as none."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_STATUS_REASONS = {401: "AccessDenied", 403: "AccessDenied", 404: "NotFound", 410: "NotFound"}


@dataclass(frozen=True, slots=True)
class Downloaded:
    """An image's bytes; they count against the memory budget until the download's context ends.

    `sha256` is in hex; `format` is what the first bytes say, not what the server claims.
    """

    content: bytes
    sha256: str
    etag: str | None
    last_modified: str | None
    format: ImageFormat


@dataclass(frozen=True, slots=True)
class NotModified:
    """The source still has what the validators name; these are the ones to keep."""

    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Bounds of one request.

    `total` and `idle` are seconds for the whole of it and between two reads, without waiting for our own
    turn or memory; after `grace` seconds the
    body must have come at `minimum_rate` bytes/s or more on average; `max_bytes` bounds the body.
    """

    total: float = 60.0
    connect: float = 10.0
    idle: float = 15.0
    grace: float = 10.0
    minimum_rate: float = 20_000.0
    max_bytes: int = MAX_BYTES


class _PassingError(Exception):
    """A try failed in a way that may pass."""


class ImageDownloader:
    """Fetches images for all jobs of a worker; safe for use by many tasks of one event loop.

    `allow` opens addresses that are not public; `backoff` has the seconds before each further try (with
    jitter of half); `memory` bounds the bytes of all images being worked on; `resolver` and `ssl_context`
    are for tests and private certificate authorities.
    """

    def __init__(
        self,
        *,
        allow: Sequence[AllowedNetwork] = (),
        per_host_concurrency: int = 6,
        limits: DownloadLimits | None = None,
        memory: int = 150_000_000,
        backoff: Sequence[float] = (0.5, 2.0),
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits or DownloadLimits()
        self.memory = ByteBudget(memory)
        self._hosts = HostLimits(per_host_concurrency)
        self._backoff = tuple(backoff)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or tls_context(),
            max_connections=200,
            max_keepalive_connections=40,
            keepalive_expiry=30.0,
            network_backend=CheckedNetworkBackend(allow, resolver),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    @asynccontextmanager
    async def fetch(
        self, url: str, conditions: Fetch | None = None
    ) -> AsyncIterator[Downloaded | NotModified]:
        """Download `url`, trying again after failures that may pass.

        The bytes are counted in the memory budget until the context ends: keep them no longer.
        Raises ItemError with stage "download", or "decode" for content that is no accepted image.
        """
        conditions = conditions or Fetch()
        async with AsyncExitStack() as stack:
            for pause in (*self._backoff, None):
                try:
                    answer = await self._try(url, conditions, stack)
                    break
                except _PassingError as error:
                    if pause is None:
                        tries = len(self._backoff) + 1
                        raise ItemError("download", "Unreachable", f"{error} ({tries} tries)") from error
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            yield answer

    async def _try(self, url: str, conditions: Fetch, stack: AsyncExitStack) -> Downloaded | NotModified:
        shown = display_url(url)
        # Entered apart from the caller's stack: a failed try must not keep its reservation.
        async with AsyncExitStack() as held:
            try:
                answer = await self._follow(url, conditions, held)
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
                raise _PassingError(f"{shown}: {_describe(error)}") from error
            stack.push_async_exit(held.pop_all())
            return answer

    async def _follow(self, url: str, conditions: Fetch, held: AsyncExitStack) -> Downloaded | NotModified:
        """Request `url` and what it redirects to, every hop checked like the first."""
        target, via = url, ""
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = await self._request(target, conditions, held)
            except ForbiddenAddressError as error:
                raise ItemError("download", "ForbiddenAddress", f"{error.message}{via}") from error
            except ItemError as error:
                raise ItemError(error.stage, error.reason, f"{error.message}{via}") from error
            if not isinstance(answer, str):
                return answer
            target, via = answer, f" (redirected from {display_url(url)})"
        message = f"{display_url(url)} redirects more than {MAX_REDIRECTS} times"
        raise ItemError("download", "TooManyRedirects", message)

    async def _request(
        self, url: str, conditions: Fetch, held: AsyncExitStack
    ) -> Downloaded | NotModified | str:
        """Send one request; returns a string when the answer is a redirect: where to."""
        try:
            address = parse_image_url(url)
            target = httpx2.URL(url)
        except (InvalidInputError, httpx2.InvalidURL) as error:
            message = f"the address {display_url(url)} can't be used: {error}"
            raise ItemError("download", "InvalidUrl", message) from error
        request = httpcore2.Request(
            "GET",
            httpcore2.URL(
                scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path
            ),
            headers=_request_headers(target, conditions),
            extensions={
                "timeout": {
                    "connect": self.limits.connect,
                    "read": self.limits.idle,
                    "write": self.limits.idle,
                    "pool": self.limits.total,
                }
            },
        )
        async with self._hosts.slot(f"{address.host}:{address.port}"):
            try:
                async with asyncio.timeout(self.limits.total) as clock:
                    response = await self._pool.handle_async_request(request)
                    try:
                        return await self._read_answer(url, response, conditions, held, clock)
                    finally:
                        await response.aclose()
            except TimeoutError as error:
                message = f"{display_url(url)} did not answer in full within {self.limits.total:g} s"
                raise ItemError("download", "Timeout", message) from error

    async def _read_answer(
        self,
        url: str,
        response: httpcore2.Response,
        conditions: Fetch,
        held: AsyncExitStack,
        clock: asyncio.Timeout,
    ) -> Downloaded | NotModified | str:
        headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in REDIRECTS:
            return _redirect_target(url, headers)
        etag, last_modified = _validator(headers, b"etag"), _validator(headers, b"last-modified")
        if response.status == 304 and conditions.is_conditional:
            return NotModified(etag or conditions.etag, last_modified or conditions.last_modified)
        if response.status != 200:
            raise _refused_status(url, response.status)
        length = self._checked_length(url, headers)
        with _stopped(clock):
            await held.enter_async_context(self.memory.reserve(length or self.limits.max_bytes))
        downloaded = await self._read_body(url, response, etag, last_modified)
        if length is not None and len(downloaded.content) != length:
            raise _PassingError(f"{display_url(url)} sent {len(downloaded.content):,} of {length:,} bytes")
        return downloaded

    def _checked_length(self, url: str, headers: Mapping[bytes, str]) -> int | None:
        encoding = headers.get(b"content-encoding", "identity").strip().lower()
        if encoding not in {"", "identity"}:
            message = (
                f"{display_url(url)} sent a compressed answer ({encoding[:40]}) although none was asked for"
            )
            raise ItemError("download", "ContentEncoding", message)
        declared = headers.get(b"content-length")
        length = int(declared) if declared is not None and declared.isdecimal() else None
        if length is not None and length > self.limits.max_bytes:
            raise self._too_large(url)
        return length

    async def _read_body(
        self, url: str, response: httpcore2.Response, etag: str | None, last_modified: str | None
    ) -> Downloaded:
        """Read the body, cut off at the first byte too many, and when it drips."""
        limits, chunks, size, digest = self.limits, list[bytes](), 0, hashlib.sha256()
        image_format: ImageFormat | None = None
        start = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(start + limits.grace) as pace:
                async for chunk in response.aiter_stream():
                    chunks.append(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    if size > limits.max_bytes:
                        raise self._too_large(url)
                    if image_format is None and size >= SNIFF_BYTES:
                        image_format = sniff(b"".join(chunks)[:SNIFF_BYTES])
                    pace.reschedule(start + limits.grace + size / limits.minimum_rate)
        except TimeoutError as error:
            elapsed = asyncio.get_running_loop().time() - start
            message = f"{display_url(url)} sent only {size:,} bytes in {elapsed:.1f} s"
            raise ItemError("download", "TooSlow", message) from error
        content = b"".join(chunks)
        image_format = image_format or sniff(content)
        return Downloaded(content, digest.hexdigest(), etag, last_modified, image_format)

    def _too_large(self, url: str) -> ItemError:
        message = f"{display_url(url)} is larger than the {self.limits.max_bytes:,} bytes that are accepted"
        return ItemError("download", "TooLarge", message)


@contextmanager
def _stopped(clock: asyncio.Timeout) -> Iterator[None]:
    """Stop a request's clock while this worker, not the source, is what takes the time."""
    loop, deadline = asyncio.get_running_loop(), clock.when()
    start = loop.time()
    clock.reschedule(None)
    yield
    clock.reschedule(None if deadline is None else deadline + loop.time() - start)


def _request_headers(url: httpx2.URL, conditions: Fetch) -> list[tuple[bytes, bytes]]:
    named = {
        "Host": url.netloc.decode("ascii"),
        "Accept": "image/avif,image/webp,image/png,image/jpeg,image/gif",
        "Accept-Encoding": "identity",
        "User-Agent": "import-operator",
        **conditions.headers,
    }
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in named.items()]


def _redirect_target(url: str, headers: Mapping[bytes, str]) -> str:
    location = headers.get(b"location")
    if location is None:
        message = f"{display_url(url)} redirects without saying where to"
        raise ItemError("download", "InvalidUrl", message)
    try:
        # Some servers send raw UTF-8 in Location, against RFC 9110; browsers accept it.
        return str(httpx2.URL(url).join(location.encode("latin-1").decode("utf-8", "replace")))
    except httpx2.InvalidURL as error:
        message = f"{display_url(url)} redirects to an address that can't be read"
        raise ItemError("download", "InvalidUrl", message) from error


def _validator(headers: Mapping[bytes, str], name: bytes) -> str | None:
    value = headers.get(name)
    return value if value and len(value) <= MAX_VALIDATOR_LENGTH else None


def _refused_status(url: str, status: int) -> Exception:
    message = f"{display_url(url)} answered with status {status}"
    if status in RETRIED_STATUSES:
        return _PassingError(message)
    return ItemError("download", _STATUS_REASONS.get(status, "UnexpectedStatus"), message)


def _describe(error: Exception) -> str:
    """Say what went wrong on the network; some of the transport's errors carry no text."""
    if isinstance(error, httpcore2.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpcore2.TimeoutException):
        return "no answer in time"
    return str(error)[:200] or "the connection was lost"
