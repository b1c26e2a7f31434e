"""Mapping is total, deterministic and storable, whatever a provider sends and a user writes."""

import json
from decimal import Decimal
from typing import Any

import jmespath
from hypothesis import given, settings
from hypothesis import strategies as st

from import_core.domain.errors import MappingError
from import_core.domain.expressions import PathExpression, compile_expression
from import_core.domain.mapping import TARGET_FIELDS, check_mapping, compile_mapping
from import_core.domain.products import (
    MappedProduct,
    SourceImage,
    content_hash,
    encode_product,
    to_json_value,
)
from import_core.domain.resources.import_provider import ProviderType

SHOPIFY: dict[str, Any] = {
    "id": "gid://shopify/Product/1",
    "title": "Bottle",
    "descriptionHtml": "<p>Holds 1 l</p>",
    "handle": "bottle",
    "vendor": "Acme",
    "productType": "Kitchen",
    "status": "ACTIVE",
    "tags": ["new"],
    "variants": [
        {
            "id": "gid://shopify/ProductVariant/11",
            "title": "S",
            "sku": "B-S",
            "price": "12.50",
            "compareAtPrice": None,
            "barcode": "4006381333931",
            "barcodes": [],
            "inventoryQuantity": 3,
            "selectedOptions": [{"name": "Size", "value": "S"}],
            "inventoryItem": {"measurement": {"weight": {"unit": "GRAMS", "value": 2}}},
        }
    ],
}
ROASTIFY: dict[str, Any] = {
    "id": "prod_1",
    "title": "House Blend",
    "description": "Dark",
    "variants": [{"id": "var_1", "size": "12oz", "retailPrice": 1999, "sku": "HB", "stockQty": 7}],
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
KEYS = sorted({*SHOPIFY, *ROASTIFY, *SHOPIFY["variants"][0], *ROASTIFY["variants"][0]})
variants = st.lists(st.dictionaries(st.sampled_from(KEYS), json_values, max_size=8), max_size=3)
documents = st.builds(
    lambda odd, variants, base: base | odd | ({} if variants is None else {"variants": variants}),
    st.dictionaries(st.sampled_from(KEYS), json_values, max_size=6),
    st.none() | variants | json_values,
    st.sampled_from([{}, SHOPIFY, ROASTIFY]),
)
EXPRESSIONS = [
    "title",
    "variants[0]",
    "variants[].price",
    "@",
    "sort_by(variants, &price)[0].price",
    "sum(variants[].inventoryQuantity)",
    "avg(variants[].price)",
    "join(', ', tags)",
    "to_number(title)",
    "variants[?price > `1`]",
    "max_by(variants, &to_number(price)).price",
    "floor(variants[0].price)",
    "ceil(to_number(variants[0].price))",
    "tags[::-1]",
    "tags[::0]",
    "keys(@)",
    "reverse(title)",
    "to_string(@)",
    "contains(title, 'a') && title || vendor",
    "merge(variants[0], variants[1])",
    "length(variants)",
    "&title",
    "*.*",
    '`[1, {"a": 2}]`',
    "variants[*].[price, sku][]",
]
mappings = st.dictionaries(st.sampled_from(TARGET_FIELDS), st.sampled_from(EXPRESSIONS), max_size=5)


def outcome(provider: str, mapping: dict[str, str], document: dict[str, Any]) -> MappedProduct | MappingError:
    """What mapping leads to; any other exception than MappingError fails the test."""
    try:
        return compile_mapping(provider, mapping).apply(document)
    except MappingError as error:
        return error


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(ProviderType)), mappings, documents)
def test_mapping_is_total_deterministic_and_storable(
    provider: ProviderType, mapping: dict[str, str], document: dict[str, Any]
) -> None:
    assert check_mapping(provider, mapping) == []
    before = repr(document)
    product = outcome(provider, mapping, document)
    again = outcome(provider, dict(mapping), document)
    assert repr(document) == before
    if isinstance(product, MappingError):
        assert product.field
        assert str(again) == str(product)
        return
    assert isinstance(again, MappedProduct)
    assert product.title.strip()
    assert product.price is None or (product.price.is_finite() and product.price >= 0)
    stored = json.dumps(to_json_value(product), ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in stored
    stored.encode()
    images = [SourceImage("https://cdn.example/1.jpg")]
    assert content_hash(again, images) == content_hash(product, images)
    text = json.dumps(to_json_value(product), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert encode_product(product) == text.encode()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(
        ["title", "variants[0].price", "variants[-1]", "tags[0]", "tags[3].a", "odd.a.b", "odd[0][1]"]
    ),
    documents,
    json_values,
)
def test_a_path_is_read_as_jmespath_reads_it(path: str, document: dict[str, Any], odd: Any) -> None:
    document = document | {"odd": odd}
    expression = compile_expression(path)
    assert isinstance(expression, PathExpression)
    # By their texts: not a number is not equal to itself.
    assert repr(expression.search(document)) == repr(jmespath.search(path, document))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="abt.[]()*|&@`'\"{}:,?<>=!0-9 ", max_size=60))
def test_any_text_is_either_a_usable_expression_or_a_named_problem(expression: str) -> None:
    problems = check_mapping("shopify", {"vendor": expression})
    if problems:
        assert [problem.field for problem in problems] == ["fieldMapping.vendor"]
        return
    result = outcome("shopify", {"vendor": expression}, SHOPIFY)
    assert isinstance(result, MappedProduct) or result.field == "vendor"


@given(st.integers(min_value=0, max_value=10**12))
def test_cents_lose_nothing(cents: int) -> None:
    price = compile_mapping("roastify", {"price": "odd"}).apply(ROASTIFY | {"odd": cents}).price
    assert price is not None
    assert price * 100 == cents


@given(st.decimals(min_value=0, max_value=10**9, places=2))
def test_decimal_text_loses_nothing(price: Decimal) -> None:
    product = compile_mapping("shopify", {"price": "odd"}).apply(SHOPIFY | {"odd": str(price)})
    assert product.price == price
