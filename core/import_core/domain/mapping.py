"""Field mappings: from a provider's product to the platform's, by defaults per provider and by JMESPath.

Text is kept as the provider has it, emoji and right-to-left marks included, without NUL characters (which
PostgreSQL can't store). Descriptions stay the provider's HTML: whoever shows one must sanitise it, and
whoever puts it into a page as text must escape it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, Final

from import_core.domain import values
from import_core.domain.errors import InvalidMappingError, MappingError
from import_core.domain.expressions import (
    Expression,
    ExpressionError,
    PathExpression,
    compile_expression,
    evaluate,
)
from import_core.domain.products import MappedProduct, MappedVariant
from import_core.domain.resources.import_provider import ProviderType
from import_core.domain.values import PriceUnit

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

_WEIGHT: Final = ("inventoryItem", "measurement", "weight")

Document = Mapping[str, Any]
VariantReader = Callable[[Document], MappedVariant]
FieldReader = Callable[[Document], Any]
"""Reads one field out of a product; raises MappingError naming it."""


@dataclass(frozen=True, slots=True)
class ProviderMapping:
    """What a provider type's products look like.

    `defaults` are product fields by JMESPath; a quantity without an expression is the sum of the variants'.
    `read_variant` is None where products have no variants.
    """

    defaults: Mapping[str, str]
    price_unit: PriceUnit
    read_variant: VariantReader | None


def _shopify_variant(variant: Document) -> MappedVariant:
    get = variant.get
    return MappedVariant(
        external_id=values.identifier("id", get("id")),
        title=values.text("title", get("title")),
        sku=values.text("sku", get("sku")),
        price=values.amount("price", get("price"), PriceUnit.DECIMAL),
        compare_at_price=values.amount("compareAtPrice", get("compareAtPrice"), PriceUnit.DECIMAL),
        # From 2026-10 on `barcodes` replaces `barcode`.
        barcode=values.text("barcode", get("barcode"))
        or next(iter(values.tags("barcodes", get("barcodes"))), None),
        inventory_quantity=values.quantity("inventoryQuantity", get("inventoryQuantity")),
        options=_options("selectedOptions", get("selectedOptions")),
        weight_grams=_weight_grams(variant),
    )


def _options(field: str, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, list):
        raise MappingError(field, f"must be a list, not {values.kind_of(value)}")
    if len(value) > values.MAX_TAGS:
        raise MappingError(field, f"has more than {values.MAX_TAGS} entries")
    options = {}
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise MappingError(f"{field}[{index}]", f"must be an object, not {values.kind_of(item)}")
        try:
            name = values.required_text("name", item.get("name"))
            options[name] = values.text("value", item.get("value")) or ""
        except MappingError as error:
            raise error.within(f"{field}[{index}]") from error
    return options


def _weight_grams(variant: Document) -> Decimal | None:
    weight: Any = variant
    for depth, name in enumerate(_WEIGHT):
        weight = weight.get(name)
        if weight is None:
            return None
        if not isinstance(weight, dict):
            field = ".".join(_WEIGHT[: depth + 1])
            raise MappingError(field, f"must be an object, not {values.kind_of(weight)}")
    try:
        return _grams_of(weight)
    except MappingError as error:
        raise error.within(".".join(_WEIGHT)) from error


def _grams_of(weight: Document) -> Decimal | None:
    value = weight.get("value")
    if value is None:
        return None
    unit = values.text("unit", weight.get("unit"))
    if unit is None or unit not in _GRAMS:
        raise MappingError("unit", f"must be one of {', '.join(_GRAMS)}")
    if type(value) not in {int, float}:
        raise MappingError("value", f"must be a number, not {values.kind_of(value)}")
    return _in_grams(value, unit)


@lru_cache(maxsize=1024)
def _in_grams(value: float, unit: str) -> Decimal:
    """Kept, as variants of a product mostly weigh the same."""
    return values.plain(round(values.number("value", value) * _GRAMS[unit], 3))


def _roastify_variant(variant: Document) -> MappedVariant:
    get = variant.get
    stock = values.quantity("stockQty", get("stockQty"))
    size = values.text("size", get("size"))
    return MappedVariant(
        external_id=values.identifier("id", get("id")),
        title=values.text("title", get("title")),
        sku=values.text("sku", get("sku")),
        price=values.amount("retailPrice", get("retailPrice"), PriceUnit.CENTS),
        inventory_quantity=None if stock == ROASTIFY_UNLIMITED_STOCK else stock,
        options={} if size is None else {"size": size},
    )


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
            read_variant=None,
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
class _Field:
    """A product field: its name in MappedProduct, and how its value is checked."""

    name: str
    read: Callable[..., Any]
    is_amount: bool = False


_FIELDS: Final[Mapping[str, _Field]] = MappingProxyType(
    {
        "title": _Field("title", partial(values.required_text, limit=values.MAX_TITLE_LENGTH)),
        "description": _Field("description", partial(values.text, limit=values.MAX_DESCRIPTION_LENGTH)),
        "handle": _Field("handle", values.text),
        "sku": _Field("sku", values.text),
        "barcode": _Field("barcode", values.text),
        "price": _Field("price", values.amount, is_amount=True),
        "compareAtPrice": _Field("compare_at_price", values.amount, is_amount=True),
        "currency": _Field("currency", values.currency),
        "vendor": _Field("vendor", values.text),
        "productType": _Field("product_type", values.text),
        "status": _Field("status", values.text),
        "tags": _Field("tags", values.tags),
        "inventoryQuantity": _Field("inventory_quantity", values.quantity),
    }
)
TARGET_FIELDS: Final = tuple(_FIELDS)
"""Product fields that a job's fieldMapping may name. The id and the variants always come from the provider."""


