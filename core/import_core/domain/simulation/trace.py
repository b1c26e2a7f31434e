"""A trace: which jobs arrive when, what their providers let through, and what is known ahead."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from import_core.domain.errors import InvalidResourceError
from import_core.domain.jobs import Tier

MAX_PRODUCTS = 10_000_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that comes at `at` (seconds from the trace's start)."""

    at: float
    company: str
    connection: str
    provider: str
    products: int
    images: int
    tier: Tier = Tier.BASIC
    seconds: float | None = None
    """How long it is known to run; None: by its size."""


@dataclass(frozen=True, slots=True)
class ProviderRule:
    """What a provider allows each connection, and how many products one call brings."""

    calls_per_minute: float
    products_per_call: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A provider answers nobody from `start` to `end` (seconds from the trace's start)."""

    provider: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Wave:
    """A wave of jobs known ahead, as schedules make them: about so many come from `start` to `end`."""

    start: float
    end: float
    jobs: int


PROVIDERS: Mapping[str, ProviderRule] = {
    "shopify": ProviderRule(calls_per_minute=120, products_per_call=50),
    "roastify": ProviderRule(calls_per_minute=100, products_per_call=20),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals in the order of time, over `seconds`."""

    name: str
    seconds: float
    arrivals: tuple[Arrival, ...]
    waves: tuple[Wave, ...] = ()
    outages: tuple[Outage, ...] = ()
    providers: Mapping[str, ProviderRule] = field(default_factory=lambda: dict(PROVIDERS))
    start_seconds: tuple[float, ...] = ()
    """How long workers are known to take to start, in their order, and again from the first; none: as assumed."""


def read_trace(name: str, lines: Iterable[str], *, as_csv: bool) -> Trace:
    """Read a trace from CSV with a header, or from JSON lines.

    Fields: `at` (seconds), `products`; optional `images`, `company`, `connection`, `provider`, `tier`.
    Raises InvalidResourceError naming the line and the field.
    """
    rows = csv.DictReader(lines) if as_csv else _json_rows(lines)
    arrivals = [_arrival(number, row) for number, row in enumerate(rows, start=2 if as_csv else 1)]
    if not arrivals:
        raise InvalidResourceError(name, "holds no arrivals")
    arrivals.sort(key=lambda arrival: arrival.at)
    return Trace(name, arrivals[-1].at, tuple(arrivals))


def _json_rows(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidResourceError(f"line {number}", f"is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InvalidResourceError(f"line {number}", "must be a JSON object")
        yield row


def _arrival(number: int, row: Mapping[str, Any]) -> Arrival:
    products = _number(number, row, "products", highest=MAX_PRODUCTS)
    company = str(row.get("company") or "company")
    try:
        tier = Tier(str(row.get("tier") or Tier.BASIC.value).upper())
    except ValueError as error:
        raise InvalidResourceError(f"line {number}: tier", "must be BASIC, PRO or ENTERPRISE") from error
    return Arrival(
        at=_number(number, row, "at", highest=366 * 86_400.0),
        company=company,
        connection=str(row.get("connection") or company),
        provider=str(row.get("provider") or "shopify"),
        products=int(products),
        images=int(_number(number, row, "images", default=products * 3, highest=MAX_PRODUCTS * 20)),
        tier=tier,
    )


def _number(
    line: int, row: Mapping[str, Any], name: str, *, highest: float, default: float | None = None
) -> float:
    value = row.get(name)
    if value in {None, ""} and default is not None:
        return default
    try:
        number = float(str(value))
    except ValueError as error:
        raise InvalidResourceError(f"line {line}: {name}", f"must be a number, not {value!r}") from error
    if not 0 <= number <= highest:
        raise InvalidResourceError(f"line {line}: {name}", f"must be from 0 to {highest:g}")
    return number
