"""`kubectl imports try`: one page of a sample store, mapped by the worker's own code, and nothing written."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from cli_world import CliWorld
from redis.asyncio import Redis

from import_core.adapters.kube.resources import IMPORT_PROVIDER, SECRET
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.redis.limiter import declare_no_recent_calls
from import_local.samples.app import RunningSamples, serve_samples
from import_local.samples.settings import GRAPH_CATALOGUE

ALLOW = {"PROVIDER_ALLOW": "127.0.0.1"}
TOKENS = {
    "shopify": {"accessToken": "shpat_example"},
    "roastify": {"apiKey": "rty_test_example"},
    "whatsapp": {"accessToken": "EAAexample"},
}
WHATSAPP = {"mode": "Graph", "graph": {"catalogId": GRAPH_CATALOGUE, "pageSize": 20}}
SCRAPED = {
    "mode": "Scrape",
    "scrape": {
        "selectors": {
            "item": ".catalogue-item",
            "title": ".item-title",
            "idAttribute": "data-product-id",
            "price": ".item-price",
            "image": ".item-image",
        },
    },
}
SECRET_WORD = "shpat_mistyped"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running_samples() -> AsyncIterator[RunningSamples]:
    async with serve_samples() as running:
        yield running


@pytest.fixture
def samples(running_samples: RunningSamples) -> RunningSamples:
    for account in running_samples.sample.accounts():
        account.reset()
    return running_samples


@pytest_asyncio.fixture(loop_scope="session")
async def shared_limit(redis_url: str) -> str:
    client = Redis.from_url(redis_url)
    await declare_no_recent_calls(client)
    await client.aclose()
    return redis_url


def provider(samples: RunningSamples, kind: str, catalogue: str) -> dict[str, Any]:
    url = {
        "shopify": f"{samples.shopify_url}/{catalogue}",
        "roastify": f"{samples.roastify_url}/{catalogue}/v1",
        "whatsapp": f"{samples.graph_url}/{catalogue}",
    }
    return {
        "apiVersion": "imports.avnz.io/v1alpha1",
        "kind": "ImportProvider",
        "metadata": {"name": "shop"},
        "spec": {
            "companyId": "acme",
            "type": kind,
            "baseUrl": url[kind],
            "credentialsSecretRef": {"name": "shop"},
            **({"whatsapp": WHATSAPP} if kind == "whatsapp" else {}),
        },
    }


def job_file(folder: Path, *others: dict[str, Any], **spec: Any) -> str:
    job = {
        "apiVersion": "imports.avnz.io/v1alpha1",
        "kind": "ImportJob",
        "metadata": {"name": "autumn"},
        "spec": {"companyId": "acme", "providerRef": {"name": "shop"}, **spec},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump_all([job, *others]))
    return str(path)


async def in_cluster(cli: CliWorld, body: dict[str, Any], credentials: dict[str, str]) -> None:
    await cli.kube.create(IMPORT_PROVIDER, cli.namespace, body)
    await cli.kube.create(SECRET, cli.namespace, {"metadata": {"name": "shop"}, "stringData": credentials})


@pytest.mark.parametrize("kind", sorted(TOKENS))
async def test_a_page_of_the_jobs_own_provider(
    cli: CliWorld, samples: RunningSamples, shared_limit: str, tmp_path: Path, kind: str
) -> None:
    await in_cluster(cli, provider(samples, kind, "tiny-45-2"), TOKENS[kind])
    file = job_file(tmp_path, fieldMapping={"vendor": "'Ours'"})
    result = await cli.invoke("try", file, "-o", "json", REDIS_URL=shared_limit, **ALLOW)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["more"]
    assert len(answer["products"]) == {"roastify": 20}.get(kind, len(answer["products"])) > 0
    assert {product["vendor"] for product in answer["products"]} == {"Ours"}
    assert all(product["images"] for product in answer["products"])
    client = Redis.from_url(shared_limit)
    counted = await client.zcard(f"imports:limit:{cli.namespace}/shop")
    await client.aclose()
    assert counted == answer["calls"] > 0
    async with cli.database.connection() as connection:
        rows = await (await connection.execute('SELECT count(*) FROM "Product"')).fetchone()
    assert rows == (0,)
    text = await cli.invoke("try", file, REDIS_URL=shared_limit, **ALLOW)
    assert text.exit_code == 0
    assert f"shop ({kind}): " in text.stdout
    assert "Nothing was written" in text.stdout
    assert "  vendor: Ours" in text.stdout.splitlines()


async def test_a_provider_that_is_not_applied_yet(
    cli: CliWorld, samples: RunningSamples, tmp_path: Path
) -> None:
    file = job_file(tmp_path, provider(samples, "shopify", "tiny-3-1"))
    command = ("try", file, "--credential", "accessToken=TOKEN", "--uncounted", "-o", "json")
    result = await cli.invoke(*command, TOKEN="shpat_example", **ALLOW)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["total"], len(answer["products"]), answer["more"]) == (3, 3, False)


async def test_a_catalogues_page_is_read_in_a_browser_without_any_secret(
    cli: CliWorld, samples: RunningSamples, tmp_path: Path
) -> None:
    body = provider(samples, "whatsapp", "tiny-45-2")
    body["spec"]["baseUrl"] = f"{samples.whatsapp_url}/tiny-45-2/c/491700000001"
    body["spec"]["whatsapp"] = SCRAPED
    del body["spec"]["credentialsSecretRef"]
    result = await cli.invoke("try", job_file(tmp_path, body), "--uncounted", "-o", "json", **ALLOW)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    # robots.txt and the page.
    assert (answer["more"], len(answer["products"]), answer["calls"]) == (True, 20, 2)
    assert all(product["price"] and product["currency"] == "EUR" for product in answer["products"])


async def test_a_large_catalogue_sets_nothing_going_at_the_shop(
    cli: CliWorld, samples: RunningSamples, tmp_path: Path
) -> None:
    file = job_file(tmp_path, provider(samples, "shopify", "generated-2000-1"))
    command = ("try", file, "--credential", "accessToken=TOKEN", "--uncounted", "-o", "json")
    answer = json.loads((await cli.invoke(*command, TOKEN="shpat_example", **ALLOW)).stdout)
    assert answer["total"] == 2000
    assert 0 < len(answer["products"]) < 2000


async def test_what_the_provider_refuses(cli: CliWorld, samples: RunningSamples, tmp_path: Path) -> None:
    file = job_file(tmp_path, provider(samples, "shopify", "tiny-3-1"))
    command = ("try", file, "--credential", "accessToken=TOKEN", "--uncounted")
    result = await cli.invoke(*command, TOKEN=SECRET_WORD, **ALLOW)
    assert result.exit_code == 1
    assert result.stdout.startswith("InvalidCredentials: ")
    assert SECRET_WORD not in result.output
    # Not public, and not allowed here.
    refused = await cli.invoke(*command, TOKEN=SECRET_WORD, PROVIDER_ALLOW=None)
    assert refused.exit_code == 1
    assert "127.0.0.1" in refused.stdout


async def test_products_that_can_not_be_mapped_fail_the_trial(
    cli: CliWorld, samples: RunningSamples, tmp_path: Path
) -> None:
    file = job_file(tmp_path, provider(samples, "shopify", "tiny-3-1"), fieldMapping={"price": "title"})
    command = ("try", file, "--credential", "accessToken=TOKEN", "--uncounted")
    result = await cli.invoke(*command, TOKEN="shpat_example", **ALLOW)
    assert result.exit_code == 1
    assert "InvalidField" in result.stdout


async def test_files_and_credentials_that_can_not_be_used(
    cli: CliWorld, samples: RunningSamples, tmp_path: Path
) -> None:
    shop = provider(samples, "shopify", "tiny-3-1")
    given = ("--credential", "accessToken=TOKEN", "--uncounted")
    cases: list[tuple[str, tuple[str, ...], str]] = [
        (str(tmp_path / "none.yaml"), given, "can't be read"),
        (job_file(tmp_path), ("--uncounted",), "There is no ImportProvider shop"),
    ]
    for file, options, words in cases:
        result = await cli.invoke("try", file, *options, TOKEN="x")
        assert (result.exit_code, words in result.stderr.replace("\n", " ")) == (2, True), result.stderr
    for spec, options, words in (
        ({"companyId": ""}, given, "companyId"),
        ({"fieldMapping": {"title": "a ||"}}, given, "fieldMapping"),
        ({"companyId": "other"}, given, "belongs to acme"),
        ({}, ("--uncounted",), "There is no Secret shop"),
        ({}, ("--credential", "accessToken=TOKEN"), "set REDIS_URL; or --uncounted"),
        ({}, ("--uncounted", "--credential", SECRET_WORD), "must be KEY=VARIABLE"),
        ({}, ("--uncounted", "--credential", "accessToken=NOWHERE"), "is not set"),
    ):
        file = job_file(tmp_path, shop, **spec)
        result = await cli.invoke("try", file, *options, TOKEN="shpat_example", REDIS_URL=None, **ALLOW)
        said = result.output.replace("\n", " ")
        assert words in said, (spec, said)
        assert result.exit_code in {1, 2}
        assert SECRET_WORD not in said


async def test_a_provider_that_a_person_wants_left_alone_is(
    cli: CliWorld, samples: RunningSamples, tmp_path: Path
) -> None:
    await BreakerStore(cli.database).open_by_hand(cli.namespace, "shop", by="ada", reason="moves")
    file = job_file(tmp_path, provider(samples, "shopify", "tiny-3-1"))
    command = ("try", file, "--credential", "accessToken=TOKEN", "--uncounted")
    result = await cli.invoke(*command, TOKEN="shpat_example", **ALLOW)
    assert result.exit_code == 2
    assert "ada" in result.stderr
