"""What a person reads of a description in HTML: for words that are searched and texts that are embedded alike."""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"/?([A-Za-z][A-Za-z0-9]*)")
_HIDDEN = frozenset({"script", "style", "template", "noscript", "title"})


def plain_text(markup: str) -> str:
    """The text on one line; every tag counts as a blank. Takes time in proportion to the length, whatever is in it."""
    if "<" not in markup and "&" not in markup:
        return " ".join(markup.split())
    first, *pieces = markup.split("<")
    kept, hidden = [first], ""
    for piece in pieces:
        tag, closed, rest = piece.partition(">")
        found = _TAG.match(tag)
        if hidden:
            if found and tag.startswith("/") and found[1].lower() == hidden:
                hidden = ""
                kept.append(rest)
        elif found is None and not tag.startswith(("!", "?", "/")):
            kept.append(f"<{piece}")  # "3 < 5" is no tag
        elif found and found[1].lower() in _HIDDEN and not tag.startswith("/"):
            hidden = "" if tag.endswith("/") else found[1].lower()
        elif closed:
            kept.append(rest)
    return " ".join(html.unescape(" ".join(kept)).split())
