"""The whole image stage, beside a bare libvips loop on the same bytes and beside Pillow: per second and in CPU time.

The stage downloads over HTTP, checks, stores the original and two thumbnails in a real S3 server; the bare loop only
decodes and encodes the same thumbnails, in as many threads. Each way is a process of its own, whose CPU time and memory
are its alone: the source and the S3 server are others. Run with `python -m bench images`; IMAGE_ROUNDS and IMAGE_COUNT
set the size.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pyvips
import structlog
from PIL import Image

from bench.measuring import Clock, Figures, Work, in_process
from bench.table import median_of, print_table, ratios_of
from import_core.adapters.images.decoding import read_dimensions, restrict_loaders
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.addresses import parse_allow_list
from import_core.domain.images import DEFAULT_THUMBNAIL_SIZES, KnownImage, StoredImage, UnchangedImage, sniff
from import_core.domain.products import SourceImage
from import_local.parts.objectstore import Bucket, ObjectStoreServer
from import_worker.pipeline.download import ImageDownloader
from import_worker.pipeline.images import ImageImporter
from import_worker.pipeline.thumbnails import EFFORT, QUALITY, Thumbnailer, render_thumbnails

ROUNDS = int(os.environ.get("IMAGE_ROUNDS", "5"))
COUNT = int(os.environ.get("IMAGE_COUNT", "54"))
THREADS = os.cpu_count() or 1
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "vendure-catalogue" / "images"


def photographs() -> list[bytes]:
    """Real photographs where they are present beside the project, and drawn ones of their size otherwise."""
    found = sorted(PHOTOGRAPHS.glob("*.jpg")) if PHOTOGRAPHS.is_dir() else []
    if found:
        return [path.read_bytes() for path in found[:COUNT]]
    return [_drawn(seed, 1600, 1067) for seed in range(min(COUNT, 40))]


def from_a_camera() -> list[bytes]:
    """Of the size that a camera makes, which a decoder can shrink on the way."""
    return [_drawn(1, 3000, 2000)] * max(4, COUNT // 4)


FILES: dict[str, Callable[[], list[bytes]]] = {"photographs": photographs, "camera": from_a_camera}


def _drawn(seed: int, width: int, height: int) -> bytes:
    bands = [pyvips.Image.perlin(width, height, cell_size=40, seed=seed * 3 + band) for band in range(3)]
    picture = bands[0].bandjoin(bands[1:]).linear(60, 128) + pyvips.Image.gaussnoise(width, height, sigma=6)
    content: bytes = picture.cast("uchar").copy(interpretation="srgb").jpegsave_buffer(Q=85)
    return content


def serve(files: Sequence[bytes], ready: Connection) -> None:
    """Serve the files at /0, /1, ... with ETags, in a process of its own."""
    etags = [f'"{hashlib.sha256(content).hexdigest()}"' for content in files]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                number = int(head.split(" ", 2)[1][1:])
                content, status = files[number], "200 OK"
                if etags[number] in head:
                    content, status = b"", "304 Not Modified"
                length = f"Content-Length: {len(content)}\r\n" if content else ""
                writer.write(f"HTTP/1.1 {status}\r\nETag: {etags[number]}\r\n{length}\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def bare(content: bytes) -> int:
    """The least that makes the same two thumbnails: decode to the larger, shrink to the smaller, encode both."""
    small, large = sorted(DEFAULT_THUMBNAIL_SIZES)
    picture = pyvips.Image.thumbnail_buffer(content, large, height=large, size="down").copy_memory()
    smaller = picture.thumbnail_image(small, height=small, size="down")
    save = {"Q": QUALITY, "effort": EFFORT, "keep": "none"}
    return len(picture.webpsave_buffer(**save)) + len(smaller.webpsave_buffer(**save))


def ours(content: bytes) -> int:
    """What the stage does between download and storing: header, checks, decode, both thumbnails."""
    found = sniff(content)
    rendered = render_thumbnails(
        content, found, read_dimensions(content, found), DEFAULT_THUMBNAIL_SIZES[::-1]
    )
    return sum(map(len, rendered.values()))


def with_pillow(content: bytes) -> int:
    """The same two thumbnails by Pillow, whose `thumbnail` has the JPEG decoder shrink on the way (draft mode)."""
    small, large = sorted(DEFAULT_THUMBNAIL_SIZES)
    written = 0
    with Image.open(io.BytesIO(content)) as picture:
        for size in (large, small):
            picture.thumbnail((size, size))
            file = io.BytesIO()
            (picture if picture.mode == "RGB" else picture.convert("RGB")).save(
                file, "WEBP", quality=QUALITY, method=EFFORT
            )
            written += len(file.getvalue())
    return written


DECODERS: dict[str, Callable[[bytes], int]] = {"bare": bare, "ours": ours, "pillow": with_pillow}


async def decode_all(clock: Clock, way: str, threads: int, images: str) -> int:
    """Decode all images in one way; how many bytes the thumbnails have."""
    files, work = FILES[images](), DECODERS[way]
    restrict_loaders()
    work(files[0])  # what is loaded at the first use
    with ThreadPoolExecutor(threads) as executor:
        clock.start()
        total = sum(executor.map(work, files))
        clock.stop()
    return total


async def import_all(clock: Clock, port: int, bucket: Bucket, company: str) -> Figures:
    """Import all photographs as new ones; returns what the same images took again."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    images = [SourceImage(f"http://127.0.0.1:{port}/{number}") for number in range(len(photographs()))]
    thumbnailer = Thumbnailer(threads=THREADS)
    downloader = ImageDownloader(allow=parse_allow_list(f"127.0.0.1:{port}"))
    importer = ImageImporter(
        downloader,
        thumbnailer,
        ObjectStore(bucket.name, endpoint_url=bucket.endpoint_url, region=bucket.region),
    )
    try:
        await _import(importer, f"{company}-first", images[:1], {})  # what is loaded at the first use
        clock.start()
        stored = await _import(importer, company, images, {})
        clock.stop()
        began, cpu = time.perf_counter(), time.process_time()
        await _import(importer, company, images, stored)
        return Figures(time.perf_counter() - began, time.process_time() - cpu, 0)
    finally:
        thumbnailer.close()
        await downloader.aclose()


