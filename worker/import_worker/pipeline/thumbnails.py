"""Checks images by decoding them and renders thumbnails, in threads that never block the event loop.

Only the first frame is rendered. Thumbnails are WebP: it keeps transparency, which JPEG can't, and photographs come
out a third smaller than as JPEG at the same setting.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pyvips

from import_core.adapters.images.decoding import (
    Dimensions,
    broken,
    decode,
    read_dimensions,
    reason_of,
    restrict_loaders,
)
from import_core.domain.errors import ItemError
from import_core.domain.images import (
    DEFAULT_THUMBNAIL_SIZES,
    MAX_PIXELS,
    THUMBNAIL_FORMAT,
    ImageFormat,
    check_sizes,
    thumbnail_size,
)
from import_worker.pipeline.limits import ByteBudget

__all__ = ["Dimensions", "Rendered", "Thumbnailer"]

QUALITY = 80
EFFORT = 2
"""WebP's effort (0-6): 4, its default, takes twice the time for 3 % smaller files."""
BYTES_PER_PIXEL = 4

Result = TypeVar("Result")


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


def render_thumbnails(
    content: bytes, image_format: ImageFormat, dimensions: Dimensions, sizes: Sequence[int]
) -> dict[int, bytes]:
    """Decode an image (blocking) and encode it at each of `sizes`, largest first; raises ItemError.

    The largest is made from the file, so that the decoder can shrink on the way; the rest from the largest.
    """
    largest = sizes[0] if sizes else min(DEFAULT_THUMBNAIL_SIZES)
    width, height = thumbnail_size(dimensions.width, dimensions.height, largest)
    try:
        base = decode(content, width, height)
    except pyvips.Error as error:
        raise broken(error, image_format, content) from error
    try:
        return {size: _encode(base, dimensions, size) for size in sizes}
    except pyvips.Error as error:
        raise ItemError(
            "thumbnail", "NotRendered", f"no thumbnail could be made: {reason_of(error)}"
        ) from error


def _encode(base: Any, dimensions: Dimensions, size: int) -> bytes:
    width, height = thumbnail_size(dimensions.width, dimensions.height, size)
    image = base
    if (width, height) != (base.width, base.height):
        image = base.thumbnail_image(width, height=height, size="force")
    encoded: bytes = image.write_to_buffer(
        f".{THUMBNAIL_FORMAT.extension}", Q=QUALITY, effort=EFFORT, keep="none"
    )
    return encoded
