"""Search over HTTP: who may, what is answered, and what happens where a part is away."""

from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial

import pytest
import pytest_asyncio
import yaml
from eventually import eventually
from gateway_world import Cluster, Gateway, World, account, binding
from search_catalogue import Catalogue, product
from test_gateway_imports import problem

from import_core.adapters.redis import search_cache
from import_gateway import searching as gateway_searching
from import_local.kubectl import run_kubectl


@pytest_asyncio.fixture(loop_scope="session")
async def catalogue(world: World) -> Catalogue:
    made = Catalogue(world.database)
    await made.prepare("acme", namespace=world.cluster.namespace)
    await made.prepare("elsewhere", namespace="another-namespace")
    await made.prepare("unbound")
    await made.add(
        product("a", "Red shirt", price=Decimal("19.90")),
        product("b", "Shirt, blue"),
        product("c", "Shirt of elsewhere", company="elsewhere"),
        product("d", "Shirt without a namespace", company="unbound"),
    )
    await made.image("a", 0, "images/acme/1.webp")
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def searching(
    world: World, catalogue: Catalogue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """A gateway with its cache; on a busy machine the cache may take its time."""
    for made in (search_cache.connect, search_cache.SearchCache):
        monkeypatch.setattr(gateway_searching, made.__name__, partial(made, ask_seconds=10.0))
    async with world.gateway(redis_url=redis_url) as gateway:
        yield gateway


async def test_products_are_found_and_shown(searching: Gateway) -> None:
    answer = await searching.call("GET", "/v1/search?companyId=acme&q=red+shirt", caller="searcher")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    (item,) = body["items"]
    assert item.pop("score") > 0
    assert item.pop("textScore") > 0
    assert item == {
        "id": "a",
        "externalId": "external-a",
        "importSource": "shopify",
        "title": "Red shirt",
        "price": "19.90",
        "currency": "EUR",
        "imageKey": "images/acme/1.webp",
        "thumbnails": {"256": "small", "1024": "large"},
        "similarity": None,
    }
    assert (body["degraded"], body["catalogueVersion"]) == ([], 1)


async def test_pages(searching: Gateway) -> None:
    found = []
    for offset in (0, 1, 2):
        path = f"/v1/search?companyId=acme&q=shirt&limit=1&offset={offset}"
        found += [item["id"] for item in (await searching.call("GET", path)).json()["items"]]
    assert sorted(found) == ["a", "b"]


async def test_a_step_changes_what_is_found_at_once(searching: Gateway, catalogue: Catalogue) -> None:
    async def ids() -> list[str]:
        answer = (await searching.call("GET", "/v1/search?companyId=acme&q=shirt")).json()
        return [item["id"] for item in answer["items"]]

    assert sorted(await ids()) == ["a", "b"]
    await catalogue.add(product("e", "Shirt, green"))
    assert sorted(await ids()) == ["a", "b", "e"]
    await catalogue.decide("b", "rejected")
    assert sorted(await ids()) == ["a", "e"]
    await catalogue.decide("b", "approved")
    assert sorted(await ids()) == ["a", "b", "e"]


async def test_the_right_to_see_imports_is_none_to_search(searching: Gateway) -> None:
    path = "/v1/search?companyId=acme&q=shirt"
    for caller in ("viewer", "submitter", "nobody"):
        answer = problem(await searching.call("GET", path, caller=caller), 403, "not-allowed")
        assert "get products.imports.avnz.io" in answer["detail"], caller
    problem(await searching.call("GET", path, caller=None), 401, "not-authenticated")


async def test_a_right_may_be_for_one_company_only(
    searching: Gateway, gateway_cluster: Cluster, catalogue: Catalogue
) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "search-acme"},
        "rules": [
            {
                "apiGroups": ["imports.avnz.io"],
                "resources": ["products"],
                "resourceNames": ["acme"],
                "verbs": ["get"],
            }
        ],
    }
    namespace = gateway_cluster.namespace
    documents = [
        account("shop-of-acme"),
        role,
        binding("RoleBinding", "shop-of-acme", "search-acme", "shop-of-acme", namespace),
    ]
    stdin = yaml.safe_dump_all(documents).encode()
    await run_kubectl(gateway_cluster.admin, "-n", namespace, "apply", "-f", "-", stdin=stdin)
    gateway_cluster.tokens["shop-of-acme"] = await gateway_cluster.token("shop-of-acme")

    async def status(company: str) -> int:
        path = f"/v1/search?companyId={company}&q=shirt"
        return (await searching.call("GET", path, caller="shop-of-acme")).status_code

    async def allowed() -> bool:
        return await status("acme") == 200

    # The API server's authoriser hears of a new binding after the one who makes it.
    await eventually(allowed)
    for other in ("unbound", "elsewhere", "unknown", "", "a/b", "acme%00"):
        assert await status(other) == 403, other


