"""Downloads against a real HTTP server that answers well, badly and with malice."""

import asyncio
import gzip
import hashlib

import pytest
from integration.images.image_server import (
    Downloading,
    ImageServer,
    Request,
    answering,
    failure,
    fetch,
    reply,
)

from import_core.domain.images import Fetch, ImageFormat
from import_worker.pipeline.download import Downloaded, DownloadLimits, ImageDownloader, NotModified


async def test_downloads_the_bytes_with_their_identity(
    server: ImageServer, downloading: Downloading, jpeg: bytes
) -> None:
    url = server.serve("/a.png", jpeg, ETag='"one"', Last_Modified="Sun, 22 Nov 2026 10:00:00 GMT")
    async with downloading() as downloader:
        answer = await fetch(downloader, url)
    assert isinstance(answer, Downloaded)
    assert bytes(answer.content) == jpeg
    assert answer.sha256 == hashlib.sha256(jpeg).hexdigest()
    assert (answer.etag, answer.last_modified) == ('"one"', "Sun, 22 Nov 2026 10:00:00 GMT")
    assert answer.format is ImageFormat.JPEG, "the name says PNG, the bytes say JPEG"
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


async def test_memory_is_held_until_the_context_ends(
    server: ImageServer, downloading: Downloading, jpeg: bytes
) -> None:
    url = server.serve("/a.jpg", jpeg)
    async with downloading() as downloader, downloader.fetch(url):
        assert downloader.memory.free == downloader.memory.total - len(jpeg)


async def test_conditional_request(server: ImageServer, downloading: Downloading) -> None:
    url = server.serve("/a.jpg", b"", status=304)
    async with downloading() as downloader:
        answer = await fetch(downloader, url, Fetch('"one"', "yesterday"))
        assert answer == NotModified('"one"', "yesterday")
        assert (await failure(downloader, url)).reason == "UnexpectedStatus"
    assert server.requests[0].headers["if-none-match"] == '"one"'
    assert server.requests[0].headers["if-modified-since"] == "yesterday"


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        (b"<!DOCTYPE html><html><body>Not here</body></html>", "NotAnImage", "an HTML page"),
        (b'{"error": "gone"}', "NotAnImage", "JSON"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "UnsupportedFormat", "an SVG drawing"),
        (b"", "EmptyFile", "empty"),
    ],
)
async def test_content_that_is_no_accepted_image(
    server: ImageServer, downloading: Downloading, body: bytes, reason: str, words: str
) -> None:
    url = server.serve("/photo.jpg", body, Content_Type="image/jpeg")
    async with downloading() as downloader:
        error = await failure(downloader, url)
    assert (error.stage, error.reason) == ("decode", reason)
    assert words in error.message
    assert len(server.requests) == 1


async def test_declared_size_is_refused_unread(server: ImageServer, downloading: Downloading) -> None:
    url = server.serve("/a.jpg", b"\xff\xd8\xff", Content_Length="25000001")
    async with downloading() as downloader:
        error = await failure(downloader, url)
    assert (error.stage, error.reason) == ("download", "TooLarge")
    assert "25,000,000 bytes" in error.message


async def test_undeclared_size_is_cut_off(server: ImageServer, downloading: Downloading) -> None:
    sent = 0

    async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\xff\xd8\xff")
        while True:
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    url = server.serve_route("/a.jpg", endless)
    async with downloading(limits=DownloadLimits(max_bytes=1_000_000)) as downloader:
        error = await failure(downloader, url)
    assert (error.stage, error.reason) == ("download", "TooLarge")
    assert sent < 20_000_000, "read on after the limit"


async def test_compressed_answers_are_refused(server: ImageServer, downloading: Downloading) -> None:
    bomb = gzip.compress(b"\xff\xd8\xff" + bytes(50_000_000))
    url = server.serve("/a.jpg", bomb, Content_Encoding="gzip")
    async with downloading() as downloader:
        assert (await failure(downloader, url)).reason == "ContentEncoding"


async def test_redirects_are_followed_and_counted(
    server: ImageServer, downloading: Downloading, jpeg: bytes
) -> None:
    server.serve("/5", jpeg)
    for hop in range(5):
        server.serve(f"/{hop}", b"", status=307, Location=f"{hop + 1}")
    server.serve("/loop", b"", status=302, Location="/loop")
    server.serve("/nowhere", b"", status=302)
    async with downloading() as downloader:
        assert isinstance(await fetch(downloader, server.url("/0")), Downloaded)
        server.requests.clear()
        assert (await failure(downloader, server.url("/loop"))).reason == "TooManyRedirects"
        assert len(server.requests) == 6
        assert (await failure(downloader, server.url("/nowhere"))).reason == "InvalidUrl"


