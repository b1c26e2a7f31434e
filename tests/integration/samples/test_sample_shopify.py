"""The sample Shopify over HTTP: access, paging, cost, throttling, REST."""

import time

import httpx2
import pytest

from import_local.samples.catalogue import expected_products
from import_local.samples.catalogue.model import decimal_price
from import_local.samples.settings import (
    SHOPIFY_CLIENT_ID,
    SHOPIFY_CLIENT_SECRET,
    SHOPIFY_TOKEN_ACCESS_DENIED,
    SHOPIFY_TOKEN_WITHOUT_APPROVAL,
)

PRODUCTS = """
query Products($first: Int!, $after: String, $query: String) {
  products(first: $first, after: $after, query: $query) {
    pageInfo { hasNextPage endCursor }
    nodes {
      id title handle descriptionHtml vendor productType status tags options { name values }
      variants(first: 4) { pageInfo { hasNextPage endCursor } nodes { ...V } }
      media(first: 21) { nodes { id alt status ... on MediaImage { image { url altText width height } } } }
    }
  }
}
fragment V on ProductVariant {
  id sku price compareAtPrice barcode inventoryQuantity selectedOptions { name value }
  inventoryItem { tracked measurement { weight { value unit } } }
}
"""
REST = """
query Rest($id: ID!, $after: String) {
  product(id: $id) { variants(first: 100, after: $after) {
    pageInfo { hasNextPage endCursor } edges { node { id sku price compareAtPrice inventoryQuantity } } } }
}
"""


async def test_every_product_is_read_field_by_field(shop, samples) -> None:
    client = shop("generated-60-6-fields")
    account = samples.account("shopify", client.name)
    account.behaviour.rate_scale = 1_000
    catalogue = account.catalogue
    nodes, after = [], None
    while True:
        page = (await client.ask(PRODUCTS, first=7, after=after))["products"]
        nodes.extend(page["nodes"])
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    expected = list(expected_products(catalogue, "shopify", samples.base_url))
    assert [node["id"] for node in nodes] == [product.id for product in expected]
    for node, product in zip(nodes, expected, strict=True):
        assert (node["title"], node["descriptionHtml"]) == (product.title, product.description)
        assert (node["vendor"], node["productType"], node["status"], node["tags"]) == (
            product.vendor,
            product.product_type,
            product.status,
            list(product.tags),
        )
        variants, place = node["variants"]["nodes"], node["variants"]["pageInfo"]
        while place["hasNextPage"]:
            more = (await client.ask(REST, id=node["id"], after=place["endCursor"]))["product"]["variants"]
            variants += [edge["node"] for edge in more["edges"]]
            place = more["pageInfo"]
        assert [
            (item["id"], item["sku"], item["price"], item["compareAtPrice"], item["inventoryQuantity"])
            for item in variants
        ] == [
            (
                item.id,
                item.sku or None,
                decimal_price(item.price_cents),
                None if item.compare_at_cents is None else decimal_price(item.compare_at_cents),
                item.inventory_quantity,
            )
            for item in product.variants
        ]
        images = [item["image"] for item in node["media"]["nodes"] if item.get("image")]
        assert [(item["url"], item["width"], item["height"]) for item in images] == [
            (item.url, item.width, item.height) for item in product.images
        ]


async def test_only_the_fields_asked_for_come_back_under_their_aliases(shop) -> None:
    query = "{ all: products(first: 1) { __typename edges { cursor node { name: title __typename } } } }"
    data = await shop("tiny-2-1-alias").ask(query)
    [edge] = data["all"]["edges"]
    assert data["all"].keys() == {"__typename", "edges"}
    assert edge.keys() == {"cursor", "node"}
    assert edge["node"].keys() == {"name", "__typename"}
    assert edge["node"]["__typename"] == "Product"