async def test_companies_of_other_namespaces_are_as_unknown(searching: Gateway) -> None:
    for company in ("elsewhere", "unknown"):
        answer = await searching.call("GET", f"/v1/search?companyId={company}&q=shirt")
        assert problem(answer, 404, "not-found")["detail"] == (
            f"No product of company {company} was indexed by an import of namespace {searching.cluster.namespace}"
        )


async def test_companies_that_the_platform_imports_itself_are_of_the_served_namespace(
    searching: Gateway,
) -> None:
    answer = await searching.call("GET", "/v1/search?companyId=unbound&q=shirt")
    assert [item["id"] for item in answer.json()["items"]] == ["d"]


WRONG = {
    "q=shirt": "companyId",
    "companyId=acme": "q",
    "companyId=a%2Fb&q=shirt": "companyId",
    f"companyId=acme&q={'x' * 257}": "q",
    "companyId=acme&q=x&limit=0": "limit",
    "companyId=acme&q=x&limit=101": "limit",
    "companyId=acme&q=x&limit=ten": "limit",
    "companyId=acme&q=x&offset=200": "offset",
    "companyId=acme&q=x&page=2": "page",
    "companyId=acme&q=x&q=y": "q",
}
STRANGE = ("", "+", "%00", "%F0%9F%98%80", "%22", "-", "%FF", "or", "zz%20%3A*%20%7C")


async def test_a_wrong_parameter_is_named_and_any_query_is_answered(searching: Gateway) -> None:
    for query, named in WRONG.items():
        answer = problem(await searching.call("GET", f"/v1/search?{query}"), 422, "invalid")
        assert named in answer["detail"], query
    for query in STRANGE:
        answered = await searching.call("GET", f"/v1/search?companyId=acme&q={query}")
        assert answered.status_code == 200, answered.text
        assert answered.json()["items"] == [], query


async def test_without_redis_the_answer_says_so(world: World, catalogue: Catalogue) -> None:
    async with world.gateway(redis_url="redis://127.0.0.1:1/0") as gateway:
        answer = (await gateway.call("GET", "/v1/search?companyId=acme&q=shirt")).json()
    assert [item["id"] for item in answer["items"]] != []
    assert answer["degraded"] == ["cache"]


async def test_an_index_that_is_away_is_an_outage_and_no_failure(world: World, catalogue: Catalogue) -> None:
    away = {"search_index": "opensearch", "opensearch_url": "http://user:s3cret@127.0.0.1:1"}
    async with world.gateway(**away) as gateway:
        answer = await gateway.call("GET", "/v1/search?companyId=acme&q=shirt")
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    assert "s3cret" not in answer.text


async def test_a_database_that_is_away_is_an_outage(world: World) -> None:
    async with world.gateway(
        database_url="postgresql://nobody:x@127.0.0.1:1/none", request_seconds=1
    ) as gateway:
        answer = await gateway.call("GET", "/v1/search?companyId=acme&q=shirt")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
