"""Settings of quality control: the rules' bounds, the model and its budget."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from import_core.domain.errors import InvalidInputError
from import_core.domain.quality import DEFAULT_REJECTING, Finding, QualityRules
from import_core.domain.words import WordList

_SEPARATOR = re.compile(r"[,\n]")
_CURRENCY = re.compile(r"[A-Z]{3}")


class QualitySettings(BaseSettings):
    """What a worker of the queue quality-control is told; others don't read it."""

    model_config = SettingsConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    quality_min_price: Decimal = Field(
        default=Decimal("0.01"),
        validation_alias="QUALITY_MIN_PRICE",
        ge=0,
        description="Quality control: a price below it is flagged, in the currency's main unit",
    )
    quality_max_price: Decimal = Field(
        default=Decimal(1_000_000),
        validation_alias="QUALITY_MAX_PRICE",
        gt=0,
        description="Quality control: a price above it is flagged, in the currency's main unit",
    )
    quality_max_prices: str = Field(
        default="",
        validation_alias="QUALITY_MAX_PRICES",
        max_length=2_000,
        description="Quality control: the same for single currencies: IDR=2000000000,JPY=150000000",
    )
    quality_min_title: int = Field(
        default=3,
        validation_alias="QUALITY_MIN_TITLE",
        ge=1,
        le=100,
        description="Quality control: characters of a title below which it is flagged",
    )
    quality_max_title: int = Field(
        default=200,
        validation_alias="QUALITY_MAX_TITLE",
        ge=1,
        le=1_000,
        description="Quality control: characters of a title above which it is flagged",
    )
    quality_max_description: int = Field(
        default=10_000,
        validation_alias="QUALITY_MAX_DESCRIPTION",
        ge=100,
        le=50_000,
        description="Quality control: characters of a description above which it is flagged, and no model reads it",
    )
    quality_min_image: int = Field(
        default=200,
        validation_alias="QUALITY_MIN_IMAGE",
        ge=1,
        le=10_000,
        description="Quality control: a product is flagged when no image has so many pixels on each side",
    )
    quality_banned_words: str = Field(
        default="",
        validation_alias="QUALITY_BANNED_WORDS",
        max_length=100_000,
        description="Quality control: words and phrases that no product may have, parted by commas or line breaks",
    )
    quality_reject: str = Field(
        default=",".join(sorted(DEFAULT_REJECTING)),
        validation_alias="QUALITY_REJECT",
        max_length=1_000,
        description="Quality control: findings that reject a product; the other ones flag it for a person",
    )
    quality_approve_alone: bool = Field(
        default=False,
        validation_alias="QUALITY_APPROVE_ALONE",
        description="Quality control without a model: approve what no rule objects to, instead of flagging it",
    )
    gemini_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="GEMINI_API_KEY",
        description="Quality control: key of the Gemini API; without one the rules decide, and a person the rest",
    )
    gemini_model: str = Field(
        default="gemini-3.5-flash-lite",
        validation_alias="GEMINI_MODEL",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$",
        description="Quality control: the model that judges",
    )
    gemini_base_url: str = Field(
        default="",
        validation_alias="GEMINI_BASE_URL",
        pattern=r"^(https?://\S{1,500})?$",
        description="Quality control: address of an API that speaks Gemini's protocol, other than Google's",
    )
    gemini_timeout_seconds: float = Field(
        default=30.0,
        validation_alias="GEMINI_TIMEOUT_SECONDS",
        gt=0,
        le=300,
        description="Quality control: longest time of one call of the model",
    )
    gemini_calls_per_minute: int = Field(
        default=60,
        validation_alias="GEMINI_CALLS_PER_MINUTE",
        ge=1,
        le=10_000,
        description="Quality control: calls of the model in any minute, over all workers",
    )
    gemini_calls_per_day: int = Field(
        default=10_000,
        validation_alias="GEMINI_CALLS_PER_DAY",
        ge=0,
        le=10_000_000,
        description="Quality control: calls of the model in a day (UTC), over all workers; 0: any number",
    )
    gemini_images: int = Field(
        default=4,
        validation_alias="GEMINI_IMAGES",
        ge=0,
        le=16,
        description="Quality control: images of a product that the model is shown, the first ones",
    )
    gemini_concurrency: int = Field(
        default=8,
        validation_alias="GEMINI_CONCURRENCY",
        ge=1,
        le=64,
        description="Quality control: calls of the model at the same time, by one worker",
    )

    @field_validator("quality_max_prices")
    @classmethod
    def _check_prices(cls, value: str) -> str:
        parse_prices(value)
        return value

    @field_validator("quality_banned_words")
    @classmethod
    def _check_words(cls, value: str) -> str:
        try:
            WordList(parts_of(value))
        except InvalidInputError as error:
            raise ValueError(error.reason) from error
        return value

    @field_validator("quality_reject")
    @classmethod
    def _check_findings(cls, value: str) -> str:
        parse_findings(value)
        return value

    def quality_rules(self) -> QualityRules:
        """The rules that these settings make."""
        return QualityRules(
            minimum_price=self.quality_min_price,
            maximum_price=self.quality_max_price,
            maximum_prices=parse_prices(self.quality_max_prices),
            minimum_title=self.quality_min_title,
            maximum_title=self.quality_max_title,
            maximum_description=self.quality_max_description,
            minimum_image_side=self.quality_min_image,
            banned=WordList(parts_of(self.quality_banned_words)),
            rejecting=parse_findings(self.quality_reject),
            approves_alone=self.quality_approve_alone,
        )


def parts_of(text: str) -> list[str]:
    """The parts between commas and line breaks that are not blank."""
    return [part.strip() for part in _SEPARATOR.split(text) if part.strip()]


def parse_prices(text: str) -> dict[str, Decimal]:
    """Read CURRENCY=AMOUNT, parted by commas. Raises ValueError that names the part."""
    prices: dict[str, Decimal] = {}
    for part in parts_of(text):
        currency, _, amount = part.partition("=")
        try:
            price = Decimal(amount)
        except InvalidOperation:
            price = Decimal("NaN")
        if _CURRENCY.fullmatch(currency) is None or not price.is_finite() or price <= 0:
            raise ValueError(f"“{part[:50]}” is not like EUR=100000")
        prices[currency] = price
    return prices


def parse_findings(text: str) -> frozenset[Finding]:
    """Read findings, parted by commas. Raises ValueError that names an unknown one, and those that there are."""
    try:
        return frozenset(Finding(part) for part in parts_of(text))
    except ValueError as error:
        raise ValueError(f"{error}; there are {', '.join(sorted(Finding))}") from None
