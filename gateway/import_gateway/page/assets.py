"""The page's files, read once: their bytes, types and entity tags. No file outside of the folder is ever served."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import Template

INDEX = "index.html"
FIGURES = "figures.html"
DEAD_LETTERS = "dead-letters.html"
SEARCH = "search.html"
SELLER = "seller.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str


def load_assets(values: Mapping[str, str]) -> dict[str, Asset]:
    """All files of the page by name; in documents `$name` stands for one of `values`, which is escaped."""
    found = {}
    for entry in files("import_gateway.page").joinpath("static").iterdir():
        media_type = TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if media_type is None:
            continue
        body = entry.read_bytes()
        if entry.name.endswith(".html"):
            escaped = {name: html.escape(value) for name, value in values.items()}
            body = Template(body.decode()).substitute(escaped).encode()
        found[entry.name] = Asset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


def is_current(asset: Asset, if_none_match: str | None) -> bool:
    """Whether the browser has it already, by its If-None-Match header."""
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return asset.etag in tags or "*" in tags
