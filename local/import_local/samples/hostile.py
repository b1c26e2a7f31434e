"""Serves the hostile images: bodies that lie about themselves, bombs, redirects, endless answers."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from import_local.samples.images import CONTENT_TYPES, good_image
from import_local.samples.serving import base_url, sample_of

MEBIBYTE = 1024 * 1024
TOO_LARGE = 26 * MEBIBYTE
BOMB_SIDE = 30_000
HTML = b"<!doctype html><html><head><title>Please sign in</title></head><body>Not an image</body></html>"
SVG = (
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="64" height="64">'
    b'<script>fetch("http://169.254.169.254/")</script><rect width="64" height="64"/></svg>'
)
Case = Callable[[Request], Awaitable[Response]]


@lru_cache(maxsize=1)
def bomb() -> bytes:
    """Return a correct PNG of about 110 kB that holds 900 megapixels: one bit each, all zero."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + (BOMB_SIDE + 7) // 8)
    data = b"".join(compressor.compress(row) for _ in range(BOMB_SIDE)) + compressor.flush()
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    )


def _fixed(content: Callable[[], bytes], media_type: str, status: int = 200) -> Case:
    async def case(_request: Request) -> Response:
        return Response(await asyncio.to_thread(content), status, media_type=media_type)

    return case


def _redirect(target: Callable[[Request], str]) -> Case:
    async def case(request: Request) -> Response:
        return RedirectResponse(target(request), 302)

    return case


async def _large_body() -> AsyncIterator[bytes]:
    start = good_image("jpeg")
    yield start
    sent = len(start)
    while sent < TOO_LARGE:
        size = min(64 * 1024, TOO_LARGE - sent)
        yield bytes(size)
        sent += size


async def _too_large(_request: Request) -> Response:
    headers = {"Content-Length": str(TOO_LARGE)}
    return StreamingResponse(_large_body(), media_type="image/jpeg", headers=headers)


async def _too_large_chunked(_request: Request) -> Response:
    return StreamingResponse(_large_body(), media_type="image/jpeg")


async def _slow(request: Request) -> Response:
    """Drip a correct JPEG, one byte every `interval` seconds (query parameter; 0.5 by default)."""
    interval = min(60.0, max(0.001, float(request.query_params.get("interval", "0.5"))))
    content = good_image("jpeg")

    async def drip() -> AsyncIterator[bytes]:
        for position in range(len(content)):
            yield content[position : position + 1]
            await asyncio.sleep(interval)

    headers = {"Content-Length": str(len(content))}
    return StreamingResponse(drip(), media_type="image/jpeg", headers=headers)


CASES: dict[str, Case] = {
    "html.jpg": _fixed(lambda: HTML, "image/jpeg"),
    "truncated.jpg": _fixed(lambda: good_image("jpeg")[: len(good_image("jpeg")) // 3], "image/jpeg"),
    "bomb.png": _fixed(bomb, "image/png"),
    "too-large.jpg": _too_large,
    "too-large-chunked.jpg": _too_large_chunked,
    "redirect-metadata": _redirect(lambda _: "http://169.254.169.254/latest/meta-data/"),
    "redirect-loopback": _redirect(
        lambda request: f"http://127.0.0.1:{sample_of(request).settings.loopback_port}/secret.jpg"
    ),
    "redirect-loop": _redirect(lambda request: f"{base_url(request)}/hostile/redirect-loop"),
    "redirect-good": _redirect(lambda request: f"{base_url(request)}/hostile/good.jpg"),
    "script.svg": _fixed(lambda: SVG, "image/svg+xml"),
    "slow.jpg": _slow,
    "not-found.jpg": _fixed(lambda: b"Not Found", "text/plain", 404),
    "error.jpg": _fixed(lambda: b"Internal Server Error", "text/plain", 500),
    "forbidden.jpg": _fixed(lambda: b"Forbidden", "text/plain", 403),
    "empty.jpg": _fixed(lambda: b"", "image/jpeg"),
    "wrong-type.png": _fixed(lambda: good_image("png"), "text/html"),
    "good.jpg": _fixed(lambda: good_image("jpeg"), CONTENT_TYPES["jpeg"]),
    "good.png": _fixed(lambda: good_image("png"), CONTENT_TYPES["png"]),
    "good.webp": _fixed(lambda: good_image("webp"), CONTENT_TYPES["webp"]),
    "good.avif": _fixed(lambda: good_image("avif"), CONTENT_TYPES["avif"]),
    "good.gif": _fixed(lambda: good_image("gif"), CONTENT_TYPES["gif"]),
}


async def hostile(request: Request) -> Response:
    """Answer GET of one case."""
    case = CASES.get(request.path_params["case"])
    return await case(request) if case else Response("No such case", 404, media_type="text/plain")


def routes() -> list[Route]:
    """Return the route of all cases."""
    return [Route("/hostile/{case}", hostile)]
