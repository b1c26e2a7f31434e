"""Default and custom mappings: what they give, what they refuse, and that a refusal names the field."""

from decimal import Decimal
from typing import Any

import pytest

from import_core.domain.errors import InvalidMappingError, MappingError
from import_core.domain.mapping import (
    MAX_VARIANTS,
    PROVIDER_MAPPINGS,
    TARGET_FIELDS,
    check_mapping,
    compile_mapping,
)
from import_core.domain.products import MappedProduct, SourceImage, content_hash, to_json_value
from import_core.domain.values import MAX_DESCRIPTION_LENGTH, MAX_TITLE_LENGTH

SHOPIFY: dict[str, Any] = {
    "id": "gid://shopify/Product/1",
    "title": "Bottle",
    "handle": "bottle",
    "descriptionHtml": "<p>Holds <b>1 l</b></p>",
    "vendor": "Acme",
    "productType": "Kitchen",
    "status": "ACTIVE",
    "tags": ["new", "glass"],
    "options": [{"name": "Size", "values": ["S", "L"]}],
    "variants": [
        {
            "id": "gid://shopify/ProductVariant/11",
            "title": "S",
            "sku": "B-S",
            "price": "12.50",
            "compareAtPrice": "15.00",
            "barcode": "4006381333931",
            "inventoryQuantity": 3,
            "selectedOptions": [{"name": "Size", "value": "S"}],
            "inventoryItem": {
                "tracked": True,
                "measurement": {"weight": {"unit": "KILOGRAMS", "value": 0.25}},
            },
        },
        {
            "id": "gid://shopify/ProductVariant/12",
            "title": "L",
            "sku": "B-L",
            "price": "1999.90",
            "compareAtPrice": None,
            "barcode": None,
            "barcodes": ["96385074"],
            "inventoryQuantity": -1,
            "selectedOptions": [{"name": "Size", "value": "L"}],
            "inventoryItem": {"tracked": False, "measurement": {"weight": None}},
        },
    ],
}
ROASTIFY: dict[str, Any] = {
    "id": "prod_1",
    "title": "House Blend",
    "description": "Dark",
    "productType": "12ozCoffeeBox",
    "images": [{"url": "https://cdn.example/1.jpg"}],
    "variants": [
        {"id": "var_1", "title": "Whole", "size": "12oz", "retailPrice": 1999, "sku": "HB", "stockQty": 7},
        {"id": "var_2", "title": "Ground", "size": None, "retailPrice": 5, "sku": "", "stockQty": 999},
    ],
}


def shopify(changes: dict[str, Any] | None = None, **mapping: str) -> MappedProduct:
    return compile_mapping("shopify", mapping).apply(SHOPIFY | (changes or {}))


def refused(document: dict[str, Any], provider: str = "shopify", **mapping: str) -> MappingError:
    with pytest.raises(MappingError) as caught:
        compile_mapping(provider, mapping).apply(document)
    return caught.value


def variant(**changes: Any) -> dict[str, Any]:
    return SHOPIFY | {"variants": [SHOPIFY["variants"][0] | changes]}


def test_shopify_defaults() -> None:
    assert to_json_value(shopify()) == {
        "external_id": "gid://shopify/Product/1",
        "title": "Bottle",
        "description": "<p>Holds <b>1 l</b></p>",
        "handle": "bottle",
        "sku": "B-S",
        "barcode": "4006381333931",
        "price": "12.5",
        "compare_at_price": "15",
        "currency": None,
        "vendor": "Acme",
        "product_type": "Kitchen",
        "status": "ACTIVE",
        "tags": ["new", "glass"],
        "inventory_quantity": 2,
        "variants": [
            {
                "external_id": "gid://shopify/ProductVariant/11",
                "title": "S",
                "sku": "B-S",
                "price": "12.5",
                "compare_at_price": "15",
                "barcode": "4006381333931",
                "inventory_quantity": 3,
                "options": {"Size": "S"},
                "weight_grams": "250",
            },
            {
                "external_id": "gid://shopify/ProductVariant/12",
                "title": "L",
                "sku": "B-L",
                "price": "1999.9",
                "compare_at_price": None,
                "barcode": "96385074",
                "inventory_quantity": -1,
                "options": {"Size": "L"},
                "weight_grams": None,
            },
        ],
    }


