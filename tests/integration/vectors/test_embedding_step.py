"""The step of embedding: products with images in a real object store, the stand-in's model, both indexes."""

import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from vector_rows import Kept

from import_core.adapters.models.siglip import SiglipEmbedder, load_siglip
from import_core.adapters.postgres import Database
from import_core.adapters.s3.store import ObjectStore
from import_core.adapters.vectors.pgvector import PgVectorIndex
from import_core.domain.errors import (
    DependencyUnavailableError,
    ModelUnusableError,
    StorageRefusedError,
    StorageUnavailableError,
    VectorIndexUnavailableError,
)
from import_core.domain.images import MAX_BYTES
from import_core.domain.steps import StepDone, StepFailed, StepImage, StepKind, StepProduct
from import_local.embedding_model import make_embedding_model
from import_local.parts.objectstore import Bucket
from import_worker.settings import WorkerSettings
from import_worker.steps.base import StepBatch
from import_worker.steps.embedding import EmbeddingStep, make_step

RED, BLUE = (215, 35, 30), (35, 60, 205)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedding_model(tmp_path_factory.mktemp("model"))


@pytest_asyncio.fixture(loop_scope="session")
async def embedder(model_folder: Path) -> AsyncIterator[SiglipEmbedder]:
    embedder = load_siglip(model_folder, batch=4)
    yield embedder
    await embedder.aclose()


@pytest.fixture
def store(object_store: Bucket, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_access_key)
    return ObjectStore(
        object_store.name, endpoint_url=object_store.endpoint_url, region=object_store.region, max_retries=0
    )


class Shop:
    """Products of one company, their images, and the step that embeds them."""

    def __init__(self, kept: Kept, store: ObjectStore, embedder: SiglipEmbedder) -> None:
        self.kept, self.store, self.embedder = kept, store, embedder
        self.step = EmbeddingStep(embedder, kept.index, store)

    async def image(self, content: bytes, position: int = 0) -> StepImage:
        digest = hashlib.sha256(content).hexdigest()
        key = f"images/acme/{digest}.png"
        await self.store.put_if_absent(key, content, "image/png")
        return StepImage(key, "image/png", 100, 80, sha256=digest, position=position)

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        """The step, and the transaction that marks it as done."""
        batch = await self.step.run(products)
        assert [outcome.product_id for outcome in batch.outcomes] == [one.product_id for one in products]
        if batch.write is not None:
            async with self.kept.database.transaction(timeout_seconds=15) as connection:
                await batch.write(connection)
        return batch

    async def find(self, query: str) -> list[str]:
        (vector,) = await self.embedder.embed_texts([query])
        return await self.kept.found("acme", vector, model=self.embedder.checksum)


@pytest.fixture
def shop(kept: Kept, store: ObjectStore, embedder: SiglipEmbedder) -> Shop:
    return Shop(kept, store, embedder)


def picture(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (100, 80), colour).save(buffer, "PNG")
    return buffer.getvalue()


def product(product_id: str, title: str, *images: StepImage, **values: Any) -> StepProduct:
    wanted = {"content_hash": f"{product_id}-1", **values}
    return StepProduct(product_id, "acme", title=title, images=images, **wanted)


def results(batch: StepBatch) -> dict[str, dict[str, Any]]:
    assert all(isinstance(outcome, StepDone) for outcome in batch.outcomes), batch.outcomes
    return {one.product_id: dict(one.result) for one in batch.outcomes if isinstance(one, StepDone)}


