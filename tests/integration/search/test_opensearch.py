"""OpenSearch as the index: against a stand-in of its protocol, and the real one where TEST_OPENSEARCH_URL is set."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from opensearch_stand_in import Json, OpenSearchStandIn, error
from search_backends import by_meaning
from search_catalogue import Catalogue, product

from import_core.adapters.postgres import Database
from import_core.adapters.search.merged import ProductSearch
from import_core.adapters.search.opening import open_search_index
from import_core.adapters.search.opensearch import FIRST, MAPPING, OpenSearchIndex, _bulk_lines, connect
from import_core.adapters.search.settings import SearchSettings
from import_core.domain.errors import InvalidInputError, ProductsRefusedError, SearchUnavailableError
from import_core.domain.steps import StepProduct

REAL = os.environ.get("TEST_OPENSEARCH_URL", "")


def asked(product_id: str) -> StepProduct:
    """A shirt in the state that the step is asked for, newer than any other."""
    return product(product_id, "Shirt", content="state h1", version=2**52)


@dataclass
class Place:
    """Where the index is, and the stand-in where it is one."""

    url: str
    index_name: str
    stand_in: OpenSearchStandIn | None


@pytest_asyncio.fixture(loop_scope="session")
async def stand_in() -> AsyncIterator[OpenSearchStandIn]:
    async with OpenSearchStandIn().running() as server:
        yield server


@pytest_asyncio.fixture(
    loop_scope="session",
    params=[
        "stand-in",
        pytest.param("real", marks=pytest.mark.skipif(not REAL, reason="TEST_OPENSEARCH_URL")),
    ],
)
async def place(request: pytest.FixtureRequest, stand_in: OpenSearchStandIn) -> AsyncIterator[Place]:
    name = f"test-{uuid.uuid4().hex}"
    if request.param == "stand-in":
        yield Place(stand_in.url, name, stand_in)
        return
    yield Place(REAL, name, None)
    client = connect(REAL)
    await client.indices.delete(index=name + FIRST, params={"ignore": 404})
    await client.close()


async def delete_index(place: Place) -> None:
    """What an administrator does by mistake."""
    client = connect(place.url)
    await client.indices.delete(index=place.index_name + FIRST)
    await client.close()


def types_of(mappings: Json) -> dict[str, str]:
    """The type of each field, and whether others are taken."""
    fields = {name: about["type"] for name, about in mappings.get("properties", {}).items()}
    return {**fields, "others": mappings.get("dynamic", "true")}


async def mapped(place: Place) -> dict[str, dict[str, str]]:
    """Fields of each index that has the test's name."""
    client = connect(place.url)
    answer = await client.indices.get_mapping(index=f"{place.index_name}*")
    await client.close()
    return {name: types_of(about["mappings"]) for name, about in answer.items()}


@pytest_asyncio.fixture(loop_scope="session")
async def found_there(database: Database, place: Place) -> AsyncIterator[Catalogue]:
    """A catalogue whose words are in OpenSearch."""
    settings = SearchSettings(
        search_index="opensearch", opensearch_url=place.url, opensearch_index=place.index_name
    )
    index = open_search_index(settings, database)
    made = Catalogue(database, index)
    await made.prepare("acme", "other")
    yield made
    await index.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def failing(database: Database, stand_in: OpenSearchStandIn) -> AsyncIterator[OpenSearchIndex]:
    """An index in the stand-in alone, which fails as it is told."""
    index = OpenSearchIndex(connect(stand_in.url), database, index="failing")
    made = Catalogue(database, index)
    await made.prepare("acme")
    await made.add(product("a", "Shirt"))
    yield index
    await index.aclose()


async def test_words_find_the_companys_products(found_there: Catalogue) -> None:
    await found_there.add(
        product("title", "Red cotton shirt", vendor="Acme", tags=("summer",), description="<p>Soft.</p>"),
        product("text", "Trousers", description="Goes with a <b>red</b> shirt &amp; a hat"),
        product("cafe", "Café-Crème cup", vendor="Müller", product_type="Küche"),
    )
    await found_there.add(product("theirs", "Red shirt", company="other"))
    cases = {
        "red shirt": ["title", "text"],
        "RED  shir": ["title", "text"],
        '"red shirt"': ["text"],
        "shirt -cotton": ["text"],
        "cotton or trousers": ["title", "text"],
        "cafe creme": ["cafe"],
        "müller cup": ["cafe"],
        "red trousers hat -soft": ["text"],
        "-red": ["cafe"],
        "sh": [],
        "nothing of the kind": [],
        '{"match_all": {}} OR *:*': [],
        "": [],
    }
    for query, found in cases.items():
        answered = await found_there.found(query)
        assert sorted(answered) == sorted(found), query
    assert (await found_there.found("red shirt"))[0] == "title", "the title counts most"


