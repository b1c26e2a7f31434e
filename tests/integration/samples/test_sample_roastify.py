"""The sample Roastify over HTTP."""

import pytest

from import_local.samples.catalogue import expected_products
from import_local.samples.counters import most_in_window


async def test_list_and_details_hold_the_whole_catalogue(roastify, samples) -> None:
    account = "generated-45-3-roast"
    summaries, cursor, pages = [], "", 0
    while True:
        page = (await roastify(account, "/products", cursor=cursor)).json()
        summaries += page["products"]
        cursor, pages = page["pageInfo"]["endCursor"], pages + 1
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert pages == 3
    catalogue = samples.account("roastify", account).catalogue
    expected = list(expected_products(catalogue, "roastify", samples.base_url))
    assert [item["id"] for item in summaries] == [product.id for product in expected]
    for summary, product in zip(summaries, expected, strict=True):
        details = (await roastify(account, f"/products/{product.id}")).json()
        assert {key: details[key] for key in summary} == summary
        assert (details["title"], details["description"]) == (product.title, product.description)
        assert details["productType"] == product.product_type
        assert [image["url"] for image in details["images"]] == [image.url for image in product.images]
        assert summary["imageUrl"] == (product.images[0].url if product.images else None)
        assert [
            (item["id"], item["title"], item["sku"], item["retailPrice"], item["stockQty"], item["inStock"])
            for item in details["variants"]
        ] == [
            (
                item.id,
                item.title,
                item.sku,
                item.price_cents,
                item.inventory_quantity,
                item.inventory_quantity > 0,
            )
            for item in product.variants
        ]
    stocks = {item.inventory_quantity for product in expected for item in product.variants}
    assert 999 in stocks
    assert min(stocks) == 0


async def test_page_sizes(roastify) -> None:
    account = "tiny-150-0-sizes"
    assert len((await roastify(account, "/products")).json()["products"]) == 20
    assert len((await roastify(account, "/products", pageSize=100)).json()["products"]) == 100


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"pageSize": "101"}, 422, "validation_error"),
        ({"pageSize": "0"}, 422, "validation_error"),
        ({"pageSize": "-1"}, 422, "validation_error"),
        ({"pageSize": "many"}, 400, "bad_request"),
        ({"pageSize": ""}, 400, "bad_request"),
        ({"cursor": "nonsense"}, 400, "bad_request"),
        ({"cursor": "cDox"}, 400, "bad_request"),
    ],
)
async def test_wrong_values_are_refused(roastify, query: dict, status: int, code: str) -> None:
    response = await roastify("tiny-2-0-wrong", "/products", **query)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json().keys() == {"message", "code"}


async def test_wrong_keys_accounts_and_products(roastify) -> None:
    for key in ("", "rty_live_other"):
        refused = await roastify("tiny-2-0-keys", "/products", key=key)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    for account, path in (
        ("nobody", "/products"),
        ("tiny-2-0-keys", "/products/prod_1"),
        ("tiny-2-0-keys", "/products/x"),
    ):
        missing = await roastify(account, path)
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_the_blank_catalogue_is_a_bare_array_with_other_spellings(roastify) -> None:
    blank = (await roastify("tiny-4-0-blank", "/catalog/products")).json()
    listed = (await roastify("tiny-4-0-blank", "/products")).json()["products"]
    assert isinstance(blank, list)
    assert all(isinstance(item["variants"], int) for item in blank)
    assert "CoffeeBox12oz" in {item["productType"] for item in blank}
    assert "12ozCoffeeBox" in {item["productType"] for item in listed}


async def test_the_101st_call_of_a_minute_is_429_for_that_key_alone(roastify, samples) -> None:
    account = "tiny-1-0-minute"
    statuses = [(await roastify(account, "/products")).status_code for _ in range(103)]
    assert statuses == [200] * 100 + [429] * 3
    assert (await roastify(account, "/products", key="rty_test_example-two")).status_code == 200
    counters = samples.account("roastify", account).counters
    assert counters.summary()["mostIn60Seconds"] == 104
    served = [call.at for call in counters.calls if call.status == 200]
    assert most_in_window(served, 60.0) == 101
    assert counters.throttled == 3


async def test_a_scaled_limit_admits_more(roastify, samples) -> None:
    account = "tiny-1-0-scaled"
    samples.account("roastify", account).behaviour.rate_scale = 10
    statuses = {(await roastify(account, "/products")).status_code for _ in range(150)}
    assert statuses == {200}
