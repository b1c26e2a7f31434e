"""One answer out of words, meaning and PostgreSQL, with the cache, and with each part away."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from search_backends import BrokenText, FixedEmbedder, FixedVectors, by_meaning
from search_catalogue import Catalogue, product

from import_core.adapters.postgres import Database
from import_core.adapters.redis.search_cache import SearchCache, connect
from import_core.adapters.search.base import SearchIndex
from import_core.adapters.search.merged import ASKED_AT_ONCE, ProductSearch, SearchAnswer, VectorSearch
from import_core.adapters.search.postgres import PostgresSearchIndex
from import_core.domain.errors import (
    DatabaseUnavailableError,
    ImportOperatorError,
    PermanentError,
    SearchUnavailableError,
)
from import_core.domain.search import cache_entry, parse_query
from import_local.faults.proxy import TcpProxy
from import_local.parts.valkey import ValkeyServer

PATIENCE = 10.0
"""Seconds for the cache's answer where it is to answer: a busy machine takes longer than a gateway waits."""


def patient(redis_url: str) -> Redis:
    return connect(redis_url, client_name="tests", ask_seconds=PATIENCE)


@pytest_asyncio.fixture(loop_scope="session")
async def cache(redis_url: str) -> AsyncIterator[SearchCache]:
    made = SearchCache(patient(redis_url), slots=100, ask_seconds=PATIENCE)
    yield made
    await made.aclose()


class Searching:
    """Asks as the gateway does."""

    def __init__(self, catalogue: Catalogue, *, text: SearchIndex | None = None, **parts: Any) -> None:
        index = text or PostgresSearchIndex(catalogue.database)
        self.search = ProductSearch(catalogue.database, index, **parts)

    async def __call__(self, query: str, **more: Any) -> SearchAnswer:
        catalogue = await self.search.versions.read("acme")
        assert catalogue is not None
        return await self.search.search("acme", query, catalogue=catalogue, **{"limit": 20, **more})


def ids(answer: SearchAnswer) -> list[str]:
    return [hit.product.product_id for hit in answer.hits]


