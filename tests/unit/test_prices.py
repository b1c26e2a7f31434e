"""Prices as people write them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.errors import InvalidInputError
from import_core.domain.prices import MAX_PRICE_LENGTH, Price, parse_price


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("€49.90", "49.90", "EUR"),
        ("49,90 €", "49.90", "EUR"),
        ("1.299,00 EUR", "1299.00", "EUR"),
        ("EUR\u00a01\u202f299,00", "1299.00", "EUR"),
        ("US$12", "12", "USD"),
        ("$1,299", "1299", None),
        ("$1,299.5", "1299.5", None),
        ("1.299 €", "1299", "EUR"),
        ("1.234.567 ₫", "1234567", "VND"),
        ("₹12,34,567.50", "1234567.50", "INR"),
        ("CHF 1'299.50", "1299.50", "CHF"),
        ("R$ 1.234,56", "1234.56", "BRL"),
        ("KWD 1.299", "1.299", "KWD"),
        ("0.299", "0.299", None),
        ("Rs. 1,200", "1200", None),
        ("12 € incl. VAT", "12", "EUR"),
        ("12 VAT", "12", None),
        ("١٢٫٥٠ €", "12.50", "EUR"),
        ("٣\u066c٠٠٠", "3000", None),
        ("0", "0", None),
        ("49 zł", "49", "PLN"),
    ],
)
def test_a_price_is_read(text: str, amount: str, currency: str | None) -> None:
    assert parse_price(text) == Price(Decimal(amount), currency)


@pytest.mark.parametrize("text", ["", "on request", "€", "Free"])
def test_a_text_without_a_digit_names_no_price(text: str) -> None:
    assert parse_price(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "12-15 €",
        "from 12 to 15",
        "1,2,3",
        "1.2.3,4",
        "12,34,56.7.8",
        "1.299,00.00",
        "-5 €",
        "−5 €",
        "20% off",
        "20 %",
        "EUR 5 USD",
        "1" * 20,
        "1.1234567",
        "9" * (MAX_PRICE_LENGTH + 1),
    ],
)
def test_what_can_be_read_in_several_ways_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="price"):
        parse_price(text)


@given(st.text(max_size=MAX_PRICE_LENGTH + 5))
def test_any_text_is_a_price_no_price_or_refused(text: str) -> None:
    try:
        price = parse_price(text)
    except InvalidInputError:
        return
    assert price is None or (price.amount >= 0 and price.amount.is_finite())


@given(
    cents=st.integers(min_value=0, max_value=10**11),
    marks=st.sampled_from(
        [(",", "."), (".", ","), (" ", ","), ("'", "."), ("", "."), ("", ","), ("\u202f", ",")]
    ),
    sign=st.sampled_from(
        [("€", "EUR"), ("US$", "USD"), ("₹", "INR"), ("GBP", "GBP"), ("$", None), ("", None)]
    ),
    is_before=st.booleans(),
)
def test_an_amount_written_with_two_decimals_is_read_back(
    cents: int, marks: tuple[str, str], sign: tuple[str, str | None], is_before: bool
) -> None:
    group, decimal = marks
    number = f"{cents // 100:,}".replace(",", group) + decimal + f"{cents % 100:02d}"
    text = f"{sign[0]} {number}" if is_before else f"{number} {sign[0]}"
    assert parse_price(text) == Price(Decimal(cents).scaleb(-2), sign[1])
