"""Draws the sample images: deterministic bytes for each drawing, in a few milliseconds per megapixel."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zlib
from functools import lru_cache
from typing import Literal

import PIL.Image
import pyvips

Encoding = Literal["jpeg", "png", "webp", "avif", "gif"]

CONTENT_TYPES: dict[Encoding, str] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "gif": "image/gif",
}
ENCODINGS = {content_type: encoding for encoding, content_type in CONTENT_TYPES.items()}


def random_for(drawing: str) -> random.Random:
    """Return a generator seeded by the drawing's name alone, the same in every process."""
    return random.Random(int.from_bytes(hashlib.sha256(drawing.encode()).digest()[:8]))


def watermark(content: bytes, text: str) -> bytes:
    """Return the JPEG or PNG with a comment in it: other bytes, the same picture. ValueError for others."""
    comment = text.encode()
    if content.startswith(b"\xff\xd8"):
        return content[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + content[2:]
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        end_of_header = 33  # signature (8) and the IHDR chunk (25)
        data = b"tEXtComment\x00" + comment
        chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
        return content[:end_of_header] + chunk + content[end_of_header:]
    raise ValueError("only JPEG and PNG can carry a comment here")


def encode(image: pyvips.Image, encoding: Encoding) -> bytes:
    """Return the picture encoded; JPEG at quality 80."""
    match encoding:
        case "jpeg":
            content = image.jpegsave_buffer(Q=80)
        case "png":
            content = image.pngsave_buffer(compression=3)
        case "webp":
            content = image.webpsave_buffer(Q=75, effort=0)
        case "avif":
            content = image.heifsave_buffer(compression="av1", effort=0)
        case "gif":
            content = image.gifsave_buffer(effort=1)
    return bytes(content)


def mosaic_pixels(drawing: str, width: int, height: int) -> bytes:
    """Return the RGB pixels of a mosaic of 8 × 8 coloured fields, distinct for each drawing."""
    side = 8
    colours = random_for(drawing).randbytes(side * side * 3)
    zoom = -(-max(width, height) // side)
    rows = (
        b"".join(colours[3 * (side * down + across) :][:3] * zoom for across in range(side))[: 3 * width]
        for down in range(side)
    )
    return b"".join(row * zoom for row in rows)[: 3 * width * height]


def mosaic(drawing: str, width: int, height: int) -> pyvips.Image:
    """Return the mosaic as a picture."""
    pixels = mosaic_pixels(drawing, width, height)
    return pyvips.Image.new_from_memory(pixels, width, height, 3, "uchar").copy(interpretation="srgb")


def small_jpeg(drawing: str, width: int, height: int) -> bytes:
    """Return the mosaic as JPEG. By Pillow: it has no set-up cost, libvips takes 1 ms for each picture."""
    buffer = io.BytesIO()
    PIL.Image.frombytes("RGB", (width, height), mosaic_pixels(drawing, width, height)).save(
        buffer, "JPEG", quality=80
    )
    return buffer.getvalue()


def landscape(drawing: str, width: int, height: int) -> pyvips.Image:
    """Return a smooth coloured picture with a mosaic label: large images at about 50 megapixels a second."""
    source = random_for(drawing)
    grid = pyvips.Image.xyz(width, height)
    across = grid[0].linear(255 / width, 0)
    down = grid[1].linear(255 / height, 0)
    weights = [source.uniform(0.2, 0.8) for _ in range(3)]
    offsets = [source.uniform(0, 40) for _ in range(3)]
    bands = [
        (across * weight + down * (1 - weight)).linear(0.8, offset)
        for weight, offset in zip(weights, offsets, strict=True)
    ]
    smooth = bands[0].bandjoin(bands[1:]).cast("uchar").copy(interpretation="srgb")
    label = mosaic(drawing, width // 4, height // 4)
    return smooth.insert(label, width // 3, height // 3)


def draw(drawing: str, width: int, height: int, encoding: Encoding) -> bytes:
    """Return the bytes of one sample image; width and height are pixels.

    The name is written into JPEG and PNG as a comment, so that no two drawings share their bytes.
    """
    if encoding == "jpeg" and width * height <= 128 * 128:
        content = small_jpeg(drawing, width, height)
    else:
        content = encode(landscape(drawing, width, height), encoding)
    return watermark(content, drawing) if encoding in {"jpeg", "png"} else content


@lru_cache(maxsize=len(CONTENT_TYPES))
def good_image(encoding: Encoding) -> bytes:
    """Return the one correct picture of 640 × 480 pixels that the hostile addresses need, encoded."""
    return draw(f"hostile/{encoding}", 640, 480, encoding)
