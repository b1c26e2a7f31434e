"""`kubectl imports search` against a real PostgreSQL."""

import json
from decimal import Decimal

import pytest_asyncio
from cli_world import CliWorld
from search_catalogue import Catalogue, product


@pytest_asyncio.fixture(loop_scope="session")
async def catalogue(cli: CliWorld) -> Catalogue:
    made = Catalogue(cli.database)
    await made.prepare("acme")
    await made.add(
        product("id-a", "Red shirt \x1b[2J", price=Decimal("19.90")),
        product("id-b", "Trousers", description="Go with a red shirt"),
        product("id-c", "Rejected red shirt"),
    )
    await made.decide("id-c", "rejected")
    return made


async def test_products_are_listed_best_first(cli: CliWorld, catalogue: Catalogue) -> None:
    result = await cli.invoke("search", "acme", "red shirt")
    assert result.exit_code == 0, result.stderr
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["PRODUCT", "TITLE", "PRICE", "SCORE", "ID"]
    assert [row.split()[-1] for row in rows] == ["id-a", "id-b"]
    assert "19.90 EUR" in rows[0]
    assert "\x1b" not in result.stdout


async def test_programs_get_them_as_json(cli: CliWorld, catalogue: Catalogue) -> None:
    result = await cli.invoke("search", "acme", "shirt", "--limit", "1", "-o", "json")
    found = json.loads(result.stdout)
    (item,) = found["items"]
    assert (item["id"], item["price"], item["currency"]) == ("id-a", "19.90", "EUR")


async def test_nothing_is_said_where_nothing_is_found(cli: CliWorld, catalogue: Catalogue) -> None:
    result = await cli.invoke("search", "acme", "submarine")
    assert (result.exit_code, result.stdout.strip()) == (0, "Nothing is found.")


async def test_what_can_not_be_asked_ends_with_2(cli: CliWorld, catalogue: Catalogue) -> None:
    for arguments, environment, said in (
        (("unknown", "shirt"), {}, "No product of company 'unknown' is indexed"),
        (("acme", "x" * 300), {}, "256 characters"),
        (("acme", "shirt"), {"DATABASE_URL": None}, "DATABASE_URL"),
        (("acme", "shirt"), {"SEARCH_INDEX": "opensearch"}, "OPENSEARCH_URL"),
        (("acme", "shirt"), {"SEARCH_INDEX": "solr"}, "SEARCH_INDEX"),
    ):
        result = await cli.invoke("search", *arguments, **environment)
        assert result.exit_code == 2, arguments
        assert said.lower() in result.stderr.lower(), result.stderr


async def test_an_index_that_is_away_ends_with_3(cli: CliWorld, catalogue: Catalogue) -> None:
    away = {"SEARCH_INDEX": "opensearch", "OPENSEARCH_URL": "http://u:s3cret@127.0.0.1:1"}
    result = await cli.invoke("search", "acme", "shirt", **away)
    assert result.exit_code == 3
    assert "s3cret" not in result.output
