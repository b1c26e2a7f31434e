"""Full text in PostgreSQL: what is found, in which order, in which state, and by which plan."""

import json
from typing import Any

import pytest
import pytest_asyncio
from postgres_rows import request
from search_catalogue import Catalogue, product, write_outside

from import_core.adapters.postgres import Database, search_documents
from import_core.adapters.postgres.catalogue_versions import CatalogueVersions, bump
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.removals import Owner, RemovalStore
from import_core.adapters.search.postgres import PostgresSearchIndex
from import_core.domain.errors import HandBackError

COMPANIES = 300
OF_EACH = 100
WORDS = 500


@pytest_asyncio.fixture(loop_scope="session")
async def catalogue(database: Database) -> Catalogue:
    made = Catalogue(database)
    await made.prepare("acme", "other")
    return made


SHIRTS = (
    product("title", "Red cotton shirt", vendor="Acme", tags=("summer",), description="<p>Soft.</p>"),
    product("tags", "Something else", tags=("shirt", "red")),
    product("text", "Trousers", description="Goes with a <b>red</b> shirt &amp; a hat"),
    product("cafe", "Café-Crème cup", vendor="Müller", product_type="Küche"),
    product("theirs", "Red shirt of another company", company="other"),
)


FOUND = [
    ("red shirt", ["title", "tags", "text"]),
    ("RED  shir", ["title", "tags", "text"]),
    ('"red shirt"', ["text"]),
    ("shirt -cotton", ["tags", "text"]),
    ("cotton or trousers", ["title", "text"]),
    ("cafe creme", ["cafe"]),
    ("muller kuche", ["cafe"]),
    ("acme", ["title"]),
    ("sh", []),
    ("shirt.", ["title", "tags", "text"]),
    ("shi.", []),
    ("red trousers hat -soft", ["text"]),
    ("nothing of the kind", []),
    ("😀", []),
    ("' OR 1=1 --", []),
    ("zz:* & | ! <-> ( '", []),
    ("", []),
]


async def test_words_find_the_companys_products_and_the_title_counts_most(catalogue: Catalogue) -> None:
    await catalogue.add(*SHIRTS[:4])
    await catalogue.add(SHIRTS[4])
    for query, found in FOUND:
        assert await catalogue.found(query) == found, query


async def test_strange_company_ids_find_their_own(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "shirt", company="o'br\\ien x"), product("b", "shirt", company="x"))
    assert await catalogue.found("shirt", company="o'br\\ien x") == ["a"]
    assert await catalogue.found("company x", company="x") == []


async def test_only_the_newest_state_of_a_product_is_written(catalogue: Catalogue) -> None:
    old, new = product("a", "Old name"), product("a", "New name", content="h2")
    await catalogue.add(old)
    await catalogue.insert(new)
    await catalogue.index_products(new)
    # A batch that was overtaken comes late.
    await catalogue.index_products(old)
    assert await catalogue.found("old") == []
    assert await catalogue.found("new") == ["a"]
    ((written,),) = await catalogue.execute("SELECT xmin::text FROM imports.search_document")
    await catalogue.index_products(new)
    assert await catalogue.execute("SELECT xmin::text FROM imports.search_document") == [(written,)]


async def test_a_product_that_changed_without_asking_for_steps_is_not_indexed_as_it_was(
    catalogue: Catalogue,
) -> None:
    old = product("a", "Old name")
    await catalogue.insert(old)
    await catalogue.insert(product("a", "New name", content="h2"), steps=False)
    await catalogue.index_products(old)
    assert await catalogue.found("name") == []
    assert await catalogue.execute("SELECT FROM imports.search_document") == []


async def test_a_worker_that_lost_its_claim_writes_nothing(catalogue: Catalogue) -> None:
    one = product("a", "Shirt")
    await catalogue.insert(one)
    await write_outside(catalogue.database, [one])
    assert await catalogue.found("shirt") == []
    assert await catalogue.version() == 0