def test_roastify_defaults() -> None:
    product = compile_mapping("roastify").apply(ROASTIFY)
    assert (product.external_id, product.title, product.description) == ("prod_1", "House Blend", "Dark")
    assert (product.price, product.currency, product.sku) == (Decimal("19.99"), "USD", "HB")
    assert (product.handle, product.vendor, product.status, product.tags) == (None, None, None, ())
    first, second = product.variants
    assert (first.price, first.inventory_quantity, first.options) == (Decimal("19.99"), 7, {"size": "12oz"})
    assert (second.price, second.sku, second.options) == (Decimal("0.05"), None, {})


def test_roastify_unlimited_stock_is_unknown_and_so_is_the_sum() -> None:
    product = compile_mapping("roastify").apply(ROASTIFY)
    assert product.variants[1].inventory_quantity is None
    assert product.inventory_quantity is None


def test_a_custom_mapping_replaces_the_fields_it_names_only() -> None:
    product = shopify(
        title="join(' ', [vendor, title])",
        price="variants[1].price",
        tags="variants[].sku",
        currency="'EUR'",
        inventoryQuantity="`4`",
    )
    assert product.title == "Acme Bottle"
    assert product.price == Decimal("1999.90")
    assert product.tags == ("B-S", "B-L")
    assert (product.currency, product.inventory_quantity) == ("EUR", 4)
    assert (product.sku, product.description) == ("B-S", "<p>Holds <b>1 l</b></p>")


def test_a_product_with_only_id_and_title() -> None:
    product = compile_mapping("shopify").apply({"id": 7, "title": "T"})
    assert product == MappedProduct(external_id="7", title="T")


@pytest.mark.parametrize(
    "title",
    [
        "Kaffee ☕️ 👩‍👩‍👧‍👦",
        "قهوة عربية \u200f",
        "\u202eevil",
        "naïve 中文",
        "  padded  ",
        "x" * MAX_TITLE_LENGTH,
    ],
)
def test_text_stays_as_the_provider_has_it(title: str) -> None:
    assert shopify({"title": title}).title == title


def test_what_postgresql_cannot_store_is_taken_out() -> None:
    assert shopify({"title": "a\x00b\ud800c"}).title == "ab\ufffdc"
    shopify({"title": "a\x00b\ud800c"}).title.encode()


@pytest.mark.parametrize("title", [None, "", "  ", "\n", "\x00"])
def test_a_title_is_needed(title: Any) -> None:
    error = refused(SHOPIFY | {"title": title})
    assert (error.field, error.reason) == ("title", "is missing or empty")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (SHOPIFY | {"id": None}, "id"),
        (SHOPIFY | {"id": True}, "id"),
        (SHOPIFY | {"id": ["a"]}, "id"),
        (SHOPIFY | {"title": 5}, "title"),
        (SHOPIFY | {"title": "x" * (MAX_TITLE_LENGTH + 1)}, "title"),
        (SHOPIFY | {"descriptionHtml": "x" * (MAX_DESCRIPTION_LENGTH + 1)}, "description"),
        (SHOPIFY | {"vendor": {"name": "Acme"}}, "vendor"),
        (SHOPIFY | {"handle": "h" * 256}, "handle"),
        (SHOPIFY | {"tags": "new, glass"}, "tags"),
        (SHOPIFY | {"tags": ["new", 1]}, "tags[1]"),
        (SHOPIFY | {"tags": ["t"] * 251}, "tags"),
        (SHOPIFY | {"variants": "none"}, "variants"),
        (SHOPIFY | {"variants": [1]}, "variants[0]"),
        (SHOPIFY | {"variants": [{"id": "v"}] * (MAX_VARIANTS + 1)}, "variants"),
        (variant(id=None), "variants[0].id"),
        (variant(sku=1), "variants[0].sku"),
        (variant(inventoryQuantity=1.5), "variants[0].inventoryQuantity"),
        (variant(inventoryQuantity="3"), "variants[0].inventoryQuantity"),
        (variant(inventoryQuantity=10**13), "variants[0].inventoryQuantity"),
        (variant(inventoryQuantity=10**5000), "variants[0].inventoryQuantity"),
        (variant(selectedOptions={}), "variants[0].selectedOptions"),
        (variant(selectedOptions=[{"value": "x"}]), "variants[0].selectedOptions[0].name"),
        (variant(inventoryItem=[]), "variants[0].inventoryItem"),
        (
            variant(inventoryItem={"measurement": {"weight": {"unit": "STONES", "value": 1}}}),
            "variants[0].inventoryItem.measurement.weight.unit",
        ),
        (
            variant(inventoryItem={"measurement": {"weight": {"unit": "GRAMS", "value": float("nan")}}}),
            "variants[0].inventoryItem.measurement.weight.value",
        ),
    ],
)
def test_a_wrong_value_names_its_field(document: dict[str, Any], field: str) -> None:
    assert refused(document).field == field


