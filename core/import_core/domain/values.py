"""Reads single values of a provider's product: checked for type, bounded, and fit for PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from functools import lru_cache

from import_core.domain.errors import InvalidInputError, MappingError
from import_core.domain.prices import parse_price

MAX_TITLE_LENGTH = 500
MAX_DESCRIPTION_LENGTH = 524_288
MAX_TEXT_LENGTH = 255
MAX_TAGS = 250
MAX_AMOUNT = Decimal(10) ** 12
MAX_QUANTITY = 10**12

MAX_DECIMAL_PLACES = 6
_ZERO, _ONE = Decimal(0), Decimal(1)

_MAX_AMOUNT_LENGTH = 20
_AMOUNT = re.compile(rf"[0-9]{{1,13}}(\.[0-9]{{1,{MAX_DECIMAL_PLACES}}})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
# PostgreSQL's text holds neither NUL nor halves of a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class PriceUnit(Enum):
    """How a provider writes prices."""

    DECIMAL = "decimal"
    """In the currency's main unit, as decimal text ("12.50") or a number: Shopify."""
    CENTS = "cents"
    """In whole hundredths of the currency's main unit, as a number: Roastify."""
    FORMATTED = "formatted"
    """As people write it ("€49.90", "1.299,00 EUR"): WhatsApp catalogues."""


def clean(value: str) -> str:
    """The text without NUL, broken surrogates replaced; emoji, direction marks and HTML stay as they are."""
    if value.isascii():
        # Nearly all text: known without a look at each character.
        return value.replace("\x00", "")
    if _UNSTORABLE.search(value) is None:
        return value
    return _UNSTORABLE.sub(lambda match: "" if match[0] == "\x00" else "\ufffd", value)


def is_clean(value: str) -> bool:
    """Whether `clean` leaves a text as it is, so that PostgreSQL takes it."""
    return _UNSTORABLE.search(value) is None


def text(field: str, value: object, limit: int = MAX_TEXT_LENGTH) -> str | None:
    """Text, or None where it is absent or blank; raises MappingError for another type or too long a text."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise MappingError(field, f"must be text, not {kind_of(value)}")
    cleaned = clean(value)
    if len(cleaned) > limit:
        raise MappingError(field, f"is longer than {limit} characters")
    return cleaned if cleaned.strip() else None


def required_text(field: str, value: object, limit: int = MAX_TEXT_LENGTH) -> str:
    """Text that must be there and not blank."""
    result = text(field, value, limit)
    if result is None:
        raise MappingError(field, "is missing or empty")
    return result


def identifier(field: str, value: object) -> str:
    """A provider's id: text, or a whole number, which becomes text."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return str(value)
    return required_text(field, value)


def amount(field: str, value: object, unit: PriceUnit) -> Decimal | None:
    """A price in the currency's main unit; raises MappingError unless it is 0 to MAX_AMOUNT in that unit."""
    if value is None:
        return None
    if isinstance(value, str):
        return _amount_of_text(field, value.strip(), unit)
    if unit is PriceUnit.CENTS:
        result = Decimal(quantity(field, value) or 0).scaleb(-2)
    else:
        result = number(field, value)
        if result != round(result, MAX_DECIMAL_PLACES):
            raise MappingError(field, f"must have at most {MAX_DECIMAL_PLACES} decimal places")
    return _within_bounds(field, plain(result))


def _amount_of_text(field: str, value: str, unit: PriceUnit) -> Decimal | None:
    if not value:
        return None
    if unit is PriceUnit.CENTS:
        raise MappingError(field, f"must be a number, not {kind_of(value)}")
    if unit is PriceUnit.FORMATTED:
        formatted = _formatted(field, value)
        return None if formatted is None else _within_bounds(field, formatted)
    result = _decimal(value) if len(value) <= _MAX_AMOUNT_LENGTH else None
    if result is None:
        raise MappingError(field, 'must be an amount such as "12.50", with at most 6 decimal places')
    return _within_bounds(field, result)


def _within_bounds(field: str, amount: Decimal) -> Decimal:
    if not 0 <= amount <= MAX_AMOUNT:
        raise MappingError(field, f"must be from 0 to {MAX_AMOUNT}")
    return amount


@lru_cache(maxsize=4096)
def _decimal(value: str) -> Decimal | None:
    """The number of a short text; None where it is none. Kept, as variants of a product mostly cost the same."""
    return plain(Decimal(value)) if _AMOUNT.fullmatch(value) else None


def plain(value: Decimal) -> Decimal:
    """The same number written in the one way that rows and hashes have: 12.5, never 12.50 or 1.25E+1."""
    if not value:
        return _ZERO
    normal = value.normalize()
    return normal.quantize(_ONE) if normal == normal.to_integral_value() else normal


def _formatted(field: str, value: str) -> Decimal | None:
    try:
        price = parse_price(value)
    except InvalidInputError as error:
        raise MappingError(field, error.reason) from error
    return plain(price.amount) if price else None


def number(field: str, value: object) -> Decimal:
    """A finite number; raises MappingError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MappingError(field, f"must be a number, not {kind_of(value)}")
    # The magnitude first: as text, a whole number of any length would take long and is limited by Python.
    if not abs(value) <= MAX_QUANTITY:
        raise MappingError(field, f"must be from -{MAX_QUANTITY} to {MAX_QUANTITY}")
    return Decimal(str(value))


def quantity(field: str, value: object) -> int | None:
    """A whole number, or None where it is absent; raises MappingError for anything else."""
    if value is None:
        return None
    if type(value) is int and -MAX_QUANTITY <= value <= MAX_QUANTITY:
        return value
    result = number(field, value)
    if result != result.to_integral_value():
        raise MappingError(field, "must be a whole number")
    return int(result)


def currency(field: str, value: object) -> str | None:
    """A currency's code (ISO 4217: three capital letters)."""
    result = text(field, value)
    if result is not None and not _CURRENCY.fullmatch(result):
        raise MappingError(field, "must be a currency's code of three capital letters, such as EUR")
    return result


def tags(field: str, value: object) -> tuple[str, ...]:
    """A list of texts; blank ones are left out."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise MappingError(field, f"must be a list of texts, not {kind_of(value)}")
    if len(value) > MAX_TAGS:
        raise MappingError(field, f"has more than {MAX_TAGS} entries")
    found = []
    for index, item in enumerate(value):
        try:
            tag = text(field, item)
        except MappingError as error:
            raise MappingError(f"{field}[{index}]", error.reason) from error
        if tag is not None:
            found.append(tag)
    return tuple(found)


def kind_of(value: object) -> str:
    """What a JSON value is, in words; never the value itself, which may be a customer's."""
    for types, name in (
        (bool, "true or false"),
        (int | float, "a number"),
        (str, "text"),
        (list, "a list"),
        (Mapping, "an object"),
    ):
        if isinstance(value, types):
            return name
    return "null" if value is None else "something else"
