"""Field mappings: from a provider's product to the platform's, by defaults per provider and by JMESPath.

Text is kept as the provider has it, emoji and right-to-left marks included, without NUL characters (which
PostgreSQL can't store). Descriptions stay the provider's HTML: whoever shows one must sanitise it, and
whoever puts it into a page as text must escape it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from import_core.domain import values
from import_core.domain.errors import InvalidMappingError, MappingError
from import_core.domain.expressions import Expression, ExpressionError, compile_expression, evaluate
from import_core.domain.products import MappedProduct, MappedVariant
from import_core.domain.resources.import_provider import ProviderType
from import_core.domain.values import PriceUnit, Record

MAX_VARIANTS = 2048
"""Variants of one product; Shopify's own limit."""
ROASTIFY_UNLIMITED_STOCK = 999
"""Roastify's `stockQty` for what never runs out (docs.roastify.app); imported as an unknown quantity."""

_GRAMS: Final[Mapping[str, Decimal]] = MappingProxyType(
    {
        "GRAMS": Decimal(1),
        "KILOGRAMS": Decimal(1000),
        "OUNCES": Decimal("28.349523125"),
        "POUNDS": Decimal("453.59237"),
    }
)

TARGET_FIELDS: Final = (
    "title",
    "description",
    "handle",
    "sku",
    "barcode",
    "price",
    "compareAtPrice",
    "currency",
    "vendor",
    "productType",
    "status",
    "tags",
    "inventoryQuantity",
)
"""Product fields that a job's fieldMapping may name. The id and the variants always come from the provider."""

VariantReader = Callable[[Record], MappedVariant]


@dataclass(frozen=True, slots=True)
class ProviderMapping:
    """What a provider type's products look like.

    `defaults` are product fields by JMESPath; a quantity without an expression is the sum of the variants'.
    """

    defaults: Mapping[str, str]
    price_unit: PriceUnit
    read_variant: VariantReader


def _shopify_variant(record: Record) -> MappedVariant:
    barcodes = record.get("barcodes")
    options = record.get("selectedOptions")
    return MappedVariant(
        external_id=values.identifier(record.field("id"), record.get("id")),
        title=record.text("title"),
        sku=record.text("sku"),
        price=record.amount("price", PriceUnit.DECIMAL),
        compare_at_price=record.amount("compareAtPrice", PriceUnit.DECIMAL),
        # From 2026-10 on `barcodes` replaces `barcode`.
        barcode=record.text("barcode") or next(iter(values.tags(record.field("barcodes"), barcodes)), None),
        inventory_quantity=record.quantity("inventoryQuantity"),
        options=_options(record.field("selectedOptions"), options),
        weight_grams=_weight_grams(record),
    )


def _options(path: str, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, list):
        raise MappingError(path, f"must be a list, not {values.kind_of(value)}")
    if len(value) > values.MAX_TAGS:
        raise MappingError(path, f"has more than {values.MAX_TAGS} entries")
    options = {}
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise MappingError(f"{path}[{index}]", f"must be an object, not {values.kind_of(item)}")
        name = values.required_text(f"{path}[{index}].name", item.get("name"))
        options[name] = values.text(f"{path}[{index}].value", item.get("value")) or ""
    return options


def _weight_grams(record: Record) -> Decimal | None:
    weight = record.values
    path = record.path
    for name in ("inventoryItem", "measurement", "weight"):
        path = f"{path}.{name}"
        below = weight.get(name)
        if below is None:
            return None
        if not isinstance(below, dict):
            raise MappingError(path, f"must be an object, not {values.kind_of(below)}")
        weight = below
    value = weight.get("value")
    if value is None:
        return None
    unit = values.text(f"{path}.unit", weight.get("unit"))
    if unit is None or unit not in _GRAMS:
        raise MappingError(f"{path}.unit", f"must be one of {', '.join(_GRAMS)}")
    return round(values.number(f"{path}.value", value) * _GRAMS[unit], 3)


def _roastify_variant(record: Record) -> MappedVariant:
    stock = record.quantity("stockQty")
    size = record.text("size")
    return MappedVariant(
        external_id=values.identifier(record.field("id"), record.get("id")),
        title=record.text("title"),
        sku=record.text("sku"),
        price=record.amount("retailPrice", PriceUnit.CENTS),
        inventory_quantity=None if stock == ROASTIFY_UNLIMITED_STOCK else stock,
        options={} if size is None else {"size": size},
    )


def _no_variant(record: Record) -> MappedVariant:
    raise MappingError(record.path, "a WhatsApp catalogue has no variants")


