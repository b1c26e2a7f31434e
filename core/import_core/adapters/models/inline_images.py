"""Images made small enough to be sent inside a request to a model."""

from __future__ import annotations

import pyvips

from import_core.adapters.images.decoding import restrict_loaders
from import_core.domain.errors import ItemError
from import_core.domain.images import check_dimensions, sniff

LONGEST_SIDE = 512
"""Pixels; enough to see what is sold, and few tokens."""
QUALITY = 80


def make_inline(content: bytes, *, longest_side: int = LONGEST_SIDE) -> bytes | None:
    """An upright JPEG of at most `longest_side` pixels a side, on white, without metadata; None for what is no image.

    Blocking: tens of milliseconds for a photograph, in a thread of the caller's.
    """
    restrict_loaders()
    try:
        sniff(content)
        header = pyvips.Image.new_from_buffer(content, "", access="sequential")
        check_dimensions(header.width, header.get_page_height())
        image = pyvips.Image.thumbnail_buffer(
            content,
            longest_side,
            height=longest_side,
            size="down",
            export_profile="srgb",
            option_string="fail_on=truncated",
        )
        if image.interpretation not in {"srgb", "b-w"}:
            image = image.colourspace("srgb")
        if image.hasalpha():
            image = image.flatten(background=255)
        encoded: bytes = image.write_to_buffer(".jpg", Q=QUALITY, keep="none")
    except (pyvips.Error, ItemError):
        return None
    return encoded
