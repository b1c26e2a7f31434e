"""Webhooks as decisions: what a message says, what becomes of it and of its endpoint after an attempt.

The messages follow Standard Webhooks (https://www.standardwebhooks.com): any answer but 2xx is a failure, 410 ends the
endpoint, attempts are made for about a day with growing delays.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from import_core.domain.errors import InvalidInputError
from import_core.domain.jobs import JobState
from import_core.domain.projection import PHASES
from import_core.domain.resources.common import ConditionStatus, format_timestamp
from import_core.domain.resources.import_provider import ImportProvider


class EndpointReason(StrEnum):
    """Why nothing more is sent to an endpoint."""

    GONE = "Gone"
    DEAD = "NoSuccessForADay"


GIVE_UP_SECONDS = 86_400.0
"""From its first attempt on a message is tried for so long; so long an endpoint may fail before it is disabled."""
RETRY_DELAYS = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0)
"""Seconds to the next attempt: those that the Standard Webhooks specification names, as far as a day reaches."""
LONGEST_PAUSE_SECONDS = 300.0
"""An endpoint that fails is left alone, with all its messages; longer than that is not for it to hold up new ones."""
LONGEST_ASKED_SECONDS = 3_600.0
"""An endpoint may ask for so much time by Retry-After, with 429 or 503."""
LEAST_DELAY_SECONDS = 1.0
PRESENT_KEY = "webhookSecret"
PREVIOUS_KEY = "previousWebhookSecret"
"""Keys in the endpoint's Secret; with the second one each message is signed with both, while a secret is exchanged."""
_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64
LONGEST_ERROR = 200
_COUNTERS = frozenset(
    {
        "products_total",
        "products_imported",
        "products_unchanged",
        "products_failed",
        "products_archived",
        "images_total",
        "images_imported",
        "images_unchanged",
        "images_failed",
    }
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt ended: the answer's status, or `error` in a few words; `retry_after` in seconds."""

    status: int | None = None
    error: str = ""
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the endpoint took the message."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def words(self) -> str:
        """What went wrong, for people: never the body of an answer."""
        if self.delivered:
            return ""
        return (self.error or f"answered {self.status}")[:LONGEST_ERROR]


@dataclass(frozen=True, slots=True)
class AfterFailure:
    """What a failed attempt leads to. `delay` None: the message is given up. `disable` None: its endpoint goes on."""

    delay: float | None
    pause: float
    disable: EndpointReason | None = None


def after_failure(
    attempt: Attempt,
    *,
    attempts: int,
    tried_seconds: float,
    failures: int,
    failing_seconds: float,
    spread: float,
) -> AfterFailure:
    """Decide after an attempt that failed.

    `attempts` of this message with this one, `tried_seconds` since the first; `failures` of the endpoint in a row with
    this one, `failing_seconds` since the first of them; `spread` in [0, 1) keeps messages apart.
    """
    if attempt.status == 410:
        return AfterFailure(None, 0.0, EndpointReason.GONE)
    asked = min(attempt.retry_after or 0.0, LONGEST_ASKED_SECONDS) if attempt.status in {429, 503} else 0.0
    pause = max(asked, min(LONGEST_PAUSE_SECONDS, _delay(failures)))
    disable = EndpointReason.DEAD if failing_seconds >= GIVE_UP_SECONDS else None
    left = GIVE_UP_SECONDS - tried_seconds
    if left <= 0 or disable is not None:
        return AfterFailure(None, pause, disable)
    # The last attempt is made when the time is up, so that a day is really waited.
    delay = max(asked, _delay(attempts) * (1 + spread / 10))
    return AfterFailure(max(LEAST_DELAY_SECONDS, min(delay, left)), pause)


def _delay(number: int) -> float:
    """Seconds after the failure of that number, from 1 on."""
    return RETRY_DELAYS[min(max(number, 1), len(RETRY_DELAYS)) - 1]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an ImportProvider has its imports told."""

    provider: str
    uid: str
    company_id: str
    url: str
    secret_name: str
    events: Sequence[str]


def endpoint_of(found: ImportProvider) -> Endpoint | None:
    """The endpoint that an ImportProvider names, if any."""
    told = found.spec.notifications
    if told is None:
        return None
    return Endpoint(
        provider=found.metadata.name,
        uid=found.metadata.uid,
        company_id=found.spec.company_id,
        url=told.url,
        secret_name=told.secret_ref.name,
        events=[event.value for event in told.events],
    )


@dataclass(frozen=True, slots=True)
class EndpointChanges:
    """What is to be written so that the database knows the endpoints that the objects name."""

    put: tuple[Endpoint, ...]
    forget: tuple[str, ...]


def endpoint_changes(
    wanted: Mapping[str, Endpoint | None], known: Mapping[str, Endpoint], *, complete: bool
) -> EndpointChanges:
    """Compare what objects say (by name; None: no endpoint) with what is known.

    Unless the objects are known to be `complete`, one that is not among them is left alone: it may not be listed yet.
    """
    put = tuple(found for name, found in wanted.items() if found is not None and known.get(name) != found)
    gone = (name for name in known if name in wanted and wanted[name] is None)
    unheard = (name for name in known if name not in wanted) if complete else ()
    return EndpointChanges(put, (*gone, *unheard))


def notifications_finding(
    state: str, reason: str | None, message: str | None, failures: int
) -> tuple[ConditionStatus, str, str]:
    """The condition that an endpoint's state makes: status, reason, message."""
    last = f": the last attempt {message}" if message else ""
    if state != "Active":
        why = {
            EndpointReason.GONE.value: "The endpoint answered 410, which asks for no more messages",
            EndpointReason.DEAD.value: f"No message could be delivered for a day{last}",
        }.get(reason or "", "The webhook is disabled")
        return "False", reason or "Disabled", f"{why}; kubectl imports webhooks enable tries again"
    if failures:
        return "True", "Failing", f"{failures} attempts in a row have failed{last}"
    return "True", "Active", ""


def next_slots(*, in_flight: int, failing: bool, most: int) -> int:
    """How many more messages may go to an endpoint now: one at a time while it fails."""
    return max(0, (1 if failing else most) - in_flight)


def message_body(event: str, created_at: datetime, data: Mapping[str, Any]) -> str:
    """The message as it is sent: the same text at each attempt, as the signature is over it."""
    said = {key: value for key, value in data.items() if value is not None}
    status = said.pop("status", None)
    if status is not None:
        said["phase"] = PHASES[JobState(status)].value
    if isinstance(said.get("progress"), Mapping):
        counters = said["progress"].items()
        said["progress"] = {_camel(key): value for key, value in counters if key in _COUNTERS}
    body = {"type": event, "timestamp": format_timestamp(created_at), "data": said}
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def signing_secrets(values: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets to sign with, the present one first. Raises InvalidInputError, which repeats no value."""
    found = [(key, values[key].strip()) for key in (PRESENT_KEY, PREVIOUS_KEY) if values.get(key)]
    if not found or found[0][0] != PRESENT_KEY:
        raise InvalidInputError(PRESENT_KEY, "is not in the Secret")
    for key, secret in found:
        try:
            size = len(base64.b64decode(secret.removeprefix(_PREFIX), validate=True))
        except (binascii.Error, ValueError):
            size = 0
        if not secret.startswith(_PREFIX) or not _LEAST_BYTES <= size <= _MOST_BYTES:
            raise InvalidInputError(
                key, f"must be {_PREFIX} and the base64 of {_LEAST_BYTES} to {_MOST_BYTES} random bytes"
            )
    return tuple(secret for _, secret in found)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