@pytest.mark.parametrize(
    "price",
    [
        *("abc", "12,50", "-1", "1e3", "NaN", "Infinity", "1.1234567", "9" * 14),
        *(["1"], {"amount": "1"}, True, -1, float("nan"), float("inf"), 10**13, 0.1 + 0.2, 1e-300),
        pytest.param(10**5000, id="huge"),
    ],
)
def test_a_wrong_price_is_refused(price: Any) -> None:
    assert refused(variant(price=price)).field == "variants[0].price"
    assert refused(SHOPIFY | {"odd": price}, price="odd").field == "price"


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("0", "0"),
        ("12.50", "12.50"),
        (" 3.1 ", "3.1"),
        (12, "12"),
        (12.5, "12.5"),
        (0.1, "0.1"),
        ("", None),
        (None, None),
    ],
)
def test_prices_in_the_main_unit(price: Any, expected: str | None) -> None:
    assert shopify({"odd": price}, price="odd").price == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("price", "expected"), [(0, "0.00"), (1, "0.01"), (123456, "1234.56"), (100.0, "1.00")]
)
def test_prices_in_cents(price: Any, expected: str) -> None:
    mapping = compile_mapping("roastify", {"price": "odd"})
    assert mapping.apply(ROASTIFY | {"odd": price}).price == Decimal(expected)


@pytest.mark.parametrize("price", ["19.99", "1999", 19.99, -1])
def test_what_could_be_another_unit_than_cents_is_refused(price: Any) -> None:
    assert refused(ROASTIFY | {"odd": price}, "roastify", price="odd").field == "price"


def test_an_expression_that_fails_on_a_product_fails_that_product() -> None:
    error = refused(SHOPIFY | {"tags": None}, title="sort(tags)[0]")
    assert error.field == "title"
    assert "JMESPathTypeError" in error.reason


@pytest.mark.parametrize(
    ("unit", "value", "grams"),
    [("GRAMS", 250, "250"), ("KILOGRAMS", 0.1, "100"), ("POUNDS", 1.0, "453.592"), ("OUNCES", 2, "56.699")],
)
def test_weights_become_grams(unit: str, value: float, grams: str) -> None:
    document = variant(inventoryItem={"measurement": {"weight": {"unit": unit, "value": value}}})
    assert compile_mapping("shopify").apply(document).variants[0].weight_grams == Decimal(grams)


def test_errors_never_show_the_products_values() -> None:
    for document in (variant(price="s3cret"), SHOPIFY | {"vendor": ["s3cret"]}, variant(sku="s3cret" * 50)):
        assert "s3cret" not in str(refused(document))


@pytest.mark.parametrize(
    ("mapping", "field", "reason"),
    [
        ({"colour": "colour"}, "fieldMapping.colour", "allowed are title, description"),
        ({"variants": "variants"}, "fieldMapping.variants", "is no product field"),
        ({"title": "foo("}, "fieldMapping.title", "is no valid JMESPath expression"),
        ({"title": ""}, "fieldMapping.title", "is no valid JMESPath expression"),
        ({"title": "title" + " " * 1024}, "fieldMapping.title", "longer than 1024"),
        ({"title": "upper(title)"}, "fieldMapping.title", "unknown function: upper()"),
        ({"title": "length(a, b)"}, "fieldMapping.title", "takes 1"),
        ({"title": "map(title, variants)"}, "fieldMapping.title", "wrong argument 1"),
        ({"title": "max(&title)"}, "fieldMapping.title", "wrong argument 1"),
        ({"title": "(" * 500 + "a" + ")" * 500}, "fieldMapping.title", "nested too deeply"),
        (
            {"title": "|".join(["[@,@]"] * 40) + "|[]" * 40},
            "fieldMapping.title",
            "times the product's own size",
        ),
        ({"title": "to_string(to_string(@))"}, "fieldMapping.title", "times the product's own size"),
        ({"title": "join(description, variants[].title)"}, "fieldMapping.title", "separator"),
    ],
)
def test_an_unusable_mapping_is_found_without_a_product(
    mapping: dict[str, str], field: str, reason: str
) -> None:
    (problem,) = check_mapping("shopify", mapping)
    assert problem.field == field
    assert reason in problem.reason
    with pytest.raises(InvalidMappingError) as caught:
        compile_mapping("shopify", mapping)
    assert str(problem) in str(caught.value)


