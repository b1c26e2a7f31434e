"""Quantities and prices that carry their unit: a price of one unit can't be multiplied with a quantity of another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

HOURS_PER_MONTH = 730
SECONDS_PER_HOUR = 3600
BYTES_PER_GIGABYTE = 1_000_000_000
"""AWS bills storage by 2^30 bytes and most traffic by 10^9; the larger number of gigabytes is taken for both."""


class CostError(Exception):
    """An estimate can't be made; the message says what to change."""


class UnitError(CostError):
    """A price was multiplied with a quantity of another unit."""


class Unit(StrEnum):
    """What a price is for. The name says all of it: there is no price for "a request" beside "1,000 requests"."""

    HOUR = "hour"
    VCPU_HOUR = "vCPU-hour"
    MONTH = "month"
    GIGABYTE = "GB"
    GIGABYTE_MONTH = "GB-month"
    THOUSAND_REQUESTS = "1,000 requests"


@dataclass(frozen=True, slots=True)
class Quantity:
    """So much of a unit in one month; made by the functions below, where conversions are in one place."""

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise CostError(f"{self.amount} {self.unit} is no quantity: it must be 0 or more")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one unit, with where the number was taken from."""

    dollars: float
    unit: Unit
    source: str
    verified: bool

    def times(self, quantity: Quantity) -> float:
        """US dollars for so much; raise UnitError where the units differ."""
        if quantity.unit is not self.unit:
            raise UnitError(f"a price per {self.unit} is not for {quantity.amount:g} {quantity.unit}")
        return self.dollars * quantity.amount


def hours_of(things: float, *, hours: float = HOURS_PER_MONTH) -> Quantity:
    """Hours of so many things that run for `hours`, the whole month by default."""
    return Quantity(things * hours, Unit.HOUR)


def vcpu_hours_of(vcpus: float) -> Quantity:
    """Hours of so many vCPUs for the whole month."""
    return Quantity(vcpus * HOURS_PER_MONTH, Unit.VCPU_HOUR)


def months_of(things: float) -> Quantity:
    """So many things, each for a month."""
    return Quantity(things, Unit.MONTH)


def gigabytes(count: float) -> Quantity:
    """Gigabytes that are moved once."""
    return Quantity(count, Unit.GIGABYTE)


def gigabytes_of_bytes(count: float) -> Quantity:
    """Gigabytes that are moved once, of bytes."""
    return gigabytes(count / BYTES_PER_GIGABYTE)


def gigabytes_kept(count: float) -> Quantity:
    """Gigabytes that are kept for the whole month."""
    return Quantity(count, Unit.GIGABYTE_MONTH)


def requests(count: float) -> Quantity:
    """Single requests, billed by the thousand."""
    return Quantity(count / 1000, Unit.THOUSAND_REQUESTS)
