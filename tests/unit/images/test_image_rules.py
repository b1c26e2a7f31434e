"""What counts as an image, under which keys it is stored, and what is fetched again."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from import_core.domain.errors import InvalidInputError, ItemError
from import_core.domain.images import (
    SNIFF_BYTES,
    Fetch,
    ImageFormat,
    check_dimensions,
    check_sizes,
    company_prefix,
    decide_fetch,
    is_cut_off,
    is_same_content,
    object_key,
    sniff,
    thumbnail_key,
    thumbnail_size,
)

DIGEST = "0123456789abcdef" * 4
FORMATS = list(ImageFormat)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


@dataclass(frozen=True)
class Row:
    etag: str | None = '"one"'
    last_modified: str | None = None
    sha256: str | None = DIGEST
    thumbnails: Mapping[str, str] = field(default_factory=lambda: {"256": "k", "1024": "l"})


@pytest.mark.parametrize("image_format", FORMATS)
def test_real_files_are_recognised(image_format: ImageFormat) -> None:
    assert sniff(encoded(image_format.value.upper())[:SNIFF_BYTES]) is image_format


@pytest.mark.parametrize(
    ("head", "reason", "words"),
    [
        (b"", "EmptyFile", "empty"),
        (b"<!DOCTYPE HTML><title>x", "NotAnImage", "an HTML page"),
        (b"\xef\xbb\xbf\n  <html>", "NotAnImage", "an HTML page"),
        (b'<?xml version="1.0"?><svg>', "UnsupportedFormat", "an SVG drawing"),
        (b"<SVG onload=alert(1)>", "UnsupportedFormat", "an SVG drawing"),
        (b'<?xml version="1.0"?><Error>', "NotAnImage", "XML"),
        (b'{"error":1}', "NotAnImage", "JSON"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "UnsupportedFormat", "a HEIC image"),
        (b"II*\x00rest", "UnsupportedFormat", "a TIFF image"),
        (b"BM1234", "UnsupportedFormat", "a BMP image"),
        (b"%PDF-1.7", "NotAnImage", "a PDF document"),
        (b"\x1f\x8b\x08", "NotAnImage", "gzip data"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42", "NotAnImage", "not an image"),
        (b"just words", "NotAnImage", "not an image"),
        (b"\xff\xd8", "NotAnImage", "not an image"),
    ],
)
def test_everything_else_is_refused_by_name(head: bytes, reason: str, words: str) -> None:
    with pytest.raises(ItemError, match=words) as caught:
        sniff(head)
    assert (caught.value.stage, caught.value.reason) == ("decode", reason)


def test_avif_is_found_among_the_compatible_brands() -> None:
    assert sniff(b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avif") is ImageFormat.AVIF


@given(st.binary(max_size=SNIFF_BYTES))
def test_any_bytes_are_an_image_or_a_clear_error(head: bytes) -> None:
    try:
        recognised = sniff(head)
    except ItemError as error:
        recognised = error.reason
    assert recognised in {*FORMATS, "EmptyFile", "NotAnImage", "UnsupportedFormat"}


@pytest.mark.parametrize("image_format", FORMATS)
def test_cut_off_files_are_told_from_whole_ones(image_format: ImageFormat) -> None:
    content = encoded(image_format.value.upper())
    assert not is_cut_off(image_format, content)
    assert is_cut_off(image_format, content[: len(content) // 2])


def test_size_limits_are_inclusive_and_named() -> None:
    check_dimensions(10_000, 10_000)
    with pytest.raises(ItemError, match=r"10001×10000 = 100 megapixels, at most 100") as caught:
        check_dimensions(10_001, 10_000)
    assert caught.value.reason == "TooManyPixels"
    with pytest.raises(ItemError, match="0×5"):
        check_dimensions(0, 5)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(16, 4096))
def test_thumbnails_fit_keep_their_shape_and_never_grow(width: int, height: int, longest: int) -> None:
    small = thumbnail_size(width, height, longest)
    assert max(small) == min(longest, max(width, height))
    assert 1 <= small[0] <= width
    assert 1 <= small[1] <= height
    scale = max(small) / max(width, height)
    assert abs(small[0] - width * scale) <= 1
    assert abs(small[1] - height * scale) <= 1


def test_keys() -> None:
    assert object_key("company-1_A", DIGEST, "jpg") == f"images/company-1_A/{DIGEST}.jpg"
    assert thumbnail_key("c", DIGEST, 256) == f"images/c/{DIGEST}_256.webp"
    assert company_prefix("../x") == "images/!2E!2E!2Fx/"
    assert company_prefix("é!") == "images/!C3!A9!21/"


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
def test_no_two_companies_share_a_folder_and_none_leaves_its_own(companies: list[str]) -> None:
    one, two = (company_prefix(company) for company in companies)
    assert one != two
    for prefix in (one, two):
        folder = prefix.removeprefix("images/").removesuffix("/")
        assert set(folder) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-!")
        assert folder


def test_wrong_parts_of_keys_are_refused() -> None:
    for company in ("", "x" * 201):
        with pytest.raises(InvalidInputError, match="companyId"):
            object_key(company, DIGEST, "jpg")
    for digest in ("", "../etc", DIGEST.upper(), DIGEST + "0"):
        with pytest.raises(InvalidInputError, match="sha256"):
            thumbnail_key("c", digest, 256)


def test_sizes_are_distinct_largest_first_and_bounded() -> None:
    assert check_sizes([256, 1024, 256]) == (1024, 256)
    for size in (0, 15, 4097, -1):
        with pytest.raises(InvalidInputError, match=str(size)):
            check_sizes([256, size])


def test_a_known_image_is_asked_for_conditionally() -> None:
    assert decide_fetch(None) == Fetch()
    assert decide_fetch(Row(), [256, 1024]).headers == {"If-None-Match": '"one"'}
    assert decide_fetch(Row(etag=None, last_modified="d"), [256]).headers == {"If-Modified-Since": "d"}


@pytest.mark.parametrize(
    ("row", "sizes"),
    [
        (Row(etag=None), [256]),
        (Row(), [512]),
        (Row(sha256=None), [256]),
        (Row(etag='"a"\r\nX: y'), [256]),
        (Row(etag="é"), [256]),
    ],
    ids=["no validator", "a new size", "a row of the platform's own", "a line break", "not ASCII"],
)
def test_what_can_not_be_asked_conditionally_is_fetched(row: Row, sizes: list[int]) -> None:
    assert not decide_fetch(row, sizes).is_conditional


def test_same_content_needs_the_bytes_and_every_size() -> None:
    assert is_same_content(Row(), DIGEST, [256])
    assert not is_same_content(Row(), "f" * 64, [256])
    assert not is_same_content(Row(), DIGEST, [256, 512])
    assert not is_same_content(None, DIGEST, [])