async def test_removed_products_are_forgotten_and_unknown_ones_ignored(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"), product("b", "Shirt"))
    async with catalogue.database.transaction() as connection:
        await catalogue.index.forget(connection, ["a", "unknown"])
    assert await catalogue.found("shirt") == ["b"]


async def test_a_worker_that_lost_its_claim_takes_nothing_out(catalogue: Catalogue) -> None:
    one = product("a", "Shirt")
    await catalogue.add(one)
    await catalogue.decide("a", "rejected")
    batch = await catalogue.step.run(await catalogue.given(one))
    assert await catalogue.found("shirt") == ["a"]
    async with catalogue.database.transaction() as connection:
        assert batch.write is not None
        await batch.write(connection)
    assert await catalogue.found("shirt") == []


@pytest.mark.parametrize(
    ("before", "after", "found"), [("rejected", "approved", 1), ("approved", "rejected", 0)]
)
async def test_a_decision_while_the_batch_runs_is_heeded(
    catalogue: Catalogue, before: str, after: str, found: int
) -> None:
    one = product("a", "Shirt")
    await catalogue.insert(one)
    await catalogue.decide("a", before)
    batch = await catalogue.step.run(await catalogue.given(one))
    await catalogue.decide("a", after)
    assert batch.write is not None
    with pytest.raises(HandBackError):
        async with catalogue.database.transaction() as connection:
            await batch.write(connection)
    await catalogue.index_products(one)
    assert len(await catalogue.found("shirt")) == found


async def test_each_indexed_batch_raises_the_version_of_its_companies(catalogue: Catalogue) -> None:
    versions = CatalogueVersions(catalogue.database)
    assert await versions.read("acme") is None
    await catalogue.add(product("a", "Shirt"))
    await catalogue.add(product("b", "Shirt"), product("c", "Shirt", company="other"))
    assert (await catalogue.version("acme"), await catalogue.version("other")) == (2, 1)


async def test_a_catalogue_belongs_to_the_namespaces_that_imported_it(catalogue: Catalogue) -> None:
    await catalogue.prepare("mine", namespace="one")
    versions = CatalogueVersions(catalogue.database)

    async def belongs(namespace: str) -> bool:
        async with catalogue.database.transaction() as connection:
            await bump(connection, ["mine", "acme", "mine"])
        found = await versions.read("mine")
        assert found is not None
        return found.belongs_to(namespace)

    assert await belongs("one")
    assert not await belongs("two")
    await catalogue.prepare("mine", namespace="two")
    assert await belongs("two")
    assert await catalogue.version("mine") == 3
    # The history of jobs may go; what was imported stays.
    await catalogue.execute('DELETE FROM "ProductImportJob"')
    assert await belongs("one")
    platforms = await versions.read("acme")
    assert platforms is not None
    assert platforms.belongs_to("any"), "a job without a namespace is of whichever is served"


async def test_archiving_takes_products_out_and_raises_the_version(
    catalogue: Catalogue, claimed: Any
) -> None:
    claim = await claimed("job-a", company_id="acme", provider="shop")
    await catalogue.add(product("a", "Shirt"), product("b", "Shirt"))
    await catalogue.execute(
        """UPDATE "Product" SET connection = 'shop', "updatedAt" = now() - interval '1 hour'"""
    )
    await catalogue.execute(
        "INSERT INTO imports.seen_product (job_id, external_id) VALUES ('job-a', 'external-a')"
    )
    await catalogue.execute(
        "INSERT INTO imports.checkpoint (job_id, version, progress, pages) VALUES ('job-a', 1, '{}', 1)"
    )
    before = await catalogue.version()
    store, owner = RemovalStore(catalogue.database), Owner("acme", "shopify", "shop")
    ((now,),) = await catalogue.execute("SELECT now()")
    batch = await store.archive(claim, owner, since=now, after="", limit=10)
    assert (batch.archived, batch.last) == (1, "external-b")
    assert await catalogue.found("shirt") == ["a"]
    assert await catalogue.version() == before + 1
    assert (await store.archive(claim, owner, since=now, after="external-b", limit=10)).last is None
    assert await catalogue.version() == before + 1, "nothing changed"


async def test_at_most_so_many_matches_are_ranked(catalogue: Catalogue) -> None:
    await catalogue.add(*(product(f"p{number:02}", "Shirt") for number in range(20)))
    few = PostgresSearchIndex(catalogue.database, ranked=7)
    assert len(await few.matching("acme", "shirt", limit=50)) == 7
    assert len(await few.matching("acme", "shirt", limit=3)) == 3


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in scans(child))]


async def test_one_companys_products_are_found_without_reading_others(
    database: Database,
) -> None:
    async with database.connection() as connection:
        await connection.execute(
            f"""INSERT INTO imports.search_document (product_id, company_id, content_hash, words)
            SELECT c || '-' || n, 'company-' || c, 'h',
                array_to_tsvector(ARRAY['company company-' || c])
                || to_tsvector('simple', 'shirt word' || n % {WORDS} || ' word' || (n * 7 + c) % {WORDS})
            FROM generate_series(1, {COMPANIES}) c, generate_series(1, {OF_EACH}) n"""
        )
        await connection.execute("VACUUM ANALYZE imports.search_document")
        for query, prefix in (("shirt", ""), ("word7", ""), ("shirt wor", ":*")):
            values = {"company": "company-7", "query": query, "prefix": prefix, "ranked": 5000, "limit": 200}
            cursor = await connection.execute(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + search_documents.MATCHING, values
            )
            ((found,),) = await cursor.fetchall()
            nodes = scans((found if isinstance(found, list) else json.loads(found))[0]["Plan"])
            (heap,) = [node for node in nodes if node["Node Type"] == "Bitmap Heap Scan"]
            assert any(node.get("Index Name") == "search_document_words" for node in nodes), query
            assert heap["Actual Rows"] + heap.get("Rows Removed by Filter", 0) <= OF_EACH, query
            assert not any(node["Node Type"] == "Seq Scan" for node in nodes), query


async def test_versions_need_no_more_than_the_newest_jobs(database: Database) -> None:
    await JobStore(database).record(
        [request(f"job-{number}", company_id="acme", namespace=f"n{number}") for number in range(50)]
    )
    async with database.transaction() as connection:
        await bump(connection, ["acme"])
    version = await CatalogueVersions(database).read("acme")
    assert version is not None
    assert len(version.namespaces) <= 20
