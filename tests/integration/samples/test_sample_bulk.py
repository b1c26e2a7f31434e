"""Bulk operations of the sample Shopify."""

import asyncio
import json
from typing import Any

from import_local.samples.catalogue import expected_products

RUN = """mutation Run($query: String!, $group: Boolean) {
  bulkOperationRunQuery(query: $query, groupObjects: $group) {
    bulkOperation { id status } userErrors { field message code } } }"""
STATUS = """query Status($id: ID!) { node(id: $id) { ... on BulkOperation {
  id status errorCode objectCount rootObjectCount fileSize url partialDataUrl } } }"""
ALL = """{ products { edges { node { id title
  variants { edges { node { id price } } }
  media { edges { node { ... on MediaImage { id image { url } } } } } } } } }"""


async def _finished(client, gid: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            operation = (await client.ask(STATUS, id=gid))["node"]
            if operation["status"] not in {"CREATED", "RUNNING", "CANCELING"}:
                return operation
            await asyncio.sleep(0.02)


async def _run(client, query: str = ALL, *, group: bool = False) -> dict[str, Any]:
    return (await client.ask(RUN, query=query, group=group))["bulkOperationRunQuery"]


async def _lines(client, operation: dict[str, Any], field: str = "url") -> list[dict[str, Any]]:
    response = await client.http.get(operation[field])
    assert response.status_code == 200
    assert len(response.content) == int(operation["fileSize"])
    return [json.loads(line) for line in response.text.splitlines()]


async def test_the_result_holds_every_product_variant_and_medium(shop, samples) -> None:
    client = shop("generated-60-3-bulk")
    started = await _run(client)
    assert started["userErrors"] == []
    operation = await _finished(client, started["bulkOperation"]["id"])
    assert (operation["status"], operation["errorCode"], operation["partialDataUrl"]) == (
        "COMPLETED",
        None,
        None,
    )
    lines = await _lines(client, operation)
    assert int(operation["objectCount"]) == len(lines)
    assert int(operation["rootObjectCount"]) == 60
    roots = [line for line in lines if "__parentId" not in line]
    assert all(line.keys() == {"id", "title"} for line in roots)
    catalogue = samples.account("shopify", client.name).catalogue
    expected = list(expected_products(catalogue, "shopify", samples.base_url))
    assert [line["id"] for line in roots] == [product.id for product in expected]
    for product in expected:
        children = [line for line in lines if line.get("__parentId") == product.id]
        assert [line["id"] for line in children if "price" in line] == [item.id for item in product.variants]
        urls = [line["image"]["url"] for line in children if line.get("image")]
        assert urls == [item.url for item in product.images]
    places = {line["id"]: place for place, line in enumerate(lines) if "__parentId" not in line}
    parents = [(place, line["__parentId"]) for place, line in enumerate(lines) if "__parentId" in line]
    assert all(places[parent] < place for place, parent in parents)
    between = [place for place, line in enumerate(lines) if line.get("__parentId") == roots[0]["id"]]
    assert between[0] > 5


async def test_grouped_children_follow_their_parent_directly(shop) -> None:
    client = shop("generated-20-2-grouped")
    operation = await _finished(client, (await _run(client, group=True))["bulkOperation"]["id"])
    parent = None
    for line in await _lines(client, operation):
        parent = line["id"] if "__parentId" not in line else parent
        assert line.get("__parentId", parent) == parent


async def test_one_operation_at_a_time_and_it_can_be_cancelled(shop, samples) -> None:
    client = shop("tiny-5-0-busy")
    samples.account("shopify", client.name).behaviour.bulk = "stall"
    first = (await _run(client))["bulkOperation"]
    second = await _run(client)
    assert second["bulkOperation"] is None
    assert first["id"] in second["userErrors"][0]["message"]
    current = (await client.ask("{ currentBulkOperation { id status url } }"))["currentBulkOperation"]
    assert (current["id"], current["url"]) == (first["id"], None)
    await client.ask(
        "mutation C($id: ID!) { bulkOperationCancel(id: $id) { bulkOperation { status } userErrors { message } } }",
        id=first["id"],
    )
    assert (await _finished(client, first["id"]))["status"] == "CANCELED"
    samples.account("shopify", client.name).behaviour.bulk = "complete"
    third = (await _run(client))["bulkOperation"]
    assert (await _finished(client, third["id"]))["status"] == "COMPLETED"


async def test_a_failure_leaves_partial_data(shop, samples) -> None:
    client = shop("tiny-10-1-partial")
    samples.account("shopify", client.name).behaviour.bulk = "fail"
    operation = await _finished(client, (await _run(client))["bulkOperation"]["id"])
    assert (operation["status"], operation["errorCode"], operation["url"]) == (
        "FAILED",
        "INTERNAL_SERVER_ERROR",
        None,
    )
    lines = await _lines(client, operation, "partialDataUrl")
    assert sum("__parentId" not in line for line in lines) == 5


async def test_an_empty_result_has_no_address(shop) -> None:
    client = shop("empty")
    operation = await _finished(client, (await _run(client))["bulkOperation"]["id"])
    assert (operation["status"], operation["objectCount"], operation["url"]) == ("COMPLETED", "0", None)


async def test_a_query_that_breaks_the_rules_is_a_user_error(shop) -> None:
    client = shop("tiny-1-0-bulkrules")
    for query, words in (
        ("{ shop { name } }", "top-level connection"),
        ("{ products { edges { node { colour } } } }", "doesn't exist"),
        ("{ products {", "Invalid bulk query"),
        ("{ products { edges { node { variants { edges { node { id } } } } } } }", "must select the 'id'"),
    ):
        answer = await _run(client, query)
        assert answer["bulkOperation"] is None
        assert words in answer["userErrors"][0]["message"]


async def test_the_filter_of_the_query_holds_and_result_files_need_no_token(shop, http, samples) -> None:
    client = shop("tiny-30-0-bulkfilter")
    query = "{ products(query: \"updated_at:>'2025-07-01T00:00:00Z'\") { edges { node { id updatedAt } } } }"
    operation = await _finished(client, (await _run(client, query))["bulkOperation"]["id"])
    lines = await _lines(client, operation)
    assert 0 < len(lines) < 30
    assert all(line["updatedAt"] > "2025-07-01T00:00:00Z" for line in lines)
    assert (await http.get(f"/shopify/{client.name}/bulk/other.jsonl")).status_code == 404
    assert samples.account("shopify", client.name).counters.other_requests == 2
