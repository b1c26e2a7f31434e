"""Reads what providers answer: JSON, quickly where it is as the standard has it, and leniently where it is not."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def read_json(text: bytes) -> Any:
    """The value of a JSON text; raises ValueError where it is none, and RecursionError for too deep a one."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        # Half a surrogate pair, a byte order mark or a number beyond floats: Python's own reader takes them.
        return json.loads(text)
