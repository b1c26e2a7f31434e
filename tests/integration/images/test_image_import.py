"""The whole image stage: from a real HTTP server through libvips into a real object store."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import psutil
import pytest
import pytest_asyncio
from integration.images.image_server import ImageServer, Request, reply
from PIL import Image

from import_core.adapters.postgres.catalogue import KnownImage
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.errors import StorageUnavailableError
from import_core.domain.images import FailedImage, ImageResult, StoredImage, UnchangedImage
from import_core.domain.products import SourceImage
from import_local.parts.objectstore import Bucket
from import_worker.pipeline import download
from import_worker.pipeline.download import ImageDownloader
from import_worker.pipeline.images import ImageImporter
from import_worker.pipeline.thumbnails import Thumbnailer

SIZES = (256, 64)


class RecordingStore(ObjectStore):
    """The real store; records the keys that were really written, in order."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket.name, endpoint_url=bucket.endpoint_url, region=bucket.region)
        self.tried: list[str] = []
        self.written: list[str] = []

    async def put_if_absent(self, key: str, *arguments: object, **options: object) -> bool:
        self.tried.append(key)
        is_written = await super().put_if_absent(key, *arguments, **options)  # type: ignore[arg-type]
        if is_written:
            self.written.append(key)
        return is_written


@pytest.fixture
def store(object_store: Bucket, monkeypatch: pytest.MonkeyPatch) -> RecordingStore:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_access_key)
    return RecordingStore(object_store)


@pytest.fixture(scope="module")
def thumbnailer() -> Iterator[Thumbnailer]:
    thumbnailer = Thumbnailer()
    yield thumbnailer
    thumbnailer.close()


@pytest_asyncio.fixture
async def importer(
    server: ImageServer, store: RecordingStore, thumbnailer: Thumbnailer
) -> AsyncIterator[ImageImporter]:
    downloader = ImageDownloader(allow=server.allow, backoff=())
    yield ImageImporter(downloader, thumbnailer, store)
    await downloader.aclose()


def rows(results: list[ImageResult]) -> Mapping[str, KnownImage]:
    """What the next import reads from PostgreSQL after these were committed."""
    return {
        image.source_url: KnownImage(
            image.source_url,
            image.position,
            image.alt_text,
            image.etag,
            image.last_modified,
            image.key,
            image.sha256,
            image.thumbnails,
        )
        for image in results
        if isinstance(image, StoredImage)
    }


