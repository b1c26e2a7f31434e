"""Checks images by decoding them and renders thumbnails, in threads that never block the event loop.

libvips decodes untrusted bytes here, so it may use only the loaders of the accepted formats, reads the
header before any pixel, and renders only the first frame. Thumbnails are WebP: it keeps transparency,
which JPEG can't, and photographs come out a third smaller than as JPEG at the same setting.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

# Read by libvips when it is loaded: parallelism comes from this module's threads, one image each.
os.environ.setdefault("VIPS_CONCURRENCY", "1")

import pyvips

from import_core.domain.errors import ItemError
from import_core.domain.images import (
    DEFAULT_THUMBNAIL_SIZES,
    MAX_PIXELS,
    THUMBNAIL_FORMAT,
    ImageFormat,
    check_dimensions,
    check_scans,
    check_sizes,
    is_cut_off,
    thumbnail_size,
)
from import_worker.pipeline.limits import ByteBudget

QUALITY = 80
EFFORT = 2
"""WebP's effort (0-6): 4, its default, takes twice the time for 3 % smaller files."""
BYTES_PER_PIXEL = 4
_LOADERS = {
    ImageFormat.JPEG: "VipsForeignLoadJpeg",
    ImageFormat.PNG: "VipsForeignLoadPng",
    ImageFormat.WEBP: "VipsForeignLoadWebp",
    ImageFormat.GIF: "VipsForeignLoadNsgif",
    ImageFormat.AVIF: "VipsForeignLoadHeif",
}
_LOADER_NAMES = {
    ImageFormat.JPEG: "jpegload_buffer",
    ImageFormat.PNG: "pngload_buffer",
    ImageFormat.WEBP: "webpload_buffer",
    ImageFormat.GIF: "gifload_buffer",
    ImageFormat.AVIF: "heifload_buffer",
}
_STRICT = "fail_on=truncated"
"""As an option of the loader: thumbnail_buffer ignores its own `fail_on`."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Dimensions:
    """An image's width and height in pixels, as it is shown (EXIF orientation applied)."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A decoded image: its size as shown, and its thumbnails by longest side, as WebP files."""

    dimensions: Dimensions
    thumbnails: Mapping[int, bytes]


class Thumbnailer:
    """Decodes images in `threads` threads of its own; all images in work share one budget of pixels.

    `pixels` bounds what is decoded at the same time: one image of the largest size, or several smaller.
    An image is waited for at most `timeout` seconds after a thread took it. A thread can't be ended from
    outside: it keeps its pixels until it is done, and other images wait for it rather than fail.
    """

    def __init__(self, *, threads: int = 2, pixels: int = MAX_PIXELS, timeout: float = 60.0) -> None:
        restrict_loaders()
        self._timeout = timeout
        self._decoders = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="thumbnails")
        # A header takes a millisecond, which must not wait for whole images.
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="image-headers")
        self._budget = ByteBudget(pixels * BYTES_PER_PIXEL)

    def close(self) -> None:
        """Wait for images in work and end the threads."""
        for executor in (self._readers, self._decoders):
            executor.shutdown(wait=True, cancel_futures=True)

    async def inspect(self, content: bytes, image_format: ImageFormat) -> Dimensions:
        """Read the header only; raises ItemError (stage "decode") for a broken or oversized image."""
        work = functools.partial(read_dimensions, content, image_format)
        return await self._run(self._readers, work, at_end=_nothing)

    async def render(
        self,
        content: bytes,
        image_format: ImageFormat,
        sizes: Sequence[int] = DEFAULT_THUMBNAIL_SIZES,
    ) -> Rendered:
        """Decode the whole image and render it at each of `sizes` (longest side, pixels), never larger.

        Raises ItemError: stage "decode" for a broken or oversized image, "thumbnail" where encoding fails.
        """
        sizes = check_sizes(sizes)
        dimensions = await self.inspect(content, image_format)
        held = await self._budget.acquire(dimensions.width * dimensions.height * BYTES_PER_PIXEL)
        work = functools.partial(render_thumbnails, content, image_format, dimensions, sizes)
        release = functools.partial(self._budget.release, held)
        return Rendered(dimensions, await self._run(self._decoders, work, at_end=release))

    async def _run(
        self, executor: ThreadPoolExecutor, work: Callable[[], Result], *, at_end: Callable[[], None]
    ) -> Result:
        """Run `work` in a thread; `at_end` is called when it has ended there, waited for or not."""
        loop = asyncio.get_running_loop()
        waiting = True

        def start_clock() -> None:
            if waiting:
                clock.reschedule(loop.time() + self._timeout)

        def timed_work() -> Result:
            loop.call_soon_threadsafe(start_clock)
            return work()

        try:
            async with asyncio.timeout(None) as clock:
                running = executor.submit(timed_work)
                running.add_done_callback(lambda _: loop.call_soon_threadsafe(at_end))
                return await asyncio.wrap_future(running)
        except TimeoutError as error:
            message = f"the image took more than {self._timeout:g} s to decode"
            raise ItemError("decode", "TooSlow", message) from error
        finally:
            waiting = False