async def test_products_are_found_by_text_and_by_image(shop: Shop) -> None:
    assert shop.step.kind is StepKind.EMBEDDING
    red, blue = await shop.image(picture(RED)), await shop.image(picture(BLUE))
    done = results(
        await shop.run(
            [
                product("p-red", "Mug", red),
                product("p-blue", "Mug", blue),
                product("p-coffee", "Dark roast", description="<p>Whole <b>espresso</b> beans</p>"),
            ]
        )
    )
    setup = {"model": shop.embedder.checksum[:12], "index": shop.kept.index.name}
    assert done["p-red"] == {**setup, "image": red.key}
    assert done["p-coffee"]["image"] is None
    assert (await shop.find("espresso beans, dark roast"))[0] == "p-coffee"
    found = await shop.find("red")
    assert found[0] == "p-red", "by the colour of its picture alone: its text is the other mug's"
    assert (await shop.find("blue"))[0] == "p-blue"


class Refusing:
    """An object store that refuses these keys, as one does that has put an object away."""

    def __init__(self, store: ObjectStore, *keys: str) -> None:
        self._store, self.keys = store, set(keys)

    async def get(self, key: str, *, at_most: int | None = None) -> bytes | None:
        if key in self.keys:
            raise StorageRefusedError("InvalidObjectState")
        return await self._store.get(key, at_most=at_most)


async def test_an_image_that_is_refused_costs_its_batch_nothing_unless_all_are(shop: Shop) -> None:
    red, blue = await shop.image(picture(RED)), await shop.image(picture(BLUE))
    images = Refusing(shop.store, red.key)
    shop.step = EmbeddingStep(shop.embedder, shop.kept.index, images)
    done = results(await shop.run([product("p-red", "Mug", red), product("p-blue", "Mug", blue)]))
    assert (done["p-red"]["image"], done["p-blue"]["image"]) == (None, blue.key)
    assert "InvalidObjectState" in done["p-red"]["imageProblems"][0]
    images.keys.add(blue.key)
    with pytest.raises(StorageRefusedError):
        await shop.run([product("p-other", "Mug", red, blue), product("p-third", "Mug", blue)])


async def test_images_that_cannot_be_used_are_noted_and_the_next_one_is_taken(shop: Shop) -> None:
    good, broken = await shop.image(picture(RED), 5), await shop.image(b"\x89PNG\r\n\x1a\nbroken", 1)
    gone = StepImage("images/acme/gone.png", "image/png", 10, 10, position=0)
    done = results(
        await shop.run(
            [
                product("p-1", "Mug", good, broken, gone),
                product("p-2", "Plate", broken),
                product("p-3", "Cup", good),
            ]
        )
    )
    assert done["p-1"]["image"] == good.key
    assert done["p-1"]["imageProblems"] == [
        f"{gone.key}: it is not in the object store",
        f"{broken.key}: it can't be decoded",
    ]
    assert (done["p-2"]["image"], len(done["p-2"]["imageProblems"])) == (None, 1)
    assert "imageProblems" not in done["p-3"]
    assert set(await shop.find("plate")) == {"p-1", "p-2", "p-3"}


async def test_image_of_too_many_bytes_is_not_read(shop: Shop) -> None:
    huge = await shop.image(b"\0" * (MAX_BYTES + 1))
    done = results(await shop.run([product("p-1", "Mug", huge)]))
    assert "25,000,001 bytes, at most 25,000,000" in done["p-1"]["imageProblems"][0]


async def test_what_is_embedded_already_is_not_computed_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await shop.image(picture(RED))
    await shop.run([product("p-1", "Mug", image), product("p-2", "Cup", image)])
    computed: list[str] = []
    embed = SiglipEmbedder.embed_texts

    async def watched(self: SiglipEmbedder, texts: Sequence[str]) -> list[list[float]]:
        computed.extend(texts)
        return await embed(self, texts)

    monkeypatch.setattr(SiglipEmbedder, "embed_texts", watched)
    changed = product("p-2", "Bowl", content_hash="p-2-2")
    done = results(await shop.run([product("p-1", "Mug", image), changed]))
    assert computed == ["Bowl"]
    setup = {"model": shop.embedder.checksum[:12], "index": shop.kept.index.name}
    assert done["p-1"] == {**setup, "unchanged": True}
    assert "unchanged" not in done["p-2"]
    # The same again, as after a worker that died before its commit.
    done = results(await shop.run([product("p-1", "Mug", image), changed]))
    assert computed == ["Bowl"]
    assert all(result.get("unchanged") for result in done.values())
    # Another model's vectors are of no use.
    shop.step._embedder.checksum, before = "f" * 64, shop.step._embedder.checksum
    try:
        done = results(await shop.run([product("p-1", "Mug", image)]))
    finally:
        shop.step._embedder.checksum = before
    assert computed == ["Bowl", "Mug"]