async def test_indexing_again_changes_nothing_and_an_older_state_is_refused(found_there: Catalogue) -> None:
    old, new = product("a", "Old name"), product("a", "New name", content="h2")
    await found_there.add(old)
    await found_there.insert(new)
    for _ in range(2):
        await found_there.index_products(new)
    await found_there.index_products(old)  # overtaken: PostgreSQL knows that it is not so any more
    index = found_there.index
    assert isinstance(index, OpenSearchIndex)
    assert (
        await index._bulk(_bulk_lines([replace(old, version=1)])) == {}
    )  # overtaken between the look and the request
    assert await found_there.found("old") == []
    assert await found_there.found("new") == ["a"]


async def test_removed_products_are_forgotten_and_unknown_ones_ignored(found_there: Catalogue) -> None:
    await found_there.add(product("a", "Shirt"), product("b", "Shirt"))
    (known,) = await found_there.given(product("a", "Shirt"))
    await found_there.index.remove([known, replace(known, product_id="unknown")])
    await found_there.index.remove([])
    assert await found_there.found("shirt") == ["b"]


async def test_a_removal_may_come_first_of_all(found_there: Catalogue) -> None:
    await found_there.insert(product("gone", "Shirt"), product("a", "Shirt"))
    await found_there.index.remove(await found_there.given(product("gone", "Shirt")))
    await found_there.add(product("a", "Shirt"))
    assert await found_there.found("shirt") == ["a"]


async def test_a_removal_that_comes_late_takes_nothing_out_that_was_put_since(found_there: Catalogue) -> None:
    """A worker that lost its claim read that the product is rejected; a person has approved it since."""
    shirt = product("a", "Shirt")
    await found_there.add(shirt)
    await found_there.decide("a", "rejected")
    seen_late = await found_there.given(shirt)
    await found_there.index_products(shirt)
    assert await found_there.found("shirt") == []
    await found_there.decide("a", "approved")
    await found_there.index_products(shirt)
    await found_there.index.remove(seen_late)
    assert await found_there.found("shirt") == ["a"]


async def test_archived_products_are_forgotten_by_their_step_and_come_back_with_the_next(
    found_there: Catalogue,
) -> None:
    await found_there.add(*(product(one, "Shirt") for one in ("gone", "back", "stays")))
    for one in ("gone", "back"):
        await found_there.archive(one)
        await found_there.index_products(product(one, "Shirt", status="archived"))
    assert await found_there.found("shirt") == ["stays"]
    await found_there.add(product("back", "Shirt again", content="h2"))
    assert sorted(await found_there.found("shirt")) == ["back", "stays"]


async def test_what_is_found_there_is_shown_by_its_state_in_postgresql(found_there: Catalogue) -> None:
    await found_there.add(product("a", "Shirt"), product("b", "Shirt"))
    await found_there.insert(product("b", "Shirt, newer", content="h2"))
    search = ProductSearch(
        found_there.database, found_there.index, text_name="opensearch", vectors=by_meaning(("b", 0.9))
    )
    version = await search.versions.read("acme")
    assert version is not None
    answer = await search.search("acme", "shirt", catalogue=version, limit=10)
    assert [hit.product.product_id for hit in answer.hits] == ["a"]
    await found_there.index_products(product("b", "Shirt, newer", content="h2"))
    answer = await search.search("acme", "shirt", catalogue=version, limit=10)
    assert sorted(hit.product.product_id for hit in answer.hits) == ["a", "b"]


async def test_several_processes_make_the_index_at_once(database: Database, place: Place) -> None:
    indices = [OpenSearchIndex(connect(place.url), database, index=place.index_name) for _ in range(4)]
    made = Catalogue(database, indices[0])
    await made.prepare("acme")
    products = [product(f"p{number}", "Shirt") for number in range(4)]
    await made.insert(*products)
    await asyncio.gather(
        *(index.put([asked(one.product_id)]) for index, one in zip(indices, products, strict=True))
    )
    assert len(await made.found("shirt")) == 4
    for index in indices:
        await index.aclose()


async def test_nothing_is_found_before_there_is_an_index(found_there: Catalogue) -> None:
    assert await found_there.found("shirt") == []


