"""Embeds products: their text and first usable image, by the configured model, into the vector index."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from import_core.adapters.models.base import Embedder
from import_core.adapters.models.opening import open_embedder
from import_core.adapters.postgres.embedding_setups import remember_setup, still_embedding
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.vectors.base import ProductVectors, VectorIndex
from import_core.adapters.vectors.opening import open_vector_index
from import_core.domain.embedding import EmbeddingSetup, images_to_try, product_text
from import_core.domain.search import is_archived
from import_core.domain.steps import StepDone, StepFailed, StepImage, StepKind, StepOutcome, StepProduct
from import_worker.steps.base import StepBatch
from import_worker.steps.image_reads import BatchReads, ImageReader, ImageSource
from import_worker.steps.registry import StepContext

IMAGES_AT_ONCE = 8
"""Images that are read and embedded together, of at most 25 MB each."""
BATCHES_WITH_IMAGES = 2
"""Batches of this worker that hold images in memory: one is read while another is computed."""
NOTHING_TO_EMBED = "NothingToEmbed"


@dataclass(frozen=True, slots=True)
class _Picture:
    """What became of a product's images: the vector of the first usable one, and what was wrong with others."""

    vector: list[float] | None = None
    image: StepImage | None = None
    problems: tuple[str, ...] = ()


class EmbeddingStep:
    """What has vectors of the same content by the same model already is left as it is; what is archived loses them.

    An image that is missing, too large, refused while others are read, or can't be decoded costs a product its image's
    vector, not the step: its result says so. Safe for several batches at a time.
    """

    kind = StepKind.EMBEDDING

    def __init__(self, embedder: Embedder, index: VectorIndex, images: ImageSource) -> None:
        self._embedder = embedder
        self._index = index
        self._images = ImageReader(images)
        self.setup = EmbeddingSetup(embedder.checksum, index.name)
        self._room = asyncio.Semaphore(BATCHES_WITH_IMAGES)

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        """Embed a batch of products of one company."""
        checksum = self._embedder.checksum
        archived = {
            product.product_id: product.version for product in products if is_archived(product.status)
        }
        if archived:
            await self._index.remove(archived)
        shown = [product for product in products if product.product_id not in archived]
        current = await self._index.current(
            {product.product_id: product.content_hash for product in shown}, model_checksum=checksum
        )
        texts = {
            product.product_id: product_text(product)
            for product in shown
            if product.product_id not in current
        }
        due = [product for product in shown if texts.get(product.product_id)]
        text_vectors = await self._embedder.embed_texts([texts[product.product_id] for product in due])
        pictures = await self._embed_images(due)
        vectors = [
            ProductVectors(
                product.product_id,
                product.company_id,
                product.content_hash,
                checksum,
                vector,
                pictures[product.product_id].vector,
                product.version,
            )
            for product, vector in zip(due, text_vectors, strict=True)
        ]
        await self._index.put(vectors)
        outcomes = [
            StepDone(product.product_id, {**self.setup.to_result(), "removed": True})
            if product.product_id in archived
            else self._outcome(product, product.product_id in current, pictures.get(product.product_id))
            for product in products
        ]

        async def write(connection: Connection) -> None:
            await self._index.forget(connection, sorted(archived))
            await self._index.write(connection, vectors)
            await still_embedding(connection, self.setup)

        return StepBatch(outcomes, write)

    async def aclose(self) -> None:
        """Give back the model and the index's connections."""
        await self._embedder.aclose()
        await self._index.aclose()

    def _outcome(self, product: StepProduct, is_current: bool, picture: _Picture | None) -> StepOutcome:
        if is_current:
            return StepDone(product.product_id, {**self.setup.to_result(), "unchanged": True})
        if picture is None:
            return StepFailed(
                product.product_id,
                NOTHING_TO_EMBED,
                "the product has neither title nor description, vendor, type or tags",
                retryable=False,
            )
        result = {**self.setup.to_result(), "image": picture.image.key if picture.image else None}
        if picture.problems:
            result["imageProblems"] = list(picture.problems)
        return StepDone(product.product_id, result)

    async def _embed_images(self, products: Sequence[StepProduct]) -> dict[str, _Picture]:
        """By product id. Round after round: the products whose image could not be used try their next one.

        Raises what `BatchReads.check` raises.
        """
        reads = self._images.batch()
        pictures = {product.product_id: _Picture() for product in products}
        waiting = [(product.product_id, list(images_to_try(product))) for product in products]
        while waiting := [(product_id, images) for product_id, images in waiting if images]:
            left = []
            for at in range(0, len(waiting), IMAGES_AT_ONCE):
                part = waiting[at : at + IMAGES_AT_ONCE]
                tried = await self._embed_part([images[0] for _, images in part], reads)
                for (product_id, images), (vector, problem) in zip(part, tried, strict=True):
                    before = pictures[product_id].problems
                    if vector is not None:
                        pictures[product_id] = _Picture(vector, images[0], before)
                    else:
                        pictures[product_id] = _Picture(problems=(*before, f"{images[0].key}: {problem}"))
                        left.append((product_id, images[1:]))
            waiting = left
        await reads.check()
        return pictures

    async def _embed_part(
        self, images: Sequence[StepImage], reads: BatchReads
    ) -> list[tuple[list[float] | None, str]]:
        """For each image its vector, or None and why there is none."""
        async with self._room:
            read = await asyncio.gather(*(reads.read(image.key) for image in images))
            contents = [content for content in read if isinstance(content, bytes)]
            vectors = iter(await self._embedder.embed_images(contents))
        return [
            (next(vectors), "it can't be decoded") if isinstance(content, bytes) else (None, content)
            for content in read
        ]


async def make_step(context: StepContext) -> EmbeddingStep:
    """Load the model and prove that the index can be used, before any job is taken.

    Raises ModelUnusableError, MissingPackageError, VectorIndexUnavailableError or DatabaseUnavailableError.
    """
    index = open_vector_index(context.settings, context.database)
    try:
        await index.check()
        embedder = await open_embedder(context.settings)
    except BaseException:
        await index.aclose()
        raise
    step = EmbeddingStep(embedder, index, context.store)
    try:
        await remember_setup(context.database, step.setup)
    except BaseException:
        await step.aclose()
        raise
    return step
