"""Prices as people write them: "€49.90", "49,90 €", "1.299,00 EUR", "US$12", into an amount and a currency.

Which of two marks separates decimals is decided by their places, never by the currency's country: the last one does
where both occur; one that occurs several times groups digits; a single one before exactly three digits groups them
too, unless the currency has three decimals or the number begins with 0. What stays unclear is refused, not guessed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from import_core.domain.errors import InvalidInputError

MAX_PRICE_LENGTH = 64
"""Characters of a price's text."""
MAX_DIGITS = 13

_THREE_DECIMALS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
"""Currencies of a thousand parts (ISO 4217)."""
_SIGNS = {
    "US$": "USD", "A$": "AUD", "AU$": "AUD", "C$": "CAD", "CA$": "CAD", "HK$": "HKD", "NZ$": "NZD", "S$": "SGD",
    "MX$": "MXN", "R$": "BRL", "NT$": "TWD", "CN¥": "CNY", "JP¥": "JPY",
    "€": "EUR", "£": "GBP", "₹": "INR", "₦": "NGN", "₺": "TRY", "₪": "ILS", "₱": "PHP", "₫": "VND", "₴": "UAH",
    "₽": "RUB", "₩": "KRW", "฿": "THB", "₵": "GHS", "₲": "PYG", "₡": "CRC", "₸": "KZT", "₾": "GEL",
    "ZŁ": "PLN", "KČ": "CZK", "FT": "HUF", "LEI": "RON", "RM": "MYR", "RP": "IDR", "KSH": "KES",
}  # fmt: skip
"""Signs of one currency only: $, ¥ and kr are several countries'."""
_GROUPS = str.maketrans({" ": None, "'": None, "’": None})
_NUMBER = re.compile(r"[0-9](?:[0-9.,'’ ]*[0-9])?")
_CODES = frozenset(
    [
        "AED",
        "AFN",
        "ALL",
        "AMD",
        "AOA",
        "ARS",
        "AUD",
        "AWG",
        "AZN",
        "BAM",
        "BBD",
        "BDT",
        "BGN",
        "BHD",
        "BIF",
        "BMD",
        "BND",
        "BOB",
        "BRL",
        "BSD",
        "BTN",
        "BWP",
        "BYN",
        "BZD",
        "CAD",
        "CDF",
        "CHF",
        "CLP",
        "CNY",
        "COP",
        "CRC",
        "CUP",
        "CVE",
        "CZK",
        "DJF",
        "DKK",
        "DOP",
        "DZD",
        "EGP",
        "ERN",
        "ETB",
        "EUR",
        "FJD",
        "FKP",
        "GBP",
        "GEL",
        "GHS",
        "GIP",
        "GMD",
        "GNF",
        "GTQ",
        "GYD",
        "HKD",
        "HNL",
        "HTG",
        "HUF",
        "IDR",
        "ILS",
        "INR",
        "IQD",
        "IRR",
        "ISK",
        "JMD",
        "JOD",
        "JPY",
        "KES",
        "KGS",
        "KHR",
        "KMF",
        "KPW",
        "KRW",
        "KWD",
        "KYD",
        "KZT",
        "LAK",
        "LBP",
        "LKR",
        "LRD",
        "LSL",
        "LYD",
        "MAD",
        "MDL",
        "MGA",
        "MKD",
        "MMK",
        "MNT",
        "MOP",
        "MRU",
        "MUR",
        "MVR",
        "MWK",
        "MXN",
        "MYR",
        "MZN",
        "NAD",
        "NGN",
        "NIO",
        "NOK",
        "NPR",
        "NZD",
        "OMR",
        "PAB",
        "PEN",
        "PGK",
        "PHP",
        "PKR",
        "PLN",
        "PYG",
        "QAR",
        "RON",
        "RSD",
        "RUB",
        "RWF",
        "SAR",
        "SBD",
        "SCR",
        "SDG",
        "SEK",
        "SGD",
        "SHP",
        "SLE",
        "SOS",
        "SRD",
        "SSP",
        "STN",
        "SVC",
        "SYP",
        "SZL",
        "THB",
        "TJS",
        "TMT",
        "TND",
        "TOP",
        "TRY",
        "TTD",
        "TWD",
        "TZS",
        "UAH",
        "UGX",
        "USD",
        "UYU",
        "UZS",
        "VED",
        "VES",
        "VND",
        "VUV",
        "WST",
        "XAF",
        "XCD",
        "XOF",
        "XPF",
        "YER",
        "ZAR",
        "ZMW",
        "ZWG",
    ]
)
"""Codes of ISO 4217: three other capitals beside a number (VAT, NEW) are none."""