def _nothing() -> None:
    """There is nothing to give back."""


@functools.cache
def restrict_loaders() -> None:
    """Forbid libvips, for this process, every loader but those of the accepted formats, and its caches."""
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in _LOADERS.values():
        pyvips.operation_block_set(loader, False)
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    pyvips.cache_set_max_mem(0)


def read_dimensions(content: bytes, image_format: ImageFormat) -> Dimensions:
    """Read an image's header (blocking, about a millisecond) and check its size; raises ItemError."""
    try:
        header = pyvips.Image.new_from_buffer(content, "", access="sequential")
    except pyvips.Error as error:
        raise _broken(error, image_format, content) from error
    if header.get("vips-loader") != _LOADER_NAMES[image_format]:
        message = f"the content starts like {image_format.value} but is read as {header.get('vips-loader')}"
        raise ItemError("decode", "Broken", message)
    if image_format is ImageFormat.JPEG:
        check_scans(content)
    width, height = header.width, header.get_page_height()
    check_dimensions(width, height)
    if header.get_typeof("orientation") and header.get("orientation") in {5, 6, 7, 8}:
        width, height = height, width
    return Dimensions(width, height)


def render_thumbnails(
    content: bytes, image_format: ImageFormat, dimensions: Dimensions, sizes: Sequence[int]
) -> dict[int, bytes]:
    """Decode an image (blocking) and encode it at each of `sizes`, largest first; raises ItemError.

    The largest is made from the file, so that the decoder can shrink on the way; the rest from the largest.
    """
    largest = sizes[0] if sizes else min(DEFAULT_THUMBNAIL_SIZES)
    width, height = thumbnail_size(dimensions.width, dimensions.height, largest)
    try:
        base = _decode(content, width, height)
    except pyvips.Error as error:
        raise _broken(error, image_format, content) from error
    try:
        return {size: _encode(base, dimensions, size) for size in sizes}
    except pyvips.Error as error:
        raise ItemError(
            "thumbnail", "NotRendered", f"no thumbnail could be made: {_reason(error)}"
        ) from error


def _decode(content: bytes, width: int, height: int) -> Any:
    """Decode to an upright 8-bit sRGB image of exactly this size, in memory."""
    header = pyvips.Image.new_from_buffer(content, "", access="sequential")
    has_profile = header.get_typeof("icc-profile-data") != 0
    options = {"height": height, "size": "force", "option_string": _STRICT}
    if header.interpretation == "cmyk":
        image = pyvips.Image.thumbnail_buffer(content, width, export_profile="srgb", **options)
    else:
        image = pyvips.Image.thumbnail_buffer(content, width, **options)
        if has_profile:
            # After shrinking: 10 ms where thumbnail_buffer's own conversion takes 180.
            image = image.icc_transform("srgb", embedded=True, input_profile="srgb", depth=8)
    if image.interpretation not in {"srgb", "b-w"}:
        image = image.colourspace("srgb")
    return image.copy_memory()


def _encode(base: Any, dimensions: Dimensions, size: int) -> bytes:
    width, height = thumbnail_size(dimensions.width, dimensions.height, size)
    image = base
    if (width, height) != (base.width, base.height):
        image = base.thumbnail_image(width, height=height, size="force")
    encoded: bytes = image.write_to_buffer(
        f".{THUMBNAIL_FORMAT.extension}", Q=QUALITY, effort=EFFORT, keep="none"
    )
    return encoded


def _broken(error: pyvips.Error, image_format: ImageFormat, content: bytes) -> ItemError:
    if is_cut_off(image_format, content):
        message = f"the image is cut off after {len(content):,} bytes: {_reason(error)}"
        return ItemError("decode", "Truncated", message)
    return ItemError("decode", "Broken", f"the image can't be decoded: {_reason(error)}")


def _reason(error: pyvips.Error) -> str:
    """The decoder's own words, on one line and bounded: they can quote the file's content."""
    lines = [line.strip() for line in (error.detail or error.message).splitlines()]
    text = "; ".join(dict.fromkeys(line for line in lines if line and "bad seek" not in line))
    return "".join(char if char.isprintable() else "�" for char in text)[:200] or "no reason given"
