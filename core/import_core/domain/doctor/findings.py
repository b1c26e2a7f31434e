"""What a check of an installation found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended, from good to bad; only FAILED makes the whole fail."""

    OK = "ok"
    SKIPPED = "skipped"
    """It could not be looked at, since nobody said where, or the asker may not."""
    WARNING = "warning"
    """It works, and should not stay so."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's end; `fix` says what to do, and is there wherever something is wrong."""

    check: str
    verdict: Verdict
    message: str
    fix: str | None = None


def passed(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, message)


def failed(check: str, message: str, fix: str) -> Finding:
    """Something has to be done."""
    return Finding(check, Verdict.FAILED, message, fix)


def warned(check: str, message: str, fix: str) -> Finding:
    """Something should be done."""
    return Finding(check, Verdict.WARNING, message, fix)


def skipped(check: str, message: str, fix: str) -> Finding:
    """Nothing is known; `fix` says how to have it looked at."""
    return Finding(check, Verdict.SKIPPED, message, fix)


_ORDER = list(Verdict)


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict; OK where there is none."""
    return max((finding.verdict for finding in findings), key=_ORDER.index, default=Verdict.OK)
