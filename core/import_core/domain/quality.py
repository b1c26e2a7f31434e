"""Quality control's cheap rules: what of a product's own data refuses it, or wants a person's eyes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from import_core.domain.steps import StepImage, StepProduct
from import_core.domain.words import WordList

RULES_VERSION = 1
"""Raised when the rules change: decisions that were kept under the old ones are not used any more."""
SHOUTED_LETTERS = 8
"""A shorter title may well be an abbreviation."""
MESSAGE_LIMIT = 300
"""Characters of a reason's sentence."""
LONGEST_FIELD = 500
"""Characters of a field other than title and description; more of it would not be judged."""
MOST_TAGS = 100


class Verdict(StrEnum):
    """What is decided on a product; UNDECIDED is no decision yet, and never kept."""

    APPROVED = "approved"
    REJECTED = "rejected"
    FLAGGED = "flagged"
    UNDECIDED = "undecided"


class DecidedBy(StrEnum):
    """Whose decision it is."""

    RULES = "rules"
    MODEL = "model"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a product was not approved: a short CamelCase word, and a sentence that names the field."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, whose it is, and its reasons."""

    verdict: Verdict
    decided_by: DecidedBy
    reasons: tuple[Reason, ...] = ()


class Finding(StrEnum):
    """What a rule can find. `DEFAULT_REJECTING` refuse a product; the others flag it for a person."""

    PRICE_MISSING = "PriceMissing"
    PRICE_NOT_POSITIVE = "PriceNotPositive"
    PRICE_TOO_LOW = "PriceTooLow"
    PRICE_TOO_HIGH = "PriceTooHigh"
    TITLE_MISSING = "TitleMissing"
    TITLE_TOO_SHORT = "TitleTooShort"
    TITLE_TOO_LONG = "TitleTooLong"
    TITLE_ALL_CAPITALS = "TitleAllCapitals"
    TEXT_TOO_LONG = "TextTooLong"
    IMAGE_MISSING = "ImageMissing"
    IMAGE_TOO_SMALL = "ImageTooSmall"
    BANNED_WORD = "BannedWord"


DEFAULT_REJECTING = frozenset(
    {
        Finding.PRICE_NOT_POSITIVE,
        Finding.TITLE_MISSING,
        Finding.IMAGE_MISSING,
        Finding.BANNED_WORD,
    }
)


