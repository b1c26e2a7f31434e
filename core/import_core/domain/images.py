"""Images: what is accepted, under which keys it is stored, and what has to be fetched again.

An image's identity is the SHA-256 of its bytes: the same bytes are one object, whatever URLs name them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from import_core.domain.errors import InvalidInputError, ItemError

MAX_BYTES = 25_000_000
"""Largest image file accepted (bytes)."""
MAX_PIXELS = 100_000_000
"""Largest width × height accepted: a small file can unpack to far more memory than it takes on disk."""
MAX_SCANS = 100
"""Most scans of a JPEG accepted."""
DEFAULT_THUMBNAIL_SIZES = (256, 1024)
"""Longest sides of the thumbnails in pixels."""
MAX_COMPANY_ID_LENGTH = 200
SNIFF_BYTES = 512
"""How much of a file's beginning `sniff` needs at most."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Stuffed bytes (00) and restart markers (D0-D7) belong to a scan's data (ITU-T T.81, B.1.1).
_JPEG_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class ImageFormat(StrEnum):
    """A format that is accepted; every browser shows all of them."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    AVIF = "avif"

    @property
    def extension(self) -> str:
        """File name extension without the dot."""
        return "jpg" if self is ImageFormat.JPEG else self.value

    @property
    def content_type(self) -> str:
        """Media type the object is stored with, whatever the source claimed."""
        return f"image/{self.value}"


THUMBNAIL_FORMAT = ImageFormat.WEBP


class KnownImage(Protocol):
    """What the image's row tells from the last import.

    `sha256` is None in rows that the platform wrote itself; `thumbnails` maps longest side in pixels, as
    text (it is a JSON object), to key.
    """

    @property
    def etag(self) -> str | None:
        """The ETag last answered."""

    @property
    def last_modified(self) -> str | None:
        """The Last-Modified last answered."""

    @property
    def sha256(self) -> str | None:
        """Hex SHA-256 of the original's bytes."""

    @property
    def thumbnails(self) -> Mapping[str, str]:
        """Key of each thumbnail."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image whose object and thumbnails are in the store: the values of its row.

    `position` counts from 0 in the product's order; `bytes`, `width` and `height` are the original's;
    `thumbnails` maps longest side in pixels, as text, to key.
    """

    source_url: str
    position: int
    alt_text: str | None
    etag: str | None
    last_modified: str | None
    sha256: str
    key: str
    content_type: str
    width: int
    height: int
    bytes: int
    thumbnails: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UnchangedImage:
    """An image whose bytes are the known ones: nothing was stored.

    `etag` and `last_modified` are as answered now. They differ from the known ones where a source changes
    them without changing the bytes; writing them makes the next request conditional on the newer ones.
    """

    source_url: str
    position: int
    alt_text: str | None
    etag: str | None
    last_modified: str | None
    known: KnownImage


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that could not be imported: `stage` is "download", "decode" or "thumbnail"."""

    source_url: str
    position: int
    stage: str
    reason: str
    message: str


ImageResult = StoredImage | UnchangedImage | FailedImage


@dataclass(frozen=True, slots=True)
class Fetch:
    """How to request an image: the validators to send, none for an unconditional request."""

    etag: str | None = None
    last_modified: str | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether the source may answer "not modified"."""
        return self.etag is not None or self.last_modified is not None

    @property
    def headers(self) -> dict[str, str]:
        """The conditional request's headers (RFC 9110, section 13.1)."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value is not None}


def decide_fetch(known: KnownImage | None, sizes: Sequence[int] = ()) -> Fetch:
    """Decide how to request an image.

    Conditional when its row has a validator and all of `sizes` exist: with a thumbnail size missing the
    bytes are needed even if they did not change.
    """
    if known is None or known.sha256 is None or not has_thumbnails(known, sizes):
        return Fetch()
    return Fetch(_header_value(known.etag), _header_value(known.last_modified))


def is_same_content(known: KnownImage | None, sha256: str, sizes: Sequence[int]) -> bool:
    """Whether the row already names these bytes and a thumbnail of every size: nothing is to be stored."""
    return known is not None and known.sha256 == sha256 and has_thumbnails(known, sizes)


def has_thumbnails(known: KnownImage, sizes: Sequence[int]) -> bool:
    """Whether the row names a thumbnail of every size."""
    return all(str(size) in known.thumbnails for size in sizes)


def _header_value(value: str | None) -> str | None:
    """A validator that can be sent back: one with a line break or beyond ASCII can't."""
    if value is None or not value.isascii() or not value.isprintable() or not value.strip():
        return None
    return value