async def test_an_archived_product_loses_its_vectors_and_has_new_ones_when_it_is_back(shop: Shop) -> None:
    await shop.run([product("p-1", "Mug"), product("p-2", "Mug, too")])
    gone = product("p-1", "Mug", status="archived", content_hash="p-1-archived", version=1)
    lost = await shop.step.run([gone])
    if isinstance(shop.kept.index, PgVectorIndex):
        assert set(await shop.find("mug")) == {"p-1", "p-2"}, "without its claim a worker takes nothing out"
    assert lost.write is not None
    done = results(await shop.run([gone]))
    assert done["p-1"]["removed"]
    assert await shop.find("mug") == ["p-2"]
    assert "unchanged" not in results(await shop.run([product("p-1", "Mug", version=2)]))["p-1"]
    assert set(await shop.find("mug")) == {"p-1", "p-2"}


async def test_product_without_a_word_is_invalid_and_the_others_go_on(shop: Shop) -> None:
    batch = await shop.run([product("p-1", "  ", description="<br>"), product("p-2", "Mug")])
    empty, done = batch.outcomes
    assert isinstance(empty, StepFailed)
    assert (empty.reason, empty.retryable) == ("NothingToEmbed", False)
    assert isinstance(done, StepDone)
    assert await shop.find("mug") == ["p-2"]
    assert (await shop.run([])).outcomes == []


async def test_worker_that_lost_its_claim_keeps_nothing_in_postgres(shop: Shop) -> None:
    batch = await shop.step.run([product("p-1", "Mug")])
    assert batch.write is not None
    if isinstance(shop.kept.index, PgVectorIndex):
        assert await shop.find("mug") == []
    # What Milvus has by then is what whoever does it again writes.
    await shop.run([product("p-1", "Mug")])
    assert await shop.find("mug") == ["p-1"]


async def test_store_that_is_away_fails_the_batch_as_no_jobs_fault(
    kept: Kept, embedder: SiglipEmbedder
) -> None:
    class Away:
        async def get(self, key: str, *, at_most: int | None = None) -> bytes | None:
            raise StorageUnavailableError

    image = StepImage("images/acme/x.png", "image/png", 10, 10)
    step = EmbeddingStep(embedder, kept.index, Away())
    with pytest.raises(DependencyUnavailableError):
        await step.run([product("p-1", "Mug", image)])


async def test_step_is_made_of_settings_and_proves_itself(
    model_folder: Path, database: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

    def context() -> Any:
        return SimpleNamespace(settings=WorkerSettings(), database=database, store=store)

    with pytest.raises(ModelUnusableError, match="EMBEDDING_MODEL_PATH: is not set"):
        await make_step(context())
    monkeypatch.setenv("EMBEDDING_MODEL_PATH", str(model_folder))
    step = await make_step(context())
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT model, vector_index FROM imports.embedding_setup")
        assert await cursor.fetchall() == [(step.setup.model, "pgvector")]
    assert isinstance((await step.run([product("p-1", "Mug")])).outcomes[0], StepDone)
    await step.aclose()
    monkeypatch.setenv("VECTOR_INDEX", "milvus")
    monkeypatch.setenv("MILVUS_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("MILVUS_TIMEOUT_SECONDS", "1")
    with pytest.raises(VectorIndexUnavailableError, match=r"Milvus (could|did) not connect"):
        await make_step(context())
