"""Failed items of a job: what is kept of them, and how the counters change when they are tried again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from import_core.domain.images import FailedImage, ImageResult, StoredImage
from import_core.domain.jobs import Progress

GONE_FROM_SOURCE = "GoneFromSource"
"""Reason of a failed product that the source no longer has: it can't be imported again."""
NO_EXTERNAL_ID = "NoExternalId"
"""Reason of a failed product whose id could not be read: it can't be asked for by itself."""

PRODUCT_STAGES = ("fetch", "map")
"""Where a product fails as a whole; an image's failures have its address."""
DISCARDED_STAGE = "discarded"
"""Stage of an item that a person has given up: it is kept, and not imported again."""

MOST_DOCUMENTS = 500
"""A job keeps the source documents of this many item errors, the first ones; of the others the reason alone."""
MAX_DOCUMENT_BYTES = 64 * 1024
"""A source document above this, as JSON in UTF-8, is not kept; its size is."""
MAX_DOCUMENT_DEPTH = 64
"""Objects and lists within each other; a deeper document is not kept, as few readers take it."""

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_SURROGATE = re.compile("[\ud800-\udfff]")


def kept_document(document: Any) -> Any:
    """The source's JSON value as it is kept with an item error, so that a person sees what was refused.

    What PostgreSQL can't store is replaced: NUL and broken surrogates by U+FFFD, numbers that are none by
    null. Instead of a document above MAX_DOCUMENT_BYTES or MAX_DOCUMENT_DEPTH there is {"omitted": why,
    "bytes": its size}.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return {"omitted": f"the document is nested deeper than {MAX_DOCUMENT_DEPTH} levels"}
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_DOCUMENT_BYTES:
        return {"omitted": f"the document is larger than {MAX_DOCUMENT_BYTES} bytes", "bytes": size}
    if _is_too_deep(document):
        return {"omitted": f"the document is nested deeper than {MAX_DOCUMENT_DEPTH} levels", "bytes": size}
    storable = _SURROGATE.sub("\ufffd", _NUL.sub(r"\1" + "\ufffd", text))
    return json.loads(storable, parse_constant=lambda _: None)


def _is_too_deep(document: Any) -> bool:
    level: list[Any] = [document]
    for _ in range(MAX_DOCUMENT_DEPTH):
        level = [
            item
            for value in level
            if isinstance(value, dict | list | tuple)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return any(isinstance(value, dict | list | tuple) for value in level)


@dataclass(frozen=True, slots=True)
class EarlierFailure:
    """What a job's item errors say of one product before it is tried again.

    `is_product`: the product itself had failed and none of its images was counted; else it was imported, and
    only the images at `urls` had failed.
    """

    external_id: str
    is_product: bool
    urls: frozenset[str] = field(default_factory=frozenset)


def recounted(
    before: Progress,
    earlier: EarlierFailure,
    *,
    changed: bool,
    results: Sequence[ImageResult],
    known_urls: Mapping[str, object] | frozenset[str],
) -> Progress:
    """The counters after a product that had failed, wholly or in images, was imported.

    `changed`: its row was written; `results` are those of all its images; `known_urls` are the source URLs
    of images that had a row before. What is counted moves from failed to where it belongs now: a product or
    image that was counted once stays counted once, and no counter falls below zero.
    """
    after = _product_moved(before, changed=changed) if earlier.is_product else before
    for result in results:
        if earlier.is_product:
            after = _image_added(after, result)
        elif result.source_url in earlier.urls:
            after = _image_added(_image_taken_out(after), result)
        elif result.source_url not in known_urls:
            after = _image_added(after, result)
        elif isinstance(result, FailedImage):
            after = _image_turned_bad(after)
    listed = {result.source_url for result in results}
    for _ in earlier.urls - listed if not earlier.is_product else ():
        after = _image_taken_out(after)
    return after


def _product_moved(before: Progress, *, changed: bool) -> Progress:
    if not before.products_failed:
        return before
    name = "products_imported" if changed else "products_unchanged"
    return replace(before, products_failed=before.products_failed - 1, **{name: getattr(before, name) + 1})


def _image_added(before: Progress, result: ImageResult) -> Progress:
    if isinstance(result, FailedImage):
        name = "images_failed"
    else:
        name = "images_imported" if isinstance(result, StoredImage) else "images_unchanged"
    return replace(before, images_total=before.images_total + 1, **{name: getattr(before, name) + 1})


def _image_taken_out(before: Progress) -> Progress:
    """A failed image that is counted anew, or is no longer at the source."""
    if not before.images_failed or not before.images_total:
        return before
    return replace(before, images_total=before.images_total - 1, images_failed=before.images_failed - 1)


def _image_turned_bad(before: Progress) -> Progress:
    """An image that was counted as imported or unchanged, which of them is not known, and fails now."""
    name = "images_imported" if before.images_imported else "images_unchanged"
    if not getattr(before, name):
        return before
    return replace(before, images_failed=before.images_failed + 1, **{name: getattr(before, name) - 1})