async def test_words_and_meaning_are_merged(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Red shirt"), product("b", "Shirt, also red"), product("c", "Blouse"))
    ask = Searching(catalogue, vectors=by_meaning(("c", 0.9), ("b", 0.8), ("gone", 0.7)))
    answer = await ask("red shirt")
    assert ids(answer) == ["b", "a", "c"] or ids(answer) == ["b", "c", "a"]
    best = answer.hits[0].candidate
    assert best.similarity == 0.8
    assert best.text_score is not None
    assert answer.degraded == ()
    assert ids(await ask("red shirt", limit=1, offset=1)) == ids(answer)[1:2]
    assert ids(await ask("red shirt", limit=1, offset=50)) == []


async def test_what_is_excluded_is_not_looked_for_by_meaning(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"))
    embedder = FixedEmbedder()
    ask = Searching(catalogue, vectors=VectorSearch(embedder=embedder, index=FixedVectors()))
    await ask('Soft "red shirt" -wool')
    assert embedder.asked == ["soft red shirt"]
    assert ids(await ask("-wool")) == ["a"]
    assert ids(await ask("!!!")) == []
    assert len(embedder.asked) == 1


async def test_meaning_is_looked_for_among_vectors_of_the_same_model_alone(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"))
    vectors = FixedVectors([("a", 0.9)])
    ask = Searching(catalogue, vectors=VectorSearch(embedder=FixedEmbedder("model-2"), index=vectors))
    assert ids(await ask("blouse")) == ["a"]
    assert vectors.models == ["model-2"]


async def test_products_are_shown_with_price_and_first_image(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt", price=Decimal("19.90")))
    await catalogue.image("a", 2, "second")
    await catalogue.image("a", 1, "first")
    (hit,) = (await Searching(catalogue)("shirt")).hits
    assert (hit.product.title, hit.product.external_id, hit.product.price) == (
        "Shirt",
        "external-a",
        Decimal("19.90"),
    )
    assert (hit.product.image_key, hit.product.thumbnails) == ("first", {"256": "small", "1024": "large"})


async def test_only_visible_products_are_found(catalogue: Catalogue) -> None:
    states = ("plain", "approved", "rejected", "flagged", "changed", "archived", "deleted")
    await catalogue.add(*(product(state, "Shirt") for state in states))
    await catalogue.insert(product("unindexed", "Shirt"))
    for decision in ("approved", "rejected", "flagged"):
        await catalogue.decide(decision, decision)
    await catalogue.insert(product("changed", "Shirt, newer", content="h2"))
    await catalogue.execute("""UPDATE "Product" SET status = 'Archived' WHERE id = 'archived'""")
    await catalogue.execute("""DELETE FROM "Product" WHERE id = 'deleted'""")
    everybody = [(state, 1.0) for state in (*states, "unindexed")]
    for ask in (Searching(catalogue), Searching(catalogue, vectors=by_meaning(*everybody))):
        assert sorted(ids(await ask("shirt"))) == ["approved", "plain"]


async def test_pages_are_full_however_many_may_not_be_shown(catalogue: Catalogue) -> None:
    products = [product(f"p{number:02}", "Shirt") for number in range(60)]
    await catalogue.add(*products)
    for one in products[:45]:
        await catalogue.decide(one.product_id, "rejected")
    ask = Searching(catalogue)
    assert ids(await ask("shirt", limit=10)) == [one.product_id for one in products[45:55]]
    assert ids(await ask("shirt", limit=10, offset=10)) == [one.product_id for one in products[55:]]


async def test_meaning_never_shows_products_of_other_companies(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"), product("theirs", "Shirt", company="other"))
    assert ids(await Searching(catalogue, vectors=by_meaning(("theirs", 1.0)))("shirt")) == ["a"]


async def test_answers_are_kept_until_the_catalogue_changes(catalogue: Catalogue, cache: SearchCache) -> None:
    await catalogue.add(product("a", "Shirt"))
    ask = Searching(catalogue, cache=cache)
    first, again = await ask("shirt"), await ask("  SHIRT ")
    assert (first.cached, again.cached) == (False, True)
    assert again.hits == first.hits
    assert not (await ask("shirts")).cached

    await catalogue.add(product("b", "Shirt"))
    newer = await ask("shirt")
    assert (ids(newer), newer.cached) == (["a", "b"], False)
    assert (await ask("shirt")).cached


async def test_what_is_hidden_disappears_from_kept_answers_at_once(
    catalogue: Catalogue, cache: SearchCache
) -> None:
    await catalogue.add(product("a", "Shirt"), product("b", "Shirt"), product("c", "Shirt"))
    ask = Searching(catalogue, cache=cache)
    await ask("shirt")
    # Nobody has raised the version here.
    await catalogue.decide("a", "rejected")
    await catalogue.execute("""UPDATE "Product" SET title = 'Renamed' WHERE id = 'b'""")
    await catalogue.execute("""DELETE FROM "Product" WHERE id = 'c'""")
    answer = await ask("shirt")
    assert answer.cached
    assert [(hit.product.product_id, hit.product.title) for hit in answer.hits] == [("b", "Renamed")]


async def test_the_cache_has_a_fixed_size_and_forgets_after_an_hour(
    catalogue: Catalogue, redis_url: str
) -> None:
    await catalogue.add(product("a", "Shirt"))
    cache = SearchCache(patient(redis_url), slots=3, ask_seconds=PATIENCE)
    ask = Searching(catalogue, cache=cache)
    for number in range(30):
        await ask(f"shirt or word{number}")
    client = patient(redis_url)
    keys = await client.keys("*")
    assert 1 <= len(keys) <= 3
    assert all([0 < await client.ttl(key) <= 3600 for key in keys])
    await client.aclose()
    await cache.aclose()


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[]", "{}", '["other key", ["a", 1, 2, 3]]', '["KEY", ["a"]]']
)
async def test_what_can_not_be_read_in_the_cache_is_no_answer(
    cache: SearchCache, redis_url: str, text: str
) -> None:
    entry = cache_entry("acme", 1, parse_query("shirt"), backends=(), slots=100)
    client = patient(redis_url)
    await client.set(f"imports-search:{entry.slot}", text.replace("KEY", entry.key))
    await client.aclose()
    assert await cache.get(entry) is None


async def test_without_redis_each_answer_is_looked_for(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"))
    cache = SearchCache(connect("redis://127.0.0.1:1/0", client_name="tests"))
    answer = await Searching(catalogue, cache=cache)("shirt")
    assert (ids(answer), answer.degraded) == (["a"], ("cache",))
    await cache.aclose()


async def test_a_cache_that_hangs_is_left(
    catalogue: Catalogue, valkey_server: ValkeyServer, redis_url: str
) -> None:
    await catalogue.add(product("a", "Shirt"))
    proxy = TcpProxy(valkey_server.port)
    await proxy.start()
    proxy.black_hole()
    cache = SearchCache(connect(proxy.through(redis_url), client_name="tests"), ask_seconds=0.05)
    answer = await Searching(catalogue, cache=cache)("shirt")
    assert (ids(answer), answer.degraded) == (["a"], ("cache",))
    await cache.aclose()
    await proxy.stop()


@pytest.mark.parametrize(
    "error", [SearchUnavailableError(), PermanentError("no model"), ValueError("a mistake of a library")]
)
async def test_meaning_that_fails_leaves_the_words(
    catalogue: Catalogue, cache: SearchCache, error: Exception
) -> None:
    await catalogue.add(product("a", "Shirt"))
    vectors = VectorSearch(embedder=FixedEmbedder(fails=error), index=FixedVectors())
    ask = Searching(catalogue, vectors=vectors, cache=cache)
    answer = await ask("shirt")
    assert (ids(answer), answer.degraded) == (["a"], ("vectors",))
    vectors.embedder.fails = None  # type: ignore[attr-defined]
    healed = await ask("shirt")
    assert (healed.degraded, healed.cached) == ((), False), "half an answer is not kept"


async def test_words_that_fail_leave_the_meaning(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"))
    broken = BrokenText(SearchUnavailableError("OpenSearch is away"))
    answer = await Searching(catalogue, text=broken, vectors=by_meaning(("a", 0.9)))("blouse")
    assert (ids(answer), answer.degraded) == (["a"], ("text",))


async def test_an_index_that_hangs_is_left(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"))
    ask = Searching(catalogue, vectors=by_meaning(hangs=True), backend_seconds=2.0)
    answer = await ask("shirt")
    assert (ids(answer), answer.degraded) == (["a"], ("vectors",))


async def test_an_index_that_hangs_takes_no_place_from_the_other(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"))
    ask = Searching(catalogue, vectors=by_meaning(hangs=True), backend_seconds=5.0)
    answers = await asyncio.gather(*(ask("shirt") for _ in range(3 * ASKED_AT_ONCE)))
    assert {(tuple(ids(answer)), answer.degraded) for answer in answers} == {(("a",), ("vectors",))}


async def test_no_index_at_all_is_an_outage(catalogue: Catalogue) -> None:
    await catalogue.add(product("a", "Shirt"))
    ask = Searching(catalogue, text=BrokenText(ValueError("a mistake")))
    with pytest.raises(SearchUnavailableError, match="text"):
        await ask("shirt")


async def test_without_postgresql_nothing_is_shown(catalogue: Catalogue, database_url: str) -> None:
    await catalogue.add(product("a", "Shirt"))
    version = await Searching(catalogue).search.versions.read("acme")
    assert version is not None
    away = Database("postgresql://nobody:x@127.0.0.1:1/none", application="tests", minimum=0)
    search = ProductSearch(away, BrokenText(SearchUnavailableError()), vectors=by_meaning(("a", 0.9)))
    with pytest.raises(ImportOperatorError) as raised:
        await search.search("acme", "shirt", catalogue=version, limit=5)
    assert isinstance(raised.value, DatabaseUnavailableError)
    await away.close()
