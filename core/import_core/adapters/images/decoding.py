"""Decodes images that come from anywhere: bounded in pixels, by the loaders of the accepted formats alone.

libvips decodes untrusted bytes here, so it may use only those loaders, and reads the header before any pixel.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

# Read by libvips when it is loaded: parallelism comes from the callers' threads, one image each.
os.environ.setdefault("VIPS_CONCURRENCY", "1")

import pyvips

from import_core.domain.errors import ItemError
from import_core.domain.images import ImageFormat, check_dimensions, check_scans, is_cut_off

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


@dataclass(frozen=True, slots=True)
class Dimensions:
    """An image's width and height in pixels, as it is shown (EXIF orientation applied)."""

    width: int
    height: int


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
        raise broken(error, image_format, content) from error
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


def decode(content: bytes, width: int, height: int) -> Any:
    """Decode (blocking) to an upright 8-bit sRGB or grey image of exactly this size, in memory.

    What `read_dimensions` let through; raises pyvips.Error.
    """
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


def broken(error: pyvips.Error, image_format: ImageFormat, content: bytes) -> ItemError:
    """What is wrong with a file that libvips could not decode."""
    if is_cut_off(image_format, content):
        message = f"the image is cut off after {len(content):,} bytes: {reason_of(error)}"
        return ItemError("decode", "Truncated", message)
    return ItemError("decode", "Broken", f"the image can't be decoded: {reason_of(error)}")


def reason_of(error: pyvips.Error) -> str:
    """The decoder's own words, on one line and bounded: they can quote the file's content."""
    lines = [line.strip() for line in (error.detail or error.message).splitlines()]
    text = "; ".join(dict.fromkeys(line for line in lines if line and "bad seek" not in line))
    return "".join(char if char.isprintable() else "�" for char in text)[:200] or "no reason given"