PROVIDER_MAPPINGS: Final[Mapping[ProviderType, ProviderMapping]] = MappingProxyType(
    {
        # The product of the GraphQL Admin API, its variants as a plain list.
        ProviderType.SHOPIFY: ProviderMapping(
            defaults={
                "title": "title",
                "description": "descriptionHtml",
                "handle": "handle",
                "sku": "variants[0].sku",
                "barcode": "variants[0].barcode",
                "price": "variants[0].price",
                "compareAtPrice": "variants[0].compareAtPrice",
                "vendor": "vendor",
                "productType": "productType",
                "status": "status",
                "tags": "tags",
            },
            price_unit=PriceUnit.DECIMAL,
            read_variant=_shopify_variant,
        ),
        # The product of GET /products/{id}; prices are US cents.
        ProviderType.ROASTIFY: ProviderMapping(
            defaults={
                "title": "title",
                "description": "description",
                "sku": "variants[0].sku",
                "price": "variants[0].retailPrice",
                "currency": "'USD'",
                "productType": "productType",
            },
            price_unit=PriceUnit.CENTS,
            read_variant=_roastify_variant,
        ),
        # The product of Meta's catalogue API; one that was read from a page is put into the same words.
        ProviderType.WHATSAPP: ProviderMapping(
            defaults={
                "title": "name",
                "description": "description",
                "sku": "retailer_id",
                "price": "sale_price || price",
                "compareAtPrice": "sale_price && price",
                "currency": "currency",
                "vendor": "brand",
                "status": "visibility",
                "inventoryQuantity": "inventory",
            },
            price_unit=PriceUnit.FORMATTED,
            read_variant=_no_variant,
        ),
    }
)


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """Why one field of a mapping can't be used."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CompiledMapping:
    """A mapping ready for use on many products; made by `compile_mapping`."""

    provider: ProviderMapping
    expressions: Mapping[str, Expression]

    def apply(self, document: Mapping[str, Any]) -> MappedProduct:
        """Map one product of the provider; raises MappingError naming the field, and nothing else.

        A missing value stays absent, but for the id and the title; a value of a wrong type or above its
        bounds is an error, never cut or guessed.
        """
        external_id = values.identifier("id", document.get("id"))
        variants = self._variants(document)
        unit = self.provider.price_unit
        quantity = values.quantity("inventoryQuantity", self._value("inventoryQuantity", document))
        if "inventoryQuantity" not in self.expressions:
            quantity = _total_quantity(variants)
        return MappedProduct(
            external_id=external_id,
            title=values.required_text("title", self._value("title", document), values.MAX_TITLE_LENGTH),
            description=values.text(
                "description", self._value("description", document), values.MAX_DESCRIPTION_LENGTH
            ),
            handle=self._text("handle", document),
            sku=self._text("sku", document),
            barcode=self._text("barcode", document),
            price=values.amount("price", self._value("price", document), unit),
            compare_at_price=values.amount("compareAtPrice", self._value("compareAtPrice", document), unit),
            currency=values.currency("currency", self._value("currency", document)),
            vendor=self._text("vendor", document),
            product_type=self._text("productType", document),
            status=self._text("status", document),
            tags=values.tags("tags", self._value("tags", document)),
            inventory_quantity=quantity,
            variants=variants,
        )

    def _value(self, field: str, document: Mapping[str, Any]) -> Any:
        expression = self.expressions.get(field)
        if expression is None:
            return None
        try:
            return evaluate(expression, document)
        except ExpressionError as error:
            raise MappingError(field, str(error)) from error

    def _text(self, field: str, document: Mapping[str, Any]) -> str | None:
        return values.text(field, self._value(field, document))

    def _variants(self, document: Mapping[str, Any]) -> tuple[MappedVariant, ...]:
        variants = document.get("variants")
        if variants is None:
            return ()
        if not isinstance(variants, list):
            raise MappingError("variants", f"must be a list, not {values.kind_of(variants)}")
        if len(variants) > MAX_VARIANTS:
            raise MappingError("variants", f"has more than {MAX_VARIANTS} entries")
        return tuple(
            self.provider.read_variant(Record.read(f"variants[{index}]", variant))
            for index, variant in enumerate(variants)
        )


def _total_quantity(variants: tuple[MappedVariant, ...]) -> int | None:
    """The sum of the variants' quantities; unknown as soon as one of them is."""
    known = [variant.inventory_quantity for variant in variants if variant.inventory_quantity is not None]
    return sum(known) if variants and len(known) == len(variants) else None


def check_mapping(provider_type: str, field_mapping: Mapping[str, str] | None) -> list[FieldProblem]:
    """Every problem of a job's fieldMapping that can be seen without a product; empty if there is none."""
    return _compile(provider_type, field_mapping)[1]


def compile_mapping(provider_type: str, field_mapping: Mapping[str, str] | None = None) -> CompiledMapping:
    """A job's mapping over its provider type's defaults; raises InvalidMappingError naming every problem."""
    compiled, problems = _compile(provider_type, field_mapping)
    if problems or compiled is None:
        raise InvalidMappingError("; ".join(map(str, problems)))
    return compiled


def _compile(
    provider_type: str, field_mapping: Mapping[str, str] | None
) -> tuple[CompiledMapping | None, list[FieldProblem]]:
    if provider_type not in list(ProviderType):
        allowed = ", ".join(ProviderType)
        return None, [FieldProblem("type", f"is not a provider that can be imported from: {allowed}")]
    provider = PROVIDER_MAPPINGS[ProviderType(provider_type)]
    problems = []
    expressions = {field: compile_expression(source) for field, source in provider.defaults.items()}
    for field, source in (field_mapping or {}).items():
        path = f"fieldMapping.{field}"
        if field not in TARGET_FIELDS:
            problems.append(
                FieldProblem(path, f"is no product field; allowed are {', '.join(TARGET_FIELDS)}")
            )
            continue
        try:
            expressions[field] = compile_expression(source)
        except ExpressionError as error:
            problems.append(FieldProblem(path, str(error)))
    return CompiledMapping(provider, expressions), problems
