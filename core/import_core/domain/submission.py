"""Submitting an import twice must make one: names and fingerprints that follow from what was sent. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from import_core.domain.resources.common import GROUP

FINGERPRINT_ANNOTATION = f"{GROUP}/request-fingerprint"
"""On objects that came over HTTP: what was asked for, to tell a repetition from another request."""
SUBMITTED_BY_ANNOTATION = f"{GROUP}/submitted-by"
"""On objects that came over HTTP: the caller's name, as the API server's audit log only knows the gateway."""
NAME_PREFIX = "import-"
LONGEST_KEY = 255

_KEY = re.compile(rf"[\x21-\x7e]([\x20-\x7e]{{0,{LONGEST_KEY - 2}}}[\x21-\x7e])?")


def is_idempotency_key(value: str) -> bool:
    """Whether a header's value can be a key: 1 to 255 printable ASCII characters."""
    return _KEY.fullmatch(value) is not None


def object_name(caller: str, namespace: str, key: str) -> str:
    """The name of the object that a caller's key stands for; other callers' keys never meet it."""
    return NAME_PREFIX + _digest("name", caller, namespace, key)[:32]


def retry_token(caller: str, job: str, key: str) -> str:
    """The annotation value that a caller's key for a retry stands for: a value is honoured once."""
    return "key-" + _digest("retry", caller, job, key)[:32]


def fingerprint(name: str | None, spec: Mapping[str, Any]) -> str:
    """What tells two submissions apart; the order of keys does not."""
    canonical = json.dumps([name, spec], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return _digest("submission", canonical)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