async def test_many_products_go_in_several_requests(database: Database, stand_in: OpenSearchStandIn) -> None:
    index = OpenSearchIndex(connect(stand_in.url), database, index="many")
    made = Catalogue(database, index)
    await made.prepare("acme")
    await made.add(*(product(f"p{number:03}", "Shirt") for number in range(250)))
    assert stand_in.requests["bulk"] == 3
    assert stand_in.requests["create"] == 1
    assert len(await made.found("shirt", limit=300)) == 250
    await index.aclose()


OVERLOADED = error("circuit_breaking_exception", "Data too large", 429)


ANSWERS = [
    (429, OVERLOADED),
    (500, error("null_pointer_exception", "a mistake of theirs", 500)),
    (503, error("cluster_block_exception", "no master", 503)),
    (503, "no JSON at all"),
    (200, "no JSON at all"),
    (401, error("security_exception", "wrong password", 401)),
    (403, error("security_exception", "no permission", 403)),
    (404, error("index_not_found_exception", "no such index", 404)),
    (400, error("parsing_exception", "not known here", 400)),
    (400, {"error": "told in a word", "status": 400}),
]


async def test_errors_of_the_server_are_an_outage_of_the_index(
    failing: OpenSearchIndex, stand_in: OpenSearchStandIn
) -> None:
    calls = (
        lambda: failing.matching("acme", "shirt", limit=5),
        lambda: failing.put([asked("a")]),
        lambda: failing.remove([asked("a")]),
    )
    for answer in ANSWERS:
        for call in calls:
            stand_in.answers = [answer]
            with pytest.raises(SearchUnavailableError) as raised:
                await call()
            assert "s3cret" not in str(raised.value)
    assert [hit.product_id for hit in await failing.matching("acme", "shirt", limit=5)] == ["a"]


async def test_a_document_that_is_not_taken_now_is_an_outage(
    failing: OpenSearchIndex, stand_in: OpenSearchStandIn
) -> None:
    for status, kind in ((429, "rejected_execution_exception"), (503, "unavailable")):
        stand_in.refuses = {"a": (status, kind)}
        with pytest.raises(SearchUnavailableError, match=kind):
            await failing.put([asked("a")])


async def test_a_document_that_is_refused_fails_alone(
    database: Database, failing: OpenSearchIndex, stand_in: OpenSearchStandIn
) -> None:
    made = Catalogue(database, failing)
    products = [product("good", "Shirt"), product("bad", "Shirt")]
    await made.insert(*products)
    stand_in.refuses = {"bad": (400, "mapper_parsing_exception")}
    with pytest.raises(ProductsRefusedError):
        await failing.put([asked("good"), asked("bad")])
    (failed,) = await made.index_products(*products)
    assert (failed.product_id, failed.reason, failed.retryable) == ("bad", "SearchRefused", False)
    assert "mapper_parsing_exception" in failed.message
    indexed = await made.execute("SELECT product_id FROM imports.search_document ORDER BY 1")
    assert [row[0] for row in indexed] == ["a", "good"]


async def test_an_index_that_is_deleted_under_a_worker_is_made_anew_with_its_fields(
    found_there: Catalogue, place: Place
) -> None:
    await found_there.add(product("a", "Shirt"), product("lost", "Shirt"))
    await delete_index(place)
    await found_there.index_products(product("a", "Shirt"))
    assert await found_there.found("shirt") == ["a"], "the fields are those that are searched"
    assert await mapped(place) == {place.index_name + FIRST: types_of(MAPPING["mappings"])}


async def test_a_removal_makes_no_index_where_it_was_deleted(found_there: Catalogue, place: Place) -> None:
    await found_there.add(product("a", "Shirt"))
    await delete_index(place)
    await found_there.index.remove(await found_there.given(product("a", "Shirt")))
    assert await mapped(place) == {}


async def test_an_index_that_goes_in_the_middle_of_a_batch_has_all_of_it_again(
    database: Database, stand_in: OpenSearchStandIn
) -> None:
    index = OpenSearchIndex(connect(stand_in.url), database, index="short")
    made = Catalogue(database, index)
    await made.prepare("acme")
    products = [product(f"p{number:03}", "Shirt") for number in range(150)]
    await made.insert(*products)
    stand_in.after["bulk", 1] = lambda: stand_in.drop("short" + FIRST)
    assert await made.index_products(*products) == []
    assert len(await made.found("shirt", limit=300)) == 150
    assert stand_in.requests["bulk"] == 4
    await index.aclose()