async def test_a_video_gives_nothing_to_a_fragment_on_images(shop) -> None:
    query = "{ products(first: 6) { nodes { media(first: 1) { nodes { ... on MediaImage { id image { url } } } } } } }"
    nodes = (await shop("generated-6-2-video").ask(query))["products"]["nodes"]
    assert nodes[5]["media"]["nodes"] == [{}]
    assert nodes[0]["media"]["nodes"][0].keys() == {"id", "image"}


async def test_media_in_processing_have_no_image_yet(shop) -> None:
    query = """{ products(first: 22) { nodes { media(first: 3) { nodes {
      status ... on MediaImage { image { url } } } } } } }"""
    nodes = (await shop("generated-22-1-processing").ask(query))["products"]["nodes"]
    assert nodes[21]["media"]["nodes"][-1] == {"status": "PROCESSING", "image": None}


async def test_2048_variants_are_paged_by_250(shop, samples) -> None:
    client = shop("generated-1235-0-variants")
    account = samples.account("shopify", client.name)
    account.behaviour.rate_scale = 1_000
    product = account.catalogue.product(1234)
    query = """query V($id: ID!, $after: String) { node(id: $id) { ... on Product {
      variants(first: 250, after: $after) { pageInfo { hasNextPage endCursor } nodes { id } } } } }"""
    gid, after, ids, pages = f"gid://shopify/Product/{product.number}", None, [], 0
    while True:
        page = (await client.ask(query, id=gid, after=after))["node"]["variants"]
        ids += [node["id"] for node in page["nodes"]]
        after, pages = page["pageInfo"]["endCursor"], pages + 1
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert pages == 9
    assert ids == [f"gid://shopify/ProductVariant/{item.number}" for item in product.variants]


