"""Shopify's product documents: connections become plain lists, images are taken out in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from import_core.domain.errors import ItemError
from import_core.domain.mapping import MAX_VARIANTS
from import_core.domain.products import SourceImage, SourceProduct

MAX_MEDIA = 1_000
"""Media of one product; Shopify itself allows 250."""
_LONGEST = {"variants": MAX_VARIANTS, "media": MAX_MEDIA}


def check_length(name: str, length: int) -> None:
    """Bound a product's "variants" or "media"; raises ItemError."""
    if length > _LONGEST[name]:
        raise ItemError("fetch", "TooLarge", f"The product has more than {_LONGEST[name]:,} {name}.")


@dataclass(frozen=True, slots=True)
class Connection:
    """One page of a GraphQL connection; `next_cursor` is None on its last page."""

    nodes: list[dict[str, Any]]
    next_cursor: str | None


def read_connection(value: Any) -> Connection:
    """Read {edges [{node}], pageInfo}; raises ValueError when it has another form."""
    try:
        nodes = [edge["node"] for edge in value["edges"] if isinstance(edge["node"], dict)]
        info = value["pageInfo"]
        next_cursor = info["endCursor"] if info["hasNextPage"] else None
    except (KeyError, TypeError) as error:
        raise ValueError("not a connection") from error
    if next_cursor is not None and not isinstance(next_cursor, str):
        raise ValueError("a connection's cursor is no text")
    return Connection(nodes, next_cursor)


def source_product(
    node: Mapping[str, Any], variants: Iterable[dict[str, Any]], media: Iterable[Mapping[str, Any]]
) -> SourceProduct:
    """Build one product from its own fields, all its variants and all its media."""
    document = {**node, "variants": list(variants)}
    document.pop("media", None)
    return SourceProduct(str(node["id"]), document, images_of(media))


def images_of(media: Iterable[Mapping[str, Any]]) -> tuple[SourceImage, ...]:
    """The images among the media, in order.

    Videos and models have no `image`; an image that Shopify still processes has none yet and comes with
    the next import.
    """
    images = []
    for item in media:
        image = item.get("image")
        url = image.get("url") if isinstance(image, dict) else None
        if isinstance(image, dict) and isinstance(url, str) and url:
            alt_text = image.get("altText") or item.get("alt")
            images.append(SourceImage(url, alt_text if isinstance(alt_text, str) else None))
    return tuple(images)