async def _import(
    importer: ImageImporter, company: str, images: Sequence[SourceImage], known: Mapping[str, KnownImage]
) -> dict[str, StoredImage]:
    """Import in products of ten images; what was stored."""
    products = [images[at : at + 10] for at in range(0, len(images), 10)]
    batches = await asyncio.gather(
        *(importer.import_images(company, f"p{number}", own, known) for number, own in enumerate(products))
    )
    results = [result for batch in batches for result in batch]
    expected = UnchangedImage if known else StoredImage
    if not all(isinstance(result, expected) for result in results):
        raise RuntimeError(f"not every image was {expected.__name__}: {results}")
    return {result.source_url: result for result in results if isinstance(result, StoredImage)}


TITLES = {
    "bare": ("bare libvips loop: decode, two thumbnails", "bare"),
    "new": ("new: download, check, store, two thumbnails", "bare"),
    "unchanged": ("unchanged: conditional request, nothing stored", "bare"),
    "pillow": ("Pillow, draft mode: decode, two thumbnails", "pillow"),
    "one": ("check, decode, two thumbnails", "pillow"),
    "camera, pillow": ("3000 × 2000: Pillow, draft mode", "camera, pillow"),
    "camera": ("3000 × 2000: check, decode, two thumbnails", "camera, pillow"),
}


async def measure(stage: Callable[[str], tuple[object, ...]]) -> dict[str, list[Figures]]:
    """What each way took, one per round; the ways take turns so that a busy machine slows all of them."""
    ways: dict[str, Callable[[int], tuple[Work, tuple[object, ...]]]] = {
        "bare": lambda _: (decode_all, ("bare", THREADS, "photographs")),
        "new": lambda turn: (import_all, stage(f"round-{turn}")),
        "one": lambda _: (decode_all, ("ours", 1, "photographs")),
        "pillow": lambda _: (decode_all, ("pillow", 1, "photographs")),
        "camera": lambda _: (decode_all, ("ours", 1, "camera")),
        "camera, pillow": lambda _: (decode_all, ("pillow", 1, "camera")),
    }
    taken: dict[str, list[Figures]] = {way: [] for way in [*ways, "unchanged"]}
    for turn in range(ROUNDS):
        for way in list(ways)[:: -1 if turn % 2 else 1]:
            work, arguments = ways[way](turn)
            figures = await in_process(f"images-{way}-{turn}", work, *arguments)
            taken[way].append(figures)
            if way == "new":
                taken["unchanged"].append(figures.said)
    return taken


def report(taken: Mapping[str, Sequence[Figures]]) -> None:
    """Print rates, CPU time and, as medians with ranges over the rounds, ratios."""
    counts = {name: len(make()) for name, make in FILES.items()}
    size = statistics.mean(map(len, photographs())) / 1000
    print(
        f"{counts['photographs']} photographs of {size:.0f} kB on average, {ROUNDS} rounds, {THREADS} threads that"
        " decode, and one where the reference is Pillow\n"
    )
    rows = []
    for way, (title, reference) in TITLES.items():
        count = counts["camera" if way.startswith("camera") else "photographs"]
        seconds = [one.seconds for one in taken[way]]
        cpu, other = [one.cpu_seconds for one in taken[way]], [one.cpu_seconds for one in taken[reference]]
        rows.append(
            (
                title,
                median_of([count / one for one in seconds]),
                median_of([1000 * one / count for one in cpu]),
                median_of(ratios_of(cpu, other)),
                median_of(ratios_of(other, cpu)),
                median_of([one.peak_mib for one in taken[way]]) if way != "unchanged" else "–",
            )
        )
    header = (
        *("images", "per second", "CPU-ms each", "CPU ÷ reference"),
        *("images per CPU-second ÷ reference", "peak MiB"),
    )
    print_table(header, rows)


async def main() -> None:
    """Start the servers, measure, print."""
    files = photographs()
    listening, ready = multiprocessing.Pipe(duplex=False)
    sources = multiprocessing.get_context("spawn").Process(target=serve, args=(files, ready), daemon=True)
    sources.start()
    port: int = await asyncio.to_thread(listening.recv)
    with tempfile.TemporaryDirectory() as folder:
        server = ObjectStoreServer(Path(folder) / "store", log_path=Path(folder) / "store.log")
        await server.start()
        try:
            bucket = await server.create_bucket("bench")
            os.environ["AWS_ACCESS_KEY_ID"] = bucket.access_key_id
            os.environ["AWS_SECRET_ACCESS_KEY"] = bucket.secret_access_key
            report(await measure(lambda company: (port, bucket, company)))
        finally:
            await server.stop()
            sources.terminate()
            await asyncio.to_thread(partial(sources.join, timeout=10))


if __name__ == "__main__":
    asyncio.run(main())