async def test_an_index_where_the_alias_belongs_is_told(
    failing: OpenSearchIndex, stand_in: OpenSearchStandIn
) -> None:
    stand_in.drop("failing" + FIRST)
    stand_in.indices["failing"], stand_in.documents["failing"] = {"mappings": {"properties": {}}}, {}
    with pytest.raises(SearchUnavailableError, match="with the alias failing: invalid_alias_name_exception"):
        await failing.put([asked("a")])
    assert stand_in.documents["failing"] == {}


async def test_an_index_that_lost_its_alias_has_it_again_with_all_that_is_in_it(
    found_there: Catalogue, place: Place
) -> None:
    await found_there.add(product("a", "Shirt"), product("b", "Shirt"))
    client = connect(place.url)
    await client.indices.delete_alias(index=place.index_name + FIRST, name=place.index_name)
    await client.close()
    assert await found_there.found("shirt") == []
    assert await found_there.index_products(product("a", "Shirt")) == []
    assert sorted(await found_there.found("shirt")) == ["a", "b"]


FOREIGN = {"mappings": {"dynamic": "strict", "properties": {"name": {"type": "text"}}}}
NO_RIGHT = error("security_exception", "no permissions for [indices:admin/aliases]", 403)


@pytest.mark.parametrize(
    ("indices", "refusal", "why"),
    [
        ({"failing-000001": FOREIGN}, None, "it has not the fields that are searched"),
        (
            {"failing-000001": MAPPING, "failing-000002": MAPPING, "failing-old": FOREIGN},
            None,
            "there is failing-000002 as well",
        ),
        (
            {"failing-000001": MAPPING},
            (403, NO_RIGHT),
            r"OpenSearch does not give it back \(security_exception\)",
        ),
        ({"failing-000001": MAPPING}, (403, {"Message": "not authorized"}), r"give it back \(refused\)"),
        ({"failing-000001": MAPPING}, (404, {"error": "in a word", "status": 404}), r"back \(unknown\)"),
    ],
)
async def test_an_alias_that_can_not_be_given_back_is_told_with_what_to_do(
    failing: OpenSearchIndex,
    stand_in: OpenSearchStandIn,
    indices: dict[str, Json],
    refusal: tuple[int, Json] | None,
    why: str,
) -> None:
    stand_in.aliases.clear()
    stand_in.indices = dict(indices)
    stand_in.documents = {name: {} for name in indices}
    stand_in.refuses_aliases = refusal
    for _ in range(2):
        with pytest.raises(SearchUnavailableError, match=why) as raised:
            await failing.put([asked("a")])
        assert "give the alias to the index that is meant, or delete failing-000001" in str(raised.value)
    assert stand_in.aliases == {}
    # A person did so.
    stand_in.drop("failing-000001")
    stand_in.indices["failing-000002"] = MAPPING
    stand_in.documents["failing-000002"] = {}
    stand_in.aliases["failing"] = "failing-000002"
    await failing.put([asked("a")])
    assert set(stand_in.documents["failing-000002"]) == {"a"}


async def test_an_index_of_other_fields_refuses_each_document_with_the_reason(
    found_there: Catalogue, place: Place
) -> None:
    """Somebody has made an index of their own behind the alias."""
    client = connect(place.url)
    await client.indices.create(
        index=place.index_name + FIRST,
        body={
            "mappings": {"dynamic": "strict", "properties": {"name": {"type": "text"}}},
            "aliases": {place.index_name: {}},
        },
    )
    await client.close()
    await found_there.insert(product("a", "Shirt"))
    (failed,) = await found_there.index_products(product("a", "Shirt"))
    assert (failed.reason, failed.retryable) == ("SearchRefused", False)
    assert "strict_dynamic_mapping_exception" in failed.message


async def test_an_index_that_can_not_be_made_is_an_outage(
    database: Database, failing: OpenSearchIndex, stand_in: OpenSearchStandIn
) -> None:
    index = OpenSearchIndex(connect(stand_in.url), database, index="another")
    stand_in.answers = [(404, ""), (400, error("validation_exception", "too many shards", 400))]
    with pytest.raises(SearchUnavailableError, match="validation_exception"):
        await index.put([asked("a")])
    await index.aclose()


async def test_nobody_at_the_address_is_an_outage(database: Database) -> None:
    index = OpenSearchIndex(connect("http://user:s3cret@127.0.0.1:1"), database)
    with pytest.raises(SearchUnavailableError) as raised:
        await index.matching("acme", "shirt", limit=5)
    assert "s3cret" not in str(raised.value)
    await index.aclose()


@pytest.mark.parametrize("url", ["http://host:port", "http://[::1"])
def test_an_address_that_can_not_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInputError, match="OPENSEARCH_URL"):
        connect(url)