@dataclass(frozen=True, slots=True)
class Price:
    """A price; `currency` is None where the text names none, or a sign of several."""

    amount: Decimal
    currency: str | None = None


def parse_price(text: str) -> Price | None:
    """Read a price; None for a text without a digit ("on request"), which names none.

    Raises InvalidInputError with the field "price" for a text that can't be read in one way only.
    """
    if len(text) > MAX_PRICE_LENGTH:
        raise InvalidInputError("price", f"is longer than {MAX_PRICE_LENGTH} characters")
    # Digits of other scripts, full-width signs and all kinds of blanks become the usual ones.
    plain = " ".join(_digits(unicodedata.normalize("NFKC", text)).split())
    numbers = _NUMBER.findall(plain)
    if not numbers:
        return None
    if len(numbers) > 1:
        raise InvalidInputError("price", "names more than one number")
    number = numbers[0]
    before, _, after = plain.partition(number)
    if "-" in before or "−" in before or "%" in after:
        raise InvalidInputError("price", "is negative or a percentage")
    currency = _currency(before.strip(), after.strip())
    return Price(_amount(number, currency), currency)


def _digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text).translate(
        {0x066B: ".", 0x066C: ","}  # the Arabic decimal and thousands separators
    )


def _currency(before: str, after: str) -> str | None:
    named = {code for code in map(_named, (before, after)) if code is not None}
    if len(named) > 1:
        raise InvalidInputError("price", "names more than one currency")
    return next(iter(named), None)


def _named(text: str) -> str | None:
    """The currency that the text beside the number names; None for none, or for a sign of several."""
    for word in text.replace(".", "").split():
        if word in _CODES:
            return word
        if word.upper() in _SIGNS:
            return _SIGNS[word.upper()]
    return None


def _amount(number: str, currency: str | None) -> Decimal:
    compact = number.translate(_GROUPS)
    marks = [char for char in compact if char in ".,"]
    decimal = _decimal_mark(compact, marks, currency)
    whole, mark, fraction = compact.rpartition(decimal) if decimal else (compact, "", "")
    groups = re.split(r"[.,]", whole)
    if len(set(marks) - {decimal}) > 1 or (decimal and decimal in whole):
        raise InvalidInputError("price", f"{number!r} can't be read: its separators contradict each other")
    if len(groups) > 1 and not _is_grouped(groups):
        raise InvalidInputError("price", f"{number!r} can't be read: its digits are not in groups")
    digits = "".join(groups)
    if len(digits) > MAX_DIGITS or len(fraction) > 6:
        raise InvalidInputError("price", f"{number!r} has too many digits")
    return Decimal(f"{digits}.{fraction}" if mark else digits)


def _decimal_mark(compact: str, marks: list[str], currency: str | None) -> str | None:
    if not marks:
        return None
    last = marks[-1]
    if marks.count(last) > 1:
        return None
    if len(marks) > 1:
        return last
    whole, _, behind = compact.partition(last)
    grouping = len(behind) == 3 and currency not in _THREE_DECIMALS and not whole.startswith("0")
    return None if grouping and len(whole) <= 3 else last


def _is_grouped(groups: list[str]) -> bool:
    """Whether digits are grouped by thousands, or as in India (12,34,567)."""
    first, *middle, last = groups
    if len(last) != 3 or not 1 <= len(first) <= 3:
        return False
    return all(len(group) == 3 for group in middle) or (
        len(first) <= 2 and all(len(group) == 2 for group in middle)
    )
