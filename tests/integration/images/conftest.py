"""Fixtures of the image tests: an HTTP server written by the test, and small pictures."""

import io
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from integration.images import image_server
from integration.images.image_server import Downloading, ImageServer
from PIL import Image

from import_worker.pipeline.download import ImageDownloader


@pytest_asyncio.fixture
async def server() -> AsyncIterator[image_server.ImageServer]:
    async with image_server.running() as running:
        yield running


@pytest.fixture
def downloading(server: ImageServer) -> Downloading:
    @asynccontextmanager
    async def run(**options: Any) -> AsyncIterator[ImageDownloader]:
        downloader = ImageDownloader(**{"allow": server.allow, "backoff": (0.0, 0.0), **options})
        yield downloader
        assert downloader.memory.free == downloader.memory.total, "a reservation was kept"
        await downloader.aclose()

    return run


def _encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return _encoded(Image.effect_noise((1600, 1000), 40).convert("RGB"), "JPEG")


@pytest.fixture(scope="session")
def png() -> bytes:
    return _encoded(Image.effect_noise((300, 200), 40).convert("RGBA"), "PNG")


@pytest.fixture(scope="session")
def bomb() -> bytes:
    """A PNG of a kilobyte that says it is 30,000 × 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