async def test_passing_failures_are_tried_again(
    server: ImageServer, downloading: Downloading, jpeg: bytes
) -> None:
    async def flaky(_: Request, writer: asyncio.StreamWriter) -> None:
        match len(server.requests):
            case 1:
                reply(writer, b"", 503)
            case 2:
                reply(writer, jpeg[:100], headers={"Content-Length": str(len(jpeg))})
            case _:
                reply(writer, jpeg)

    url = server.serve_route("/a.jpg", flaky)
    async with downloading() as downloader:
        answer = await fetch(downloader, url)
    assert isinstance(answer, Downloaded)
    assert bytes(answer.content) == jpeg
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "reason", "tries"),
    [
        (500, "Unreachable", 3),
        (429, "Unreachable", 3),
        (404, "NotFound", 1),
        (403, "AccessDenied", 1),
        (206, "UnexpectedStatus", 1),
    ],
)
async def test_refusals(
    server: ImageServer, downloading: Downloading, status: int, reason: str, tries: int
) -> None:
    url = server.serve("/a.jpg", b"no", status=status)
    async with downloading() as downloader:
        error = await failure(downloader, url)
    assert (error.stage, error.reason, len(server.requests)) == ("download", reason, tries)
    assert f"status {status}" in error.message


async def test_dripping_source_is_cut_off(server: ImageServer, downloading: Downloading) -> None:
    gone = asyncio.Event()

    async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n\xff\xd8\xff")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    url = server.serve_route("/a.jpg", drip)
    async with downloading(limits=DownloadLimits(grace=0.1, minimum_rate=1e6)) as downloader:
        assert (await failure(downloader, url)).reason == "TooSlow"
        await gone.wait()


async def test_silent_source_is_given_up(server: ImageServer, downloading: Downloading) -> None:
    async def silent(_: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    url = server.serve_route("/a.jpg", silent)
    async with downloading(limits=DownloadLimits(total=0.2)) as downloader:
        assert (await failure(downloader, url)).reason == "Timeout"
    async with downloading(limits=DownloadLimits(idle=0.05), backoff=()) as downloader:
        assert (await failure(downloader, url)).reason == "Unreachable"


async def test_cookies_are_not_kept(server: ImageServer, downloading: Downloading, jpeg: bytes) -> None:
    url = server.serve("/a.jpg", jpeg, Set_Cookie="merchant=one")
    async with downloading() as downloader:
        await fetch(downloader, url)
        await fetch(downloader, url)
    assert all("cookie" not in request.headers for request in server.requests)


class Crowd:
    """Counts how many requests are in work at a time; each waits until the limit was reached once."""

    def __init__(self, expected: int, body: bytes) -> None:
        self.expected, self.body = expected, body
        self.active = self.most = 0
        self.full = asyncio.Event()

    async def __call__(self, _: Request, writer: asyncio.StreamWriter) -> None:
        self.active += 1
        self.most = max(self.most, self.active)
        if self.active == self.expected:
            self.full.set()
        await self.full.wait()
        self.active -= 1
        reply(writer, self.body)


async def test_each_host_has_its_own_limit(server: ImageServer, downloading: Downloading, png: bytes) -> None:
    one, two = Crowd(3, png), Crowd(3, png)
    server.serve_route("/one", one)
    server.serve_route("/two", two)
    resolver, _ = answering(["127.0.0.1"])
    async with downloading(per_host_concurrency=3, resolver=resolver) as downloader:
        urls = [server.url(f"/{name}", host=f"{name}.example") for name in ("one", "two")] * 10
        await asyncio.gather(*(fetch(downloader, url) for url in urls))
    assert (one.most, two.most) == (3, 3)


async def test_memory_budget_bounds_what_is_held(
    server: ImageServer, downloading: Downloading, png: bytes
) -> None:
    url = server.serve("/a.png", png)
    held = most = 0

    async def hold(downloader: ImageDownloader) -> None:
        nonlocal held, most
        async with downloader.fetch(url):
            held += 1
            most = max(most, held)
            await asyncio.sleep(0)
            held -= 1

    async with downloading(memory=2 * len(png) + 10, per_host_concurrency=20) as downloader:
        await asyncio.gather(*(hold(downloader) for _ in range(20)))
    assert 1 <= most <= 2


async def test_cancelled_download_frees_its_memory_and_slot(
    server: ImageServer, downloading: Downloading, png: bytes
) -> None:
    reached = asyncio.Event()

    async def half(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n\xff\xd8\xff")
        await writer.drain()
        reached.set()
        await asyncio.Event().wait()

    url = server.serve_route("/half", half)
    async with downloading(per_host_concurrency=1) as downloader:
        task = asyncio.create_task(fetch(downloader, url))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(await fetch(downloader, server.serve("/a.png", png)), Downloaded)