async def test_nodes_of_every_kind_are_found_and_unknown_ones_are_null(shop, samples) -> None:
    client = shop("tiny-3-1-nodes")
    product = samples.account("shopify", client.name).catalogue.product(1)
    ids = [
        f"gid://shopify/Product/{product.number}",
        f"gid://shopify/ProductVariant/{product.variants[0].number}",
        f"gid://shopify/MediaImage/{product.images[0].number}",
        "gid://shopify/Product/1",
    ]
    query = "query N($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on ProductVariant { sku } } }"
    found = (await client.ask(query, ids=ids))["nodes"]
    assert [node and node["__typename"] for node in found] == [
        "Product",
        "ProductVariant",
        "MediaImage",
        None,
    ]
    assert found[1]["sku"] == product.variants[0].sku
    assert (await client.ask("query P($id: ID!) { product(id: $id) { id } }", id=ids[3]))["product"] is None


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["gid://shopify/Product/1", "nonsense"], "Invalid global id 'nonsense'"),
        (["gid://shopify/Product/1"] * 251, "greater than the maximum allowed of 250"),
    ],
)
async def test_one_wrong_id_or_too_many_refuse_the_whole_query(shop, ids: list[str], words: str) -> None:
    answer = await shop("tiny-1-0-ids").post("query N($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert answer.json()["data"] is None
    assert words in answer.json()["errors"][0]["message"]


async def test_updated_at_filters_and_sorts(shop, samples) -> None:
    client = shop("tiny-40-0-updated")
    catalogue = samples.account("shopify", client.name).catalogue
    query = """query U($query: String) { productsCount(query: $query) { count }
      products(first: 40, query: $query, sortKey: UPDATED_AT, reverse: true) { nodes { id updatedAt } } }"""
    data = await client.ask(query, query="updated_at:>'2025-07-01T00:00:00Z'")
    times = [node["updatedAt"] for node in data["products"]["nodes"]]
    assert times == sorted(times, reverse=True)
    wanted = [i for i in range(40) if catalogue.updated_at(i).isoformat() > "2025-07-01T00:00:00"]
    assert data["productsCount"]["count"] == len(times) == len(wanted)
    assert 0 < len(times) < 40


async def test_an_ignored_search_term_is_told(shop) -> None:
    response = await shop("tiny-2-0-search").post(
        '{ products(first: 2, query: "colour:red") { nodes { id } } }'
    )
    [note] = response.json()["extensions"]["search"]
    assert note["warnings"][0]["field"] == "colour"
    assert len(response.json()["data"]["products"]["nodes"]) == 2


async def test_an_empty_shop_has_an_empty_last_page(shop) -> None:
    page = (await shop("empty").ask(PRODUCTS, first=5))["products"]
    assert page == {"pageInfo": {"hasNextPage": False, "endCursor": None}, "nodes": []}


@pytest.mark.parametrize("token", ["", "shpat_wrong", "shpat_exampleX"])
async def test_a_wrong_token_is_401_in_shopifys_words(shop, token: str) -> None:
    response = await shop("tiny-1-0-access", token).post("{ shop { name } }")
    assert response.status_code == 401
    assert response.json() == {
        "errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"
    }


async def test_a_missing_scope_is_refused_in_both_documented_ways(shop) -> None:
    response = await shop("tiny-1-0-access", SHOPIFY_TOKEN_WITHOUT_APPROVAL).post("{ shop { name } }")
    assert response.status_code == 403
    assert "read_products" in response.json()["errors"]
    client = shop("tiny-1-0-access", SHOPIFY_TOKEN_ACCESS_DENIED)
    denied = await client.post("{ products(first: 1) { nodes { id } } }")
    assert denied.status_code == 200
    assert denied.json()["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"
    assert denied.json()["data"] is None


async def test_unknown_shops_and_versions_are_404_and_old_versions_fall_forward(shop) -> None:
    assert (await shop("no-such-shop").post("{ shop { name } }")).status_code == 404
    client = shop("tiny-1-0-access")
    assert (await client.post("{ shop { name } }", api_version="latest")).status_code == 404
    old = await client.post("{ shop { name } }", api_version="2024-04")
    assert (old.status_code, old.headers["X-Shopify-API-Version"]) == (200, "2026-01")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"query": 1}', b'{"query": "{a}", "variables": []}'])
async def test_a_body_without_a_query_is_400(http: httpx2.AsyncClient, shop, body: bytes) -> None:
    response = await http.post(
        "/shopify/tiny-1-0-access/admin/api/2026-10/graphql.json",
        headers={"X-Shopify-Access-Token": "shpat_example"},
        content=body,
    )
    assert response.status_code == (400 if body != b'{"query": "{a}", "variables": []}' else 200)
    assert "errors" in response.json()


async def test_errors_of_the_query_come_with_status_200_and_no_data(shop) -> None:
    client = shop("tiny-1-0-access")
    for query in ("{ products(first: 1) { nodes { colour } } }", "{ products("):
        response = await client.post(query)
        assert response.status_code == 200
        assert response.json().keys() == {"errors"}
    wrong = await client.post('{ products(first: 1, after: "x") { nodes { id } } }')
    assert "Invalid cursor" in wrong.json()["errors"][0]["message"]
    assert wrong.json()["data"] is None


async def test_a_query_above_1000_points_is_refused_and_costs_nothing(shop) -> None:
    client = shop("tiny-1-0-dear")
    response = await client.post(
        "{ products(first: 250) { nodes { variants(first: 10) { nodes { id } } } } }"
    )
    [error] = response.json()["errors"]
    assert response.status_code == 200
    assert (error["extensions"]["code"], error["extensions"]["cost"]) == ("MAX_COST_EXCEEDED", 3252)
    cost = (await client.post("{ shop { name } }")).json()["extensions"]["cost"]
    assert cost["throttleStatus"]["currentlyAvailable"] == 1999


async def test_cost_is_charged_by_what_came_back_and_throttled_when_the_bucket_is_low(shop, samples) -> None:
    client = shop("tiny-3-0-throttle")
    account = samples.account("shopify", client.name)
    account.behaviour.rate_scale = 1e-6
    wide = "{ products(first: 250) { nodes { id options { name } variants(first: 1) { nodes { id } } } } }"
    requested = 2 + 250 * 1
    dear = "{ products(first: 160) { nodes { variants(first: 1) { nodes { id } } options { name } } } }"
    first = (await client.post(dear)).json()["extensions"]["cost"]
    assert first["requestedQueryCost"] == 2 + 160 * (1 + 3 + 1)
    assert first["actualQueryCost"] == 2 + 3 * (1 + 3 + 1)
    assert first["throttleStatus"]["currentlyAvailable"] == 2000 - 17
    assert requested < 1000 < 2 + 250 * (1 + 3 + 1)
    assert "errors" in (await client.post(wide)).json()
    account.points(client.token, time.monotonic()).available = 500.0
    throttled = await client.post(dear)
    assert throttled.status_code == 200
    body = throttled.json()
    assert body["errors"][0]["message"] == "Throttled"
    assert body["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert body["extensions"]["cost"]["requestedQueryCost"] == 802
    assert body["extensions"]["cost"]["actualQueryCost"] is None
    assert body["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == 500
    account.behaviour.throttle_status = 429
    hard = await client.post(dear)
    assert (hard.status_code, hard.headers["Retry-After"]) == (429, "1.0")
    assert account.counters.throttled == 2
    other_app = shop(client.name, "shpat_example-other")
    assert "data" in (await other_app.post(dear)).json()


async def test_the_client_credentials_grant_gives_a_token_that_expires(http, shop, samples) -> None:
    name = "tiny-1-0-grant"
    form = {
        "client_id": SHOPIFY_CLIENT_ID,
        "client_secret": SHOPIFY_CLIENT_SECRET,
        "grant_type": "client_credentials",
    }
    path = f"/shopify/{name}/admin/oauth/access_token"
    granted = await http.post(path, data=form)
    assert granted.json()["scope"] == "read_products"
    assert granted.json()["expires_in"] == 86_399
    token = granted.json()["access_token"]
    assert (await shop(name, token).post("{ shop { name } }")).status_code == 200
    samples.account("shopify", name).behaviour.token_seconds = 0.0
    expired = (await http.post(path, json=form)).json()["access_token"]
    assert (await shop(name, expired).post("{ shop { name } }")).status_code == 401
    assert (await http.post(path, data={**form, "client_secret": "wrong"})).status_code == 401
    assert (await http.post(path, data={**form, "grant_type": "password"})).status_code == 400


async def test_rest_pages_by_link_headers(shop, samples) -> None:
    client = shop("tiny-7-1-rest")
    catalogue = samples.account("shopify", client.name).catalogue
    response = await client.rest("products.json", limit=3)
    assert response.headers["X-Shopify-Shop-Api-Call-Limit"] == "1/40"
    products = response.json()["products"]
    assert 'rel="previous"' not in response.headers["Link"]
    while 'rel="next"' in response.headers.get("Link", ""):
        link = next(item for item in response.headers["Link"].split(", ") if 'rel="next"' in item)
        response = await client.rest(link[link.index("<") + 1 : link.index(">")])
        products += response.json()["products"]
    expected = list(expected_products(catalogue, "shopify", samples.base_url))
    assert [item["admin_graphql_api_id"] for item in products] == [product.id for product in expected]
    assert [item["images"][0]["src"] for item in products] == [item.images[0].url for item in expected]
    assert 'rel="previous"' in response.headers["Link"]
    one = await client.rest(f"products/{products[0]['id']}.json")
    assert one.json()["product"]["title"] == products[0]["title"]
    assert (await client.rest("products/5.json")).status_code == 404
    assert (await client.rest("products/count.json")).json() == {"count": 7}
    assert (await client.rest("products.json", limit=251)).status_code == 400
    assert (await client.rest("products.json", page_info="x")).status_code == 400


async def test_rest_is_throttled_after_forty_calls(shop, samples) -> None:
    client = shop("tiny-1-0-rest40")
    samples.account("shopify", client.name).behaviour.rate_scale = 1e-6
    statuses = [(await client.rest("shop.json")).status_code for _ in range(40)]
    assert set(statuses) == {200}
    refused = await client.rest("shop.json")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "2.0"
    assert refused.headers["X-Shopify-Shop-Api-Call-Limit"] == "40/40"