def test_every_problem_is_named_at_once() -> None:
    problems = check_mapping("shopify", {"colour": "a", "title": "foo(", "price": "variants[0].price"})
    assert [problem.field for problem in problems] == ["fieldMapping.colour", "fieldMapping.title"]


@pytest.mark.parametrize("provider", ["etsy", "", "Shopify"])
def test_an_unknown_provider_type_is_a_problem(provider: str) -> None:
    (problem,) = check_mapping(provider, None)
    assert (problem.field, "shopify, roastify" in problem.reason) == ("type", True)
    with pytest.raises(InvalidMappingError):
        compile_mapping(provider)


@pytest.mark.parametrize(
    "expression",
    [
        "variants[0].sku",
        "variants[?price > `1` && sku].title | [0]",
        "sort_by(variants, &price)[0].price",
        "join(', ', variants[].selectedOptions[].value)",
        "not_null(a, b, c, 'none')",
        "map(&title, variants)[0]",
        "{a: title, b: vendor}.a",
        "options[?name == 'Size'] | [0].values[0]",
    ],
)
def test_everyday_expressions_are_fine(expression: str) -> None:
    assert check_mapping("shopify", {"title": expression}) == []


def test_defaults_name_known_fields_and_check_clean() -> None:
    for provider, mapping in PROVIDER_MAPPINGS.items():
        assert set(mapping.defaults) <= set(TARGET_FIELDS)
        assert check_mapping(provider, dict(mapping.defaults)) == []


def test_content_hash_does_not_see_how_a_price_is_written() -> None:
    images: list[SourceImage] = []
    assert content_hash(shopify({"odd": "12.50"}, price="odd"), images) == content_hash(
        shopify({"odd": 12.5}, price="odd"), images
    )
    assert content_hash(shopify({"title": "Other"}), images) != content_hash(shopify(), images)


def test_hashes_are_what_they_were_when_the_rows_in_the_tables_were_written() -> None:
    first = SHOPIFY["variants"][0]
    weighed = first | {"inventoryItem": {"measurement": {"weight": {"unit": "OUNCES", "value": 8.5}}}}
    options = [{"name": "b", "value": "1"}, {"name": "a", "value": "2"}]
    odd = shopify({
        "title": 'Ünïcode 😀 "q" \\ / \x07\x7f\u2028',
        "variants": [first | {"price": "1200.00"}, weighed | {"price": "0.000001", "selectedOptions": options}],
    })  # fmt: skip
    images = [SourceImage("https://cdn.example/é.jpg", "a"), SourceImage("https://cdn.example/2.jpg")]
    assert content_hash(odd, images) == "d8f8d6eefbef4d384b4e8123bf538a4d7f8c85ff1c9ce03f67dead9ffab40589"


WHATSAPP = {
    "id": "24051",
    "retailer_id": "SKU-1",
    "name": "Blue shirt",
    "price": "€1.299,00",
    "currency": "EUR",
    "brand": "Acme",
    "inventory": 3,
    "visibility": "published",
}


def test_a_whatsapp_product_has_its_formatted_price_as_an_amount() -> None:
    product = compile_mapping("whatsapp").apply(WHATSAPP)
    assert (product.price, product.compare_at_price, product.currency) == (Decimal("1299.00"), None, "EUR")
    assert (product.title, product.sku, product.vendor) == ("Blue shirt", "SKU-1", "Acme")
    assert (product.inventory_quantity, product.status, product.variants) == (3, "published", ())


def test_a_whatsapp_products_sale_price_is_its_price() -> None:
    product = compile_mapping("whatsapp").apply({**WHATSAPP, "sale_price": "€999.00"})
    assert (product.price, product.compare_at_price) == (Decimal("999.00"), Decimal("1299.00"))


@pytest.mark.parametrize("price", ["12-15 €", "1,2,3", "-5 €"])
def test_a_whatsapp_price_that_can_not_be_read_is_named_not_guessed(price: str) -> None:
    with pytest.raises(MappingError) as raised:
        compile_mapping("whatsapp").apply({**WHATSAPP, "price": price})
    assert raised.value.field == "price"


def test_a_whatsapp_price_on_request_is_none() -> None:
    assert compile_mapping("whatsapp").apply({**WHATSAPP, "price": "on request"}).price is None