def _field_reader(field: str, expression: Expression, unit: PriceUnit) -> FieldReader:
    """Made once for a mapping, so that nothing is looked up for each product."""
    read = partial(_FIELDS[field].read, unit=unit) if _FIELDS[field].is_amount else _FIELDS[field].read
    if isinstance(expression, PathExpression):
        first, *rest = expression.steps
        if isinstance(first, str) and not rest:
            return lambda document: read(field, document.get(first))
        search = expression.search
        return lambda document: read(field, search(document))

    def evaluated(document: Document) -> Any:
        try:
            value = evaluate(expression, document)
        except ExpressionError as error:
            raise MappingError(field, str(error)) from error
        return read(field, value)

    return evaluated


class CompiledMapping:
    """A mapping ready for use on many products; made by `compile_mapping`."""

    def __init__(self, provider: ProviderMapping, expressions: Mapping[str, Expression]) -> None:
        self.provider = provider
        self._readers = [
            (_FIELDS[field].name, _field_reader(field, expression, provider.price_unit))
            for field, expression in expressions.items()
        ]
        self._sums_quantities = "inventoryQuantity" not in expressions

    def apply(self, document: Document) -> MappedProduct:
        """Map one product of the provider; raises MappingError naming the field, and nothing else.

        A missing value stays absent, but for the id and the title; a value of a wrong type or above its
        bounds is an error, never cut or guessed.
        """
        external_id = values.identifier("id", document.get("id"))
        variants = self._variants(document.get("variants"))
        fields = {name: read(document) for name, read in self._readers}
        if self._sums_quantities:
            fields["inventory_quantity"] = _total_quantity(variants)
        return MappedProduct(external_id, variants=variants, **fields)

    def _variants(self, variants: Any) -> tuple[MappedVariant, ...]:
        if variants is None or variants == []:
            return ()
        if not isinstance(variants, list):
            raise MappingError("variants", f"must be a list, not {values.kind_of(variants)}")
        if len(variants) > MAX_VARIANTS:
            raise MappingError("variants", f"has more than {MAX_VARIANTS} entries")
        read = self.provider.read_variant
        if read is None:
            raise MappingError("variants[0]", "a WhatsApp catalogue has no variants")
        found = []
        for index, variant in enumerate(variants):
            if not isinstance(variant, dict):
                raise MappingError(f"variants[{index}]", f"must be an object, not {values.kind_of(variant)}")
            try:
                found.append(read(variant))
            except MappingError as error:
                raise error.within(f"variants[{index}]") from error
        return tuple(found)


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