@dataclass(frozen=True, slots=True)
class QualityRules:
    """The rules' bounds. Prices are in the currency's main unit, sizes of images in pixels, texts in characters.

    `maximum_prices` are by currency code, where the general one does not fit. `rejecting`: findings that reject;
    all others flag. `approves_alone`: what no rule objects to is approved, where there is no model to ask.
    """

    minimum_price: Decimal = Decimal("0.01")
    maximum_price: Decimal = Decimal(1_000_000)
    maximum_prices: Mapping[str, Decimal] = field(default_factory=dict)
    minimum_title: int = 3
    maximum_title: int = 200
    maximum_description: int = 10_000
    minimum_image_side: int = 200
    banned: WordList = field(default_factory=WordList)
    rejecting: frozenset[Finding] = DEFAULT_REJECTING
    approves_alone: bool = False

    def fingerprint(self) -> str:
        """Names these rules: the same for the same bounds, in any order of words."""
        prices = sorted((code, str(price)) for code, price in self.maximum_prices.items())
        parts = (
            RULES_VERSION,
            *(str(self.minimum_price), str(self.maximum_price), prices),
            *(self.minimum_title, self.maximum_title, self.maximum_description, self.minimum_image_side),
            *(sorted(self.banned.words), sorted(self.rejecting), self.approves_alone),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def decide_by_rules(product: StepProduct, rules: QualityRules, *, has_model: bool) -> Decision:
    """Decide on a product by its own data alone.

    UNDECIDED where no rule objects and a model is to be asked; without one it is flagged for a person, or approved
    where the rules may do that alone.
    """
    found = list(_findings(product, rules))
    reasons = tuple(Reason(finding.value, message[:MESSAGE_LIMIT]) for finding, message in found)
    if any(finding in rules.rejecting for finding, _ in found):
        return Decision(Verdict.REJECTED, DecidedBy.RULES, reasons)
    if found:
        return Decision(Verdict.FLAGGED, DecidedBy.RULES, reasons)
    if has_model:
        return Decision(Verdict.UNDECIDED, DecidedBy.RULES)
    if rules.approves_alone:
        return Decision(Verdict.APPROVED, DecidedBy.RULES)
    return Decision(
        Verdict.FLAGGED,
        DecidedBy.RULES,
        (Reason("NotJudged", "No rule objects to the product, and no model is set up to judge it."),),
    )


def _findings(product: StepProduct, rules: QualityRules) -> Iterator[tuple[Finding, str]]:
    yield from _about_price(product, rules)
    yield from _about_title(product.title, rules)
    yield from _about_length(product, rules)
    yield from _about_images(product.images, rules)
    yield from _about_words(product, rules)


def _about_price(product: StepProduct, rules: QualityRules) -> Iterator[tuple[Finding, str]]:
    price = product.price
    if price is None:
        yield Finding.PRICE_MISSING, "The price is missing."
        return
    currency = (product.currency or "").upper()
    highest = rules.maximum_prices.get(currency, rules.maximum_price)
    shown = f"{_number(price)} {currency}".rstrip()
    if price.is_nan() or price > highest:
        yield Finding.PRICE_TOO_HIGH, f"The price {shown} is above {_number(highest)}."
    elif price <= 0:
        yield Finding.PRICE_NOT_POSITIVE, f"The price {shown} is not above zero."
    elif price < rules.minimum_price:
        yield Finding.PRICE_TOO_LOW, f"The price {shown} is below {_number(rules.minimum_price)}."


def _about_title(title: str, rules: QualityRules) -> Iterator[tuple[Finding, str]]:
    text = " ".join(title.split())
    if not any(char.isalnum() for char in text):
        yield Finding.TITLE_MISSING, "The title is missing, or has neither letter nor digit."
        return
    if len(text) < rules.minimum_title:
        yield (
            Finding.TITLE_TOO_SHORT,
            f"The title has {len(text)} characters, fewer than {rules.minimum_title}.",
        )
    if len(text) > rules.maximum_title:
        yield (
            Finding.TITLE_TOO_LONG,
            f"The title has {len(text):,} characters, more than {rules.maximum_title:,}.",
        )
    # Scripts without capitals never change: only letters that have another case count.
    cased = [char for char in text if char.lower() != char.upper()]
    if len(cased) >= SHOUTED_LETTERS and all(char == char.upper() for char in cased):
        yield Finding.TITLE_ALL_CAPITALS, "The title is in capitals only."


def _about_length(product: StepProduct, rules: QualityRules) -> Iterator[tuple[Finding, str]]:
    """What a model would not be shown whole is not for it to approve."""
    size = len(product.description or "")
    if size > rules.maximum_description:
        yield (
            Finding.TEXT_TOO_LONG,
            f"The description has {size:,} characters, more than {rules.maximum_description:,}.",
        )
    for name, text in _short_fields(product):
        if len(text) > LONGEST_FIELD:
            yield (
                Finding.TEXT_TOO_LONG,
                f"The {name} has {len(text):,} characters, more than {LONGEST_FIELD}.",
            )
    if len(product.tags) > MOST_TAGS:
        yield Finding.TEXT_TOO_LONG, f"There are {len(product.tags):,} tags, more than {MOST_TAGS}."


def _about_images(images: Sequence[StepImage], rules: QualityRules) -> Iterator[tuple[Finding, str]]:
    if not images:
        yield Finding.IMAGE_MISSING, "There is no image."
        return
    largest = max(images, key=lambda image: min(image.width, image.height))
    if min(largest.width, largest.height) < rules.minimum_image_side:
        yield (
            Finding.IMAGE_TOO_SMALL,
            f"The largest image is {largest.width} × {largest.height} pixels, below"
            f" {rules.minimum_image_side} on a side.",
        )


def _about_words(product: StepProduct, rules: QualityRules) -> Iterator[tuple[Finding, str]]:
    texts = [("title", product.title), ("description", product.description or ""), *_short_fields(product)]
    for name, text in texts:
        word = rules.banned.first_in(text)
        if word is not None:
            yield Finding.BANNED_WORD, f"The {name} has the banned word “{word}”."


def _short_fields(product: StepProduct) -> Iterator[tuple[str, str]]:
    yield "vendor", product.vendor or ""
    yield "product type", product.product_type or ""
    # One after the other, and never joined: the end of one and the beginning of the next make no banned words.
    yield from (("tag", tag) for tag in product.tags)
    yield from (
        (f"text of image {number}", image.alt_text or "") for number, image in enumerate(product.images, 1)
    )


def _number(value: Decimal) -> str:
    if not value.is_finite():
        return str(value)
    return f"{value:,}" if abs(value.adjusted()) < 30 else f"{value:.3e}"


def result_of(decision: Decision) -> dict[str, Any]:
    """The decision as JSON values, as it is kept with the step."""
    return {
        "decision": decision.verdict.value,
        "decidedBy": decision.decided_by.value,
        "reasons": reason_documents(decision.reasons),
    }


def reason_documents(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    """Reasons as JSON values."""
    return [{"code": reason.code, "message": reason.message} for reason in reasons]


def reasons_of(documents: Sequence[Mapping[str, str]]) -> tuple[Reason, ...]:
    """Reasons from JSON values."""
    return tuple(Reason(document["code"], document["message"]) for document in documents)
