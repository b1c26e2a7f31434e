"""Images per second through the whole image stage, divided by a bare libvips loop on the same bytes.

The stage downloads over HTTP, checks, stores the original and two thumbnails in a real S3 server; the
bare loop only decodes and encodes the same thumbnails, in as many threads. Run with `python -m bench images`.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pyvips

from bench.table import median_of, print_table
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.addresses import parse_allow_list
from import_core.domain.images import DEFAULT_THUMBNAIL_SIZES, KnownImage, StoredImage, UnchangedImage
from import_core.domain.products import SourceImage
from import_local.parts.objectstore import ObjectStoreServer
from import_worker.pipeline.download import ImageDownloader
from import_worker.pipeline.images import ImageImporter
from import_worker.pipeline.thumbnails import EFFORT, QUALITY, Thumbnailer

ROUNDS = 5
THREADS = os.cpu_count() or 1
PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "vendure-catalogue" / "images"


def photographs() -> list[bytes]:
    """Real photographs where they are present beside the project, and drawn ones of their size otherwise."""
    found = sorted(PHOTOGRAPHS.glob("*.jpg")) if PHOTOGRAPHS.is_dir() else []
    if found:
        return [path.read_bytes() for path in found]
    return [_drawn(seed) for seed in range(40)]


def _drawn(seed: int) -> bytes:
    bands = [pyvips.Image.perlin(1600, 1067, cell_size=40, seed=seed * 3 + band) for band in range(3)]
    picture = bands[0].bandjoin(bands[1:]).linear(60, 128) + pyvips.Image.gaussnoise(1600, 1067, sigma=6)
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


def rate_of_bare_loop(files: Sequence[bytes]) -> float:
    """Images per second of the bare loop."""
    with ThreadPoolExecutor(THREADS) as threads:
        start = time.perf_counter()
        list(threads.map(bare, files))
        return len(files) / (time.perf_counter() - start)


async def rate_of_stage(
    importer: ImageImporter, company: str, images: Sequence[SourceImage], known: Mapping[str, KnownImage]
) -> tuple[float, dict[str, StoredImage]]:
    """Images per second of the stage, in products of ten images, and what it stored."""
    products = [images[at : at + 10] for at in range(0, len(images), 10)]
    start = time.perf_counter()
    batches = await asyncio.gather(
        *(importer.import_images(company, f"p{number}", own, known) for number, own in enumerate(products))
    )
    rate = len(images) / (time.perf_counter() - start)
    results = [result for batch in batches for result in batch]
    expected = UnchangedImage if known else StoredImage
    if not all(isinstance(result, expected) for result in results):
        raise RuntimeError(f"not every image was {expected.__name__}: {results}")
    return rate, {result.source_url: result for result in results if isinstance(result, StoredImage)}


async def measure(importer: ImageImporter, files: Sequence[bytes], port: int) -> dict[str, list[float]]:
    """Rates by row, one per round; the rows take turns so that a busy machine slows all of them."""
    images = [SourceImage(f"http://127.0.0.1:{port}/{number}") for number in range(len(files))]
    rates: dict[str, list[float]] = {"bare": [], "new": [], "unchanged": []}
    for turn in range(ROUNDS + 1):
        company = f"round-{turn}"
        bare_rate = await asyncio.to_thread(rate_of_bare_loop, files)
        new_rate, stored = await rate_of_stage(importer, company, images, {})
        unchanged_rate, _ = await rate_of_stage(importer, company, images, stored)
        if turn:  # the first round warms up
            rates["bare"].append(bare_rate)
            rates["new"].append(new_rate)
            rates["unchanged"].append(unchanged_rate)
    return rates


def report(rates: Mapping[str, Sequence[float]], files: Sequence[bytes]) -> None:
    """Print rates and, as medians with ranges over the rounds, ratios."""
    size = statistics.mean(map(len, files)) / 1000
    print(
        f"{len(files)} images of {size:.0f} kB on average, {ROUNDS} rounds, {THREADS} threads that decode\n"
    )
    titles = {
        "bare": "bare libvips loop: decode, two thumbnails",
        "new": "new: download, check, store, two thumbnails",
        "unchanged": "unchanged: conditional request, nothing stored",
    }
    rows = []
    for row, title in titles.items():
        ratios = [one / other for one, other in zip(rates[row], rates["bare"], strict=True)]
        rows.append((title, median_of(rates[row]), median_of(ratios)))
    print_table(("images", "per second", "÷ bare loop"), rows)


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
        thumbnailer = Thumbnailer(threads=THREADS)
        downloader = ImageDownloader(allow=parse_allow_list(f"127.0.0.1:{port}"))
        try:
            bucket = await server.create_bucket("bench")
            os.environ["AWS_ACCESS_KEY_ID"] = bucket.access_key_id
            os.environ["AWS_SECRET_ACCESS_KEY"] = bucket.secret_access_key
            store = ObjectStore(bucket.name, endpoint_url=bucket.endpoint_url, region=bucket.region)
            report(await measure(ImageImporter(downloader, thumbnailer, store), files, port), files)
        finally:
            thumbnailer.close()
            await downloader.aclose()
            await server.stop()
            sources.terminate()
            await asyncio.to_thread(partial(sources.join, timeout=10))


if __name__ == "__main__":
    asyncio.run(main())