def sniff(head: bytes) -> ImageFormat:
    """Tell the format by a file's first bytes; the declared content type and the extension don't count.

    Needs up to SNIFF_BYTES bytes. Raises ItemError (stage "decode") that names what it is instead.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if head.startswith((b"GIF87a", b"GIF89a")):
        return ImageFormat.GIF
    if _file_type_brands(head) & {b"avif", b"avis"}:
        return ImageFormat.AVIF
    raise _refuse(head)


def _refuse(head: bytes) -> ItemError:
    if not head:
        return ItemError("decode", "EmptyFile", "the file is empty")
    kind = _foreign_kind(head)
    accepted = "JPEG, PNG, WebP, GIF and AVIF are accepted"
    if kind is None:
        return ItemError("decode", "NotAnImage", f"the content is not an image of a known format; {accepted}")
    reason = "NotAnImage" if kind in _NOT_IMAGES else "UnsupportedFormat"
    return ItemError("decode", reason, f"the content is {kind}, not an accepted image; {accepted}")


_NOT_IMAGES = frozenset({"an HTML page", "JSON", "XML", "a PDF document", "a ZIP archive", "gzip data"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"})
_FOREIGN_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"BM", "a BMP image"),
    (b"\x00\x00\x01\x00", "an ICO image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
)


def _foreign_kind(head: bytes) -> str | None:
    for magic, kind in _FOREIGN_MAGIC:
        if head.startswith(magic):
            return kind
    if _file_type_brands(head) & _HEIC_BRANDS:
        return "a HEIC image"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text:
        return "an SVG drawing"
    if text.startswith(b"<!doctype html") or b"<html" in text or b"<head" in text or b"<body" in text:
        return "an HTML page"
    if text.startswith((b"<?xml", b"<")):
        return "XML"
    return "JSON" if text.startswith((b"{", b"[")) else None


def _file_type_brands(head: bytes) -> frozenset[bytes]:
    """Major and compatible brands of an ISO base media file (ISO/IEC 14496-12, section 4.3)."""
    if head[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(head[:4], "big"), len(head), SNIFF_BYTES)
    return frozenset({head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))})


def is_cut_off(image_format: ImageFormat, content: bytes) -> bool:
    """Whether a file that can't be decoded ends before its own structure does.

    Decoders report cut-off files in as many words as there are decoders; the files themselves are plainer.
    """
    match image_format:
        case ImageFormat.JPEG:
            return b"\xff\xd9" not in content[-64:]
        case ImageFormat.PNG:
            return b"IEND" not in content[-64:]
        case ImageFormat.GIF:
            return not content.endswith(b";")
        case ImageFormat.WEBP:
            return int.from_bytes(content[4:8], "little") + 8 > len(content)
        case ImageFormat.AVIF:
            return _boxes_end(content) > len(content)


def _boxes_end(content: bytes) -> int:
    """Where the top-level boxes of an ISO base media file say that it ends."""
    at = 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16], "big")
        if size < 8:  # 0: to the end of the file
            return at if size else len(content)
        at += size
    return at


def check_dimensions(width: int, height: int) -> None:
    """Refuse an image before its pixels are unpacked; raises ItemError (stage "decode")."""
    if width < 1 or height < 1:
        raise ItemError("decode", "Broken", f"the image says that it is {width}×{height} pixels")
    if width * height > MAX_PIXELS:
        raise ItemError(
            "decode",
            "TooManyPixels",
            f"the image is {width}×{height} = {width * height / 1e6:.0f} megapixels,"
            f" at most {MAX_PIXELS // 1_000_000} are accepted",
        )


def check_scans(content: bytes) -> None:
    """Refuse a JPEG that has the decoder pass over all its pixels again and again; raises ItemError.

    Progressive files have about ten scans; the format allows thousands, each a few bytes long.
    """
    if content.count(b"\xff\xda") <= MAX_SCANS:
        # Nearly every file has no more bytes that look like the start of a scan, and needs no closer look.
        return
    scans, at = 0, 2
    while (found := _JPEG_MARKER.search(content, at)) and found.group()[-1] != _END_OF_IMAGE:
        scans += found.group()[-1] == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise ItemError("decode", "TooManyScans", f"the JPEG has more than {MAX_SCANS} scans")
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")


def thumbnail_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height of the thumbnail whose longest side is at most `longest`; it never enlarges."""
    side = max(width, height)
    if side <= longest:
        return width, height
    return max(1, round(width * longest / side)), max(1, round(height * longest / side))


def check_sizes(sizes: Iterable[int]) -> tuple[int, ...]:
    """Thumbnail sizes, largest first, each once; raises InvalidInputError for one outside 16-4096 pixels."""
    distinct = tuple(sorted(set(sizes), reverse=True))
    for size in distinct:
        if not 16 <= size <= 4096:
            raise InvalidInputError("thumbnails", f"{size} is not between 16 and 4096 pixels")
    return distinct


def object_key(company_id: str, sha256: str, extension: str) -> str:
    """Key of an original: `images/{company}/{sha256}.{extension}`."""
    return f"{company_prefix(company_id)}{_checked_digest(sha256)}.{extension}"


def thumbnail_key(company_id: str, sha256: str, size: int) -> str:
    """Key of a thumbnail, beside its original: `images/{company}/{sha256}_{size}.webp`."""
    return f"{company_prefix(company_id)}{_checked_digest(sha256)}_{size}.{THUMBNAIL_FORMAT.extension}"


def company_prefix(company_id: str) -> str:
    """Prefix of all keys of a company, ending in a slash.

    Company ids are text of the platform's choosing: every character outside [A-Za-z0-9_-] becomes `!XX` for
    each of its UTF-8 bytes. So no id can leave its folder and no two ids share one; `!` is among the
    characters that are safe in S3 keys, unlike `%`, which clients encode once more.
    Raises InvalidInputError for an empty or an overlong id.
    """
    if not company_id or len(company_id) > MAX_COMPANY_ID_LENGTH:
        raise InvalidInputError("companyId", f"must have 1 to {MAX_COMPANY_ID_LENGTH} characters")
    escaped = "".join(
        char if char.isascii() and (char.isalnum() or char in "_-") else _escape(char) for char in company_id
    )
    return f"images/{escaped}/"


def _escape(char: str) -> str:
    return "".join(f"!{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _checked_digest(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise InvalidInputError("sha256", "must be 64 lower-case hexadecimal digits")
    return sha256
