"""When the admission webhook's certificate is made, exchanged and forgotten, so that callers always trust it.

A certificate is signed by an authority of its own, whose key is thrown away. The API server trusts the
authorities in the webhook configuration (`caBundle`), all replicas serve the certificate in one Secret. An
exchange goes by steps, each safe to stop after: make the next pair (PREPARE), have its authority trusted too
(PUBLISH), serve it (SWITCH) once every API server must have heard, and forget the old authority (RETIRE) once
every replica must have switched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

LIFE = timedelta(days=90)
SETTLE_SECONDS = 60.0
RETIRE_SECONDS = 3600.0
RENEW_SHARE = 2 / 3
"""A certificate is exchanged after this share of its life: a month is left to notice what hinders it."""


class CertificateAction(StrEnum):
    """What to do next; after it everything is looked at anew."""

    MAKE = "make"
    """There is no certificate that can be served: make one and serve it at once."""
    PREPARE = "prepare"
    """Make the next certificate, without serving it."""
    PUBLISH = "publish"
    """Write the authorities that must be trusted into the webhook configuration."""
    SWITCH = "switch"
    """Serve the next certificate."""
    RETIRE = "retire"
    """Stop trusting the authority of the certificate before."""
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a decision needs to know of a serving certificate."""

    authority: str
    """Fingerprint of the authority that signed it."""
    not_before: datetime
    not_after: datetime
    hosts: frozenset[str] = frozenset()
    """Names and addresses that it is good for."""

    def is_good(self, now: datetime) -> bool:
        """Whether a caller would take it."""
        return self.not_before <= now < self.not_after

    def is_old(self, now: datetime) -> bool:
        """Whether it is time for the next one."""
        return now >= self.not_before + (self.not_after - self.not_before) * RENEW_SHARE


@dataclass(frozen=True, slots=True)
class CertificateState:
    """What the Secret and the webhook configuration hold."""

    current: Certificate | None = None
    """Served by all replicas."""
    following: Certificate | None = None
    """Made, but not served yet."""
    previous: str | None = None
    """Authority of the certificate served before, still trusted."""
    trusted: frozenset[str] | None = None
    """Authorities in the webhook configuration; None: there is none, or it could not be read."""
    rotation_asked: bool = False
    """A person wants the certificate exchanged now."""

    @property
    def wanted(self) -> frozenset[str]:
        """The authorities that must be trusted, no other may."""
        pairs = (self.current, self.following)
        known = {pair.authority for pair in pairs if pair is not None}
        return frozenset(known | ({self.previous} if self.previous else set()))


@dataclass(frozen=True, slots=True)
class CertificatePolicy:
    """Waiting times in seconds, and the names that callers use."""

    hosts: frozenset[str] = frozenset()
    settle_seconds: float = SETTLE_SECONDS
    """From the moment an authority is seen to be trusted until all API servers must know."""
    retire_seconds: float = RETIRE_SECONDS
    """From the moment a certificate is seen to be served until all replicas must serve it."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """Since when this process has seen what it sees now; times are seconds of a monotonic clock."""

    since: Mapping[str, float]

    def after(self, seen: Iterable[str], now: float) -> Sightings:
        """What is seen now; what is gone for a moment starts anew."""
        return Sightings({what: self.since.get(what, now) for what in seen})

    def age(self, what: str, now: float) -> float:
        """Seconds that it has been seen without a break; 0 where it isn't."""
        return now - self.since.get(what, now)


def sights(state: CertificateState) -> frozenset[str]:
    """The names under which `next_certificate_action` asks for ages."""
    trusted = {_trusted(authority) for authority in state.trusted or ()}
    current = {_served(state.current.authority)} if state.current is not None else set()
    return frozenset(trusted | current)


def next_certificate_action(
    state: CertificateState,
    now: datetime,
    *,
    policy: CertificatePolicy,
    sightings: Sightings,
    clock: float,
) -> CertificateAction:
    """Decide at `now` (wall clock) and `clock` (monotonic, the one that `sightings` was made with)."""
    if state.current is None or not state.current.is_good(now):
        return CertificateAction.MAKE
    if state.trusted is not None and state.trusted != state.wanted:
        return CertificateAction.PUBLISH
    if state.following is not None:
        if not state.following.is_good(now):
            return CertificateAction.PREPARE
        age = sightings.age(_trusted(state.following.authority), clock)
        known = state.trusted is not None and age >= policy.settle_seconds
        return CertificateAction.SWITCH if known else CertificateAction.WAIT
    if state.previous is not None:
        # Also before the next exchange: no more than one certificate is on its way out at any time.
        age = sightings.age(_served(state.current.authority), clock)
        return CertificateAction.RETIRE if age >= policy.retire_seconds else CertificateAction.WAIT
    due = state.rotation_asked or state.current.is_old(now) or not policy.hosts <= state.current.hosts
    return CertificateAction.PREPARE if due else CertificateAction.WAIT


def _trusted(authority: str) -> str:
    return f"trusted {authority}"


def _served(authority: str) -> str:
    return f"served {authority}"
