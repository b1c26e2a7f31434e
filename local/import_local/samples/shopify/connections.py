"""Cursor paging, as Relay's connections have it: products by sort key, variants and media by place."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from import_local.samples.catalogue.live import LiveCatalogue
from import_local.samples.catalogue.model import index_of_number
from import_local.samples.shopify.search import Search


class CursorError(ValueError):
    """The cursor was not given out by this connection."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a connection; cursors stand beside their nodes."""

    nodes: Sequence[Any]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


def encode_cursor(number: int, value: Any) -> str:
    """Return the opaque cursor of an entry by its id and sort value."""
    text = json.dumps({"last_id": number, "last_value": value}, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()


def decode_cursor(cursor: str) -> tuple[int, Any]:
    """Return (id, sort value) of a cursor; CursorError if it is none."""
    try:
        content = json.loads(base64.b64decode(cursor, validate=True))
        return int(content["last_id"]), content["last_value"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise CursorError(f"Invalid cursor for current pagination sort: {cursor[:40]}") from error


def page_of_products(catalogue: LiveCatalogue, search: Search, arguments: dict[str, Any]) -> Page:
    """Return the page of products that `first`/`after` or `last`/`before` ask for; CursorError."""
    key = arguments.get("sortKey", "ID")
    reverse = bool(arguments.get("reverse", False))
    entries = catalogue.order(key)
    low, high = 0, len(entries)
    for argument in ("after", "before"):
        if argument not in arguments:
            continue
        value, index = _product_cursor(catalogue, key, arguments[argument])
        if (argument == "after") != reverse:
            low = max(low, catalogue.position_after(key, value, index))
        else:
            high = min(high, catalogue.position_before(key, value, index))
    backwards = "last" in arguments
    wanted = int(arguments.get("first") or arguments.get("last") or 0)
    found: list[tuple[Any, int]] = []
    places = range(low, high)
    for place in reversed(places) if reverse != backwards else places:
        if search.matches(catalogue, entries[place][1]):
            found.append(entries[place])
            if len(found) > wanted:
                break
    more, found = len(found) > wanted, found[:wanted]
    if backwards:
        found.reverse()
    nodes = [catalogue.product(index) for _, index in found]
    cursors = [
        encode_cursor(node.number, node.number if key == "ID" else value)
        for node, (value, _) in zip(nodes, found, strict=True)
        if node is not None
    ]
    other_side = ("before" if backwards else "after") in arguments
    return Page(nodes, cursors, other_side if backwards else more, more if backwards else other_side)


def _product_cursor(catalogue: LiveCatalogue, key: str, cursor: str) -> tuple[Any, int]:
    number, value = decode_cursor(cursor)
    index = index_of_number(catalogue.name, number)
    if index is None or isinstance(value, str) == (key == "ID"):
        raise CursorError(f"Invalid cursor for current pagination sort: {cursor[:40]}")
    return (index if key == "ID" else value), index


def page_of_list(items: Sequence[Any], numbers: Sequence[int], arguments: dict[str, Any]) -> Page:
    """Return a page of a short list in its own order; `numbers` are the items' ids. CursorError."""
    places = list(range(len(items)))
    if arguments.get("reverse"):
        places.reverse()
    order = {numbers[place]: position for position, place in enumerate(places)}
    low, high = 0, len(places)
    for argument in ("after", "before"):
        if argument in arguments:
            number, _ = decode_cursor(arguments[argument])
            if number not in order:
                raise CursorError(f"Invalid cursor for current pagination sort: {arguments[argument][:40]}")
            low, high = (order[number] + 1, high) if argument == "after" else (low, order[number])
    if "last" in arguments:
        low = max(low, high - int(arguments["last"]))
    elif "first" in arguments:
        high = min(high, low + int(arguments["first"]))
    chosen = places[low:high]
    return Page(
        [items[place] for place in chosen],
        [encode_cursor(numbers[place], place) for place in chosen],
        high < len(places),
        low > 0,
    )
