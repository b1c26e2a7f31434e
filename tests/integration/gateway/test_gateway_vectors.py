"""Search by meaning as the gateway opens it: with its model and pgvector; what fails is told and takes nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from gateway_world import Gateway, Json, World
from search_catalogue import Catalogue, product
from structlog.testing import capture_logs

from import_core.adapters.vectors.base import ProductVectors
from import_core.adapters.vectors.pgvector import PgVectorIndex
from import_gateway.searching import opened_vectors
from import_gateway.settings import GatewaySettings
from import_local.embedding_model import make_embedding_model

SEARCH = "/v1/search?companyId=acme&q=shirt"


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedding_model(tmp_path_factory.mktemp("model"))


@pytest_asyncio.fixture(loop_scope="session")
async def catalogue(world: World) -> Catalogue:
    made = Catalogue(world.database)
    await made.prepare("acme", namespace=world.cluster.namespace)
    await made.add(product("a", "Red shirt"), product("b", "Blouse"))
    return made


def settings_of(world: World, folder: Path, **more: str) -> GatewaySettings:
    values = {"database_url": world.database_url, "pod_namespace": world.cluster.namespace, **more}
    return GatewaySettings(embedding_model_path=str(folder), **values)


@asynccontextmanager
async def searching(world: World, folder: Path) -> AsyncIterator[Gateway]:
    """A gateway with what `opened_vectors` gives; a busy machine has time for its answers."""
    async with opened_vectors(settings_of(world, folder), world.database) as vectors:
        assert vectors is not None
        assert isinstance(vectors.index, PgVectorIndex)
        for one, text in (("a", "Red shirt"), ("b", "Blouse")):
            (embedded,) = await vectors.embedder.embed_texts([text])
            kept = ProductVectors(one, "acme", "state h1", vectors.embedder.checksum, embedded, None, 0)
            async with world.database.transaction() as connection:
                await vectors.index.write(connection, [kept])
        async with world.gateway(vectors=vectors, search_seconds=20) as gateway:
            yield gateway


async def found(gateway: Gateway) -> Json:
    answer = await gateway.call("GET", SEARCH, caller="searcher")
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def test_products_are_found_by_meaning_too(
    world: World, catalogue: Catalogue, model_folder: Path
) -> None:
    async with searching(world, model_folder) as gateway:
        body = await found(gateway)
    assert body["degraded"] == []
    assert [item["id"] for item in body["items"]] == ["a", "b"], "only one has the word"
    assert all(item["similarity"] is not None for item in body["items"])
    assert body["items"][1].get("textScore") is None


async def test_an_index_of_embeddings_that_fails_is_named_in_the_answer(
    world: World, catalogue: Catalogue, model_folder: Path
) -> None:
    async with searching(world, model_folder) as gateway:
        await world.execute("DROP TABLE imports.product_embedding CASCADE")
        with capture_logs() as logs:
            body = await found(gateway)
    assert body["degraded"] == ["vectors"]
    assert [(item["id"], item["similarity"]) for item in body["items"]] == [("a", None)]
    assert [line["backend"] for line in logs if line["event"] == "search.degraded"] == ["vectors"]


async def test_what_can_not_be_opened_is_told_and_the_gateway_starts_without(
    world: World, model_folder: Path, tmp_path: Path
) -> None:
    no_address = settings_of(world, model_folder, vector_index="milvus")
    for settings, said in ((settings_of(world, tmp_path), str(tmp_path)), (no_address, "MILVUS_ADDRESS")):
        with capture_logs() as logs:
            async with opened_vectors(settings, world.database) as vectors:
                assert vectors is None
        (line,) = [line for line in logs if line["event"] == "search.without_vectors"]
        assert line["log_level"] == "error"
        assert said in line["detail"]


async def test_without_a_model_nothing_is_opened_and_nothing_told(world: World) -> None:
    settings = GatewaySettings(database_url=world.database_url, pod_namespace=world.cluster.namespace)
    with capture_logs() as logs:
        async with opened_vectors(settings, world.database) as vectors:
            assert vectors is None
    assert logs == []
