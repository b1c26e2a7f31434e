"""The id that ties an HTTP request or an object to everything that is logged of its job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from import_core.domain.resources.common import GROUP

CORRELATION_ANNOTATION = f"{GROUP}/correlation-id"
"""On ImportJobs: the submitter's own id, which logs then bear as correlationId. The gateway sets it to the request's
id; without it the object's uid takes its place."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_correlation_id(value: object) -> bool:
    """Whether it can be used: 1 to 64 letters, digits, dots, underscores and dashes."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def asked_correlation(body: Mapping[str, Any]) -> str | None:
    """The id that an object's annotation asks for; None where there is none that can be used."""
    value = (body["metadata"].get("annotations") or {}).get(CORRELATION_ANNOTATION)
    return value if is_correlation_id(value) else None