def serve_with_etag(server: ImageServer, path: str, content: bytes, etag: str) -> SourceImage:
    """Answer conditional requests as a CDN does."""

    async def route(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.headers.get("if-none-match") == etag:
            reply(writer, b"", 304, {"ETag": etag})
        else:
            reply(writer, content, headers={"ETag": etag})

    return SourceImage(server.serve_route(path, route), alt_text=path)


async def test_stores_the_original_and_its_thumbnails(
    server: ImageServer, importer: ImageImporter, store: RecordingStore, jpeg: bytes, png: bytes
) -> None:
    images = [
        serve_with_etag(server, "/a.jpg", jpeg, '"a"'),
        serve_with_etag(server, "/b.png", png, '"b"'),
    ]
    done: list[int] = []
    first, second = await importer.import_images("acme", "p1", images, {}, SIZES, on_image=done.append)
    assert isinstance(first, StoredImage)
    assert isinstance(second, StoredImage)
    assert (first.source_url, first.position, first.alt_text, first.etag) == (
        images[0].url,
        0,
        "/a.jpg",
        '"a"',
    )
    assert (first.content_type, first.width, first.height, first.bytes) == (
        "image/jpeg",
        1600,
        1000,
        len(jpeg),
    )
    assert first.key == f"images/acme/{first.sha256}.jpg"
    assert first.thumbnails == {size: f"images/acme/{first.sha256}_{size}.webp" for size in ("64", "256")}
    assert (second.position, second.content_type, second.width) == (1, "image/png", 300)
    assert await store.get(first.key) == jpeg
    for size in SIZES:
        thumbnail = Image.open(io.BytesIO(await store.get(first.thumbnails[str(size)]) or b""))
        assert (thumbnail.format, thumbnail.size) == ("WEBP", (size, size * 1000 // 1600))
    assert done == [1, 2]
    assert len(store.written) == 6


async def test_importing_again_writes_nothing(
    server: ImageServer, importer: ImageImporter, store: RecordingStore, jpeg: bytes
) -> None:
    image = serve_with_etag(server, "/a.jpg", jpeg, '"a"')
    known = rows(await importer.import_images("acme", "p1", [image], {}, SIZES))
    store.tried.clear()
    (again,) = await importer.import_images("acme", "p1", [image], known, SIZES)
    assert again == UnchangedImage(image.url, 0, "/a.jpg", '"a"', None, known[image.url])
    assert store.tried == []


async def test_same_bytes_under_a_new_etag_write_nothing(
    server: ImageServer, importer: ImageImporter, store: RecordingStore, jpeg: bytes
) -> None:
    known = rows(
        await importer.import_images(
            "acme", "p1", [serve_with_etag(server, "/a.jpg", jpeg, '"a"')], {}, SIZES
        )
    )
    store.tried.clear()
    image = serve_with_etag(server, "/a.jpg", jpeg, '"newer"')
    (again,) = await importer.import_images("acme", "p1", [image], known, SIZES)
    assert isinstance(again, UnchangedImage)
    assert again.etag == '"newer"'
    assert store.tried == []


async def test_a_changed_image_is_noticed(
    server: ImageServer, importer: ImageImporter, store: RecordingStore, jpeg: bytes, png: bytes
) -> None:
    known = rows(
        await importer.import_images("acme", "p1", [serve_with_etag(server, "/a", jpeg, '"a"')], {}, SIZES)
    )
    image = serve_with_etag(server, "/a", png, '"b"')
    (changed,) = await importer.import_images("acme", "p1", [image], known, SIZES)
    assert isinstance(changed, StoredImage)
    assert changed.key.endswith(".png")
    assert changed.key in store.written


async def test_a_new_thumbnail_size_is_made_without_storing_the_original_again(
    server: ImageServer, importer: ImageImporter, store: RecordingStore, jpeg: bytes
) -> None:
    image = serve_with_etag(server, "/a.jpg", jpeg, '"a"')
    known = rows(await importer.import_images("acme", "p1", [image], {}, SIZES))
    store.tried.clear()
    (more,) = await importer.import_images("acme", "p1", [image], known, (*SIZES, 128))
    assert isinstance(more, StoredImage)
    assert more.thumbnails.keys() == {"64", "128", "256"}
    assert store.tried == [more.thumbnails["128"]]


async def test_same_bytes_are_stored_once_per_company(
    server: ImageServer, importer: ImageImporter, store: RecordingStore, png: bytes
) -> None:
    images = [serve_with_etag(server, f"/{name}", png, f'"{name}"') for name in "abcdefgh"]
    results = await importer.import_images("acme", "p1", images, {}, SIZES)
    assert all(isinstance(result, StoredImage) for result in results)
    assert len(store.written) == len(set(store.written)) == 3
    store.tried.clear()
    await importer.import_images("acme", "p2", images, {}, SIZES)
    assert store.tried == [], "where the objects are, nothing is even tried"
    (other,) = await importer.import_images("other", "p1", images[:1], {}, SIZES)
    assert isinstance(other, StoredImage)
    assert other.key.startswith("images/other/")


async def test_broken_images_fail_alone_and_in_order(
    server: ImageServer, importer: ImageImporter, store: RecordingStore, jpeg: bytes, bomb: bytes
) -> None:
    urls = {
        server.serve("/html", b"<html>no</html>"): ("decode", "NotAnImage"),
        server.serve("/cut", jpeg[: len(jpeg) // 2]): ("decode", "Truncated"),
        server.serve("/bomb", bomb): ("decode", "TooManyPixels"),
        server.serve("/large", b"x", Content_Length="26000000"): ("download", "TooLarge"),
        server.serve("/inside", b"", 302, Location="http://169.254.169.254/"): (
            "download",
            "ForbiddenAddress",
        ),
        server.serve("/gone", b"", 404): ("download", "NotFound"),
        "ftp://example/a.jpg": ("download", "InvalidUrl"),
        server.serve("/good", jpeg): None,
    }
    results = await importer.import_images("acme", "p1", [SourceImage(url) for url in urls], {}, SIZES)
    assert [result.source_url for result in results] == list(urls)
    assert [result.position for result in results] == list(range(len(urls)))
    found = [(r.stage, r.reason) if isinstance(r, FailedImage) else None for r in results]
    assert found == list(urls.values())
    assert len(store.tried) == 3, "only the good one reached the store"
    assert all(result.message for result in results if isinstance(result, FailedImage))


async def test_a_store_that_is_away_fails_the_job_not_the_image(
    server: ImageServer, thumbnailer: Thumbnailer, store: RecordingStore, png: bytes
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = ObjectStore(
            "b",
            endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}",
            timeout=1,
            max_retries=0,
            retry_time=1,
        )
        downloader = ImageDownloader(allow=server.allow, backoff=())
        importer = ImageImporter(downloader, thumbnailer, away)
        images = [SourceImage(server.serve(f"/{number}", png)) for number in range(5)]
        with pytest.raises(StorageUnavailableError):
            await importer.import_images("acme", "p1", images, {}, SIZES)
    assert downloader.memory.free == downloader.memory.total
    await downloader.aclose()


@pytest.mark.parametrize("stage", ["download", "decode"])
async def test_an_unexpected_error_is_that_images_own(
    server: ImageServer, importer: ImageImporter, png: bytes, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LookupError("a bug")

    images = [SourceImage(server.serve(f"/{number}", png + bytes([number]))) for number in range(3)]
    if stage == "download":
        parse = download.parse_image_url
        monkeypatch.setattr(
            download, "parse_image_url", lambda url: broken() if url == images[1].url else parse(url)
        )
    else:
        store_image = importer._store_image

        async def store(company: str, position: int, *arguments: Any) -> Any:
            return broken() if position == 1 else await store_image(company, position, *arguments)

        monkeypatch.setattr(importer, "_store_image", store)
    first, second, third = await importer.import_images("acme", "p1", images, {}, SIZES)
    assert isinstance(first, StoredImage)
    assert isinstance(third, StoredImage)
    assert isinstance(second, FailedImage)
    assert (second.stage, second.reason, second.position) == (stage, "UnexpectedError", 1)
    assert "LookupError" in second.message


async def test_images_in_work_are_bounded_over_all_products(
    server: ImageServer, thumbnailer: Thumbnailer, store: RecordingStore, png: bytes
) -> None:
    active = most = 0
    full = asyncio.Event()

    async def crowd(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        if active == 4:
            full.set()
        await full.wait()
        active -= 1
        reply(writer, png)

    images = [SourceImage(server.serve_route(f"/{number}", crowd)) for number in range(10)]
    downloader = ImageDownloader(allow=server.allow, per_host_concurrency=50)
    importer = ImageImporter(downloader, thumbnailer, store, concurrency=4)
    await asyncio.gather(
        *(importer.import_images("acme", product, images, {}, SIZES) for product in ("p1", "p2"))
    )
    assert most == 4
    await downloader.aclose()


async def test_memory_does_not_grow_with_the_number_of_images(
    server: ImageServer, importer: ImageImporter, jpeg: bytes
) -> None:
    """Resident memory over 280 different images; the first rounds warm up allocators and pools."""

    async def marked(request: Request, writer: asyncio.StreamWriter) -> None:
        reply(writer, jpeg[:2] + b"\xff\xfe\x00\x10" + request.path[-14:].rjust(14).encode() + jpeg[2:])

    process, resident = psutil.Process(), []
    for batch in range(14):
        images = [SourceImage(server.serve_route(f"/{batch:06d}-{n:06d}", marked)) for n in range(20)]
        results = await importer.import_images("acme", f"p{batch}", images, {}, SIZES)
        assert all(isinstance(result, StoredImage) for result in results)
        assert len({result.sha256 for result in results if isinstance(result, StoredImage)}) == 20
        resident.append(process.memory_info().rss)
    growth = max(resident[10:]) - max(resident[:6])
    per_image = growth / (8 * 20)
    assert per_image < len(jpeg) / 10, f"grew by {per_image:,.0f} bytes per image of {len(jpeg):,}"
