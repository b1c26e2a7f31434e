"""Server-sent events as bytes (WHATWG HTML, "Server-sent events")."""

from __future__ import annotations

import json
from typing import Any

HEARTBEAT = b": \n\n"
"""A comment: readers skip it, and proxies see that the connection lives."""


def get_message(event: str, identity: str, data: Any) -> bytes:
    """One event; the reader's browser repeats `identity` as Last-Event-ID when it comes back."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event}\nid: {identity}\ndata: {text}\n\n".encode()


def get_retry(milliseconds: int) -> bytes:
    """How long the reader waits before it comes back."""
    return b"retry: %d\n\n" % milliseconds
