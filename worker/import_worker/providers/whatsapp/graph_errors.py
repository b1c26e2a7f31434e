"""What Meta's Graph API says when it refuses: its error bodies and its word on limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from import_worker.providers.http import Answer, ProviderWord, read_status

# Codes by developers.facebook.com/docs/graph-api/guides/error-handling and …/overview/rate-limiting.
THROTTLED = frozenset({4, 17, 32, 613})
BUSINESS_LIMITS = range(80_000, 80_100)
"""80014 is the catalogue's; the others of its kind are those of other businesses' use cases."""
BAD_TOKEN = frozenset({102, 190, 463, 467})
NO_PERMISSION = frozenset({3, 10, *range(200, 300)})
TRANSIENT = frozenset({1, 2})
INVALID_PARAMETER = 100
NO_SUCH_OBJECT = 33
"""Subcode of 100, and the code 803: there is no such object, or the token may not see it."""
ALIAS_MISSING = 803
LONGEST_USAGE_HEADER = 8_192


@dataclass(frozen=True, slots=True)
class GraphError:
    """The body {"error": {…}} of a refused call."""

    code: int
    subcode: int | None = None
    message: str | None = None
    is_transient: bool = False

    @property
    def is_throttled(self) -> bool:
        """Whether too much was asked."""
        return self.code in THROTTLED or self.code in BUSINESS_LIMITS

    @property
    def is_of_credentials(self) -> bool:
        """Whether the token is invalid or may not do this."""
        return self.code in BAD_TOKEN or self.code in NO_PERMISSION

    @property
    def is_unknown_object(self) -> bool:
        """Whether what was asked for does not exist for this token."""
        return self.code == ALIAS_MISSING or (
            self.code == INVALID_PARAMETER and self.subcode == NO_SUCH_OBJECT
        )

    @property
    def is_passing(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.is_transient or self.code in TRANSIENT


def read_error(payload: Any) -> GraphError | None:
    """The error of an answer's body; None where it has none that can be read."""
    error = payload.get("error") if isinstance(payload, Mapping) else None
    if not isinstance(error, Mapping):
        return None
    code, subcode, message = error.get("code"), error.get("error_subcode"), error.get("message")
    if isinstance(code, bool) or not isinstance(code, int):
        return None
    return GraphError(
        code,
        subcode if isinstance(subcode, int) else None,
        message if isinstance(message, str) else None,
        error.get("is_transient") is True,
    )


def read_word(answer: Answer) -> ProviderWord:
    """What an answer says of limits: a plain 429, or an error with one of the codes for too many calls."""
    error = None if answer.status < 400 else read_error(answer.payload)
    if error is None or not error.is_throttled:
        return read_status(answer)
    return ProviderWord(throttled=answer.retry_after or regain_seconds(answer.headers))


def regain_seconds(headers: Mapping[str, str]) -> float:
    """Seconds until access is regained, by the header X-Business-Use-Case-Usage (which counts minutes); 0: not said."""
    text = next((value for name, value in headers.items() if name.lower() == "x-business-use-case-usage"), "")
    if not text or len(text) > LONGEST_USAGE_HEADER:
        return 0.0
    try:
        usage = json.loads(text)
    except (ValueError, RecursionError):
        return 0.0
    cases = (
        [case for found in usage.values() if isinstance(found, list) for case in found]
        if isinstance(usage, dict)
        else []
    )
    minutes = [
        case["estimated_time_to_regain_access"]
        for case in cases
        if isinstance(case, dict) and isinstance(case.get("estimated_time_to_regain_access"), int | float)
    ]
    return 60.0 * max(minutes, default=0.0)
