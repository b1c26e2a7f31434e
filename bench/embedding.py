"""Products embedded per minute by the step, into each vector index, divided by a bare loop over the same model.

The model is the stand-in of SigLIP's signature, which computes next to nothing: what is measured is everything around
it (reading images from a real S3 server, decoding, batching, writing). EMBEDDING_MODEL_PATH names the folder of a real
one, which is then nearly the whole time. The bare loop decodes to the model's size and runs the graphs, nothing else.
Run with `python -m bench embedding`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pyvips

from bench.places import state_folder
from bench.table import median_of, print_table
from import_core.adapters.models.siglip import SiglipEmbedder, load_siglip
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.s3.store import ObjectStore
from import_core.adapters.vectors.base import VectorIndex
from import_core.adapters.vectors.opening import open_vector_index
from import_core.adapters.vectors.settings import VectorIndexKind, VectorSettings
from import_core.domain.steps import StepDone, StepImage, StepProduct
from import_local.embedding_model import make_embedding_model
from import_local.parts.objectstore import ObjectStoreServer
from import_local.parts.postgres import PostgresServer
from import_worker.steps.embedding import EmbeddingStep

ROUNDS = 3
PRODUCTS = 300
BATCH = 25
CONCURRENCY = 5
"""Batches at the same time: a worker's default number of jobs."""
THREADS = 2


def photograph(seed: int) -> bytes:
    """A picture of a phone's size for shops, 100 kB."""
    bands = [pyvips.Image.perlin(1024, 768, cell_size=64, seed=seed * 3 + band) for band in range(3)]
    picture = bands[0].bandjoin(bands[1:]).linear(60, 128) + pyvips.Image.gaussnoise(1024, 768, sigma=4)
    content: bytes = picture.cast("uchar").copy(interpretation="srgb").jpegsave_buffer(Q=80)
    return content


async def catalogue(store: ObjectStore) -> list[StepProduct]:
    """Products with one stored image each."""
    products = []
    for number in range(PRODUCTS):
        content = photograph(number % 40) + number.to_bytes(4, "big")
        digest = hashlib.sha256(content).hexdigest()
        image = StepImage(f"images/acme/{digest}.jpg", "image/jpeg", 1024, 768, sha256=digest)
        await store.put_if_absent(image.key, content, "image/jpeg")
        text = f"Product {number} made of wool, number {number * 7}"
        products.append(
            StepProduct(
                f"p-{number}", "acme", "", title=text, description=f"<p>{text}</p>" * 20, images=(image,)
            )
        )
    return products


def bare(embedder: SiglipEmbedder, contents: Sequence[bytes], texts: Sequence[str]) -> float:
    """Products per minute of a loop that decodes and runs the graphs, in as many threads."""

    def pixels(content: bytes) -> Any:
        image = pyvips.Image.thumbnail_buffer(content, 224, height=224, size="force")
        return (image.numpy().astype(numpy.float32) / 127.5 - 1).transpose(2, 0, 1)

    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        for at in range(0, len(contents), 8):
            prepared = list(threads.map(pixels, contents[at : at + 8]))
            embedder._images.run(numpy.ascontiguousarray(numpy.stack(prepared)))
            embedder._compute_texts(texts[at : at + 8])
    return len(contents) * 60 / (time.perf_counter() - begin)


async def stepped(
    step: EmbeddingStep, index: VectorIndex, database: Database, products: Sequence[StepProduct], state: str
) -> float:
    """Products per minute of the step with its transaction, in batches side by side."""
    given = [_in_state(product, state) for product in products]
    batches = [given[at : at + BATCH] for at in range(0, len(given), BATCH)]
    room = asyncio.Semaphore(CONCURRENCY)

    async def run(batch: Sequence[StepProduct]) -> None:
        async with room:
            done = await step.run(batch)
            assert all(isinstance(outcome, StepDone) for outcome in done.outcomes)
            assert done.write is not None
            async with database.transaction(timeout_seconds=15) as connection:
                await done.write(connection)

    begin = time.perf_counter()
    await asyncio.gather(*map(run, batches))
    rate = len(given) * 60 / (time.perf_counter() - begin)
    kept = await index.current(
        {product.product_id: state for product in given}, model_checksum=step._embedder.checksum
    )
    assert len(kept) == len(given), "not every product is in the index"
    return rate


def _in_state(product: StepProduct, state: str) -> StepProduct:
    """As if its content had changed: everything is computed again."""
    return StepProduct(
        product.product_id,
        product.company_id,
        state,
        title=product.title,
        description=product.description,
        images=product.images,
    )


async def measure(
    store: ObjectStore, database: Database, embedder: SiglipEmbedder, milvus: Path
) -> dict[str, list[float]]:
    """Rates by row, one per round; the rows take turns."""
    products = await catalogue(store)
    contents = [await store.get(product.images[0].key) or b"" for product in products]
    texts = [product.title for product in products]
    indexes = {
        "pgvector": open_vector_index(VectorSettings(), database),
        "milvus": open_vector_index(
            VectorSettings(vector_index=VectorIndexKind.MILVUS, milvus_uri=str(milvus)), database
        ),
    }
    rates: dict[str, list[float]] = {"bare": [], **{name: [] for name in indexes}}
    try:
        for turn in range(ROUNDS + 1):
            turns = {"bare": await asyncio.to_thread(bare, embedder, contents, texts)}
            for name, index in indexes.items():
                step = EmbeddingStep(embedder, index, store)
                turns[name] = await stepped(step, index, database, products, f"state-{turn}")
            for name, rate in turns.items():
                if turn:  # the first round warms up
                    rates[name].append(rate)
    finally:
        for index in indexes.values():
            await index.aclose()
    return rates


async def main() -> None:
    """Start the servers, measure, print."""
    with state_folder() as folder:
        s3 = ObjectStoreServer(folder / "store", log_path=folder / "store.log")
        postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
        model = os.environ.get("EMBEDDING_MODEL_PATH")
        embedder = load_siglip(
            Path(model) if model else make_embedding_model(folder / "model"), threads=THREADS
        )
        await s3.start()
        await postgres.start()
        try:
            bucket = await s3.create_bucket("bench")
            os.environ["AWS_ACCESS_KEY_ID"] = bucket.access_key_id
            os.environ["AWS_SECRET_ACCESS_KEY"] = bucket.secret_access_key
            store = ObjectStore(bucket.name, endpoint_url=bucket.endpoint_url, region=bucket.region)
            url = await postgres.create_database("bench")
            await migrate(url)
            database = Database(url, application="bench")
            await database.open(wait_seconds=10)
            try:
                report(await measure(store, database, embedder, folder / "milvus.db"))
            finally:
                await database.close()
        finally:
            await embedder.aclose()
            await postgres.stop()
            await s3.stop()


def report(rates: dict[str, list[float]]) -> None:
    """Print rates and ratios."""
    print(
        f"{PRODUCTS} products with text and one image of 1024×768, {ROUNDS} rounds, {THREADS} threads; the model is"
        f" {os.environ.get('EMBEDDING_MODEL_PATH') or 'the stand-in, which computes next to nothing'}\n"
    )
    titles = {
        "bare": "bare loop: decode, run the graphs",
        "pgvector": "step, into pgvector (durable PostgreSQL)",
        "milvus": "step, into Milvus (milvus-lite)",
    }
    rows = []
    for row, title in titles.items():
        ratios = [one / other for one, other in zip(rates[row], rates["bare"], strict=True)]
        rows.append((title, median_of(rates[row]), median_of(ratios)))
    print_table(("products", "per minute", "÷ bare loop"), rows)


if __name__ == "__main__":
    asyncio.run(main())
