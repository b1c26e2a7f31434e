"""The image stage: each of a product's images is downloaded, checked, stored once and given thumbnails.

Objects are stored before the rows that name them are committed, so a row never names a missing object; an
object whose row was not committed is found again by its key on the next try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from import_core.adapters.s3.store import ObjectStore
from import_core.domain.addresses import display_url
from import_core.domain.errors import ItemError, JobError
from import_core.domain.images import (
    DEFAULT_THUMBNAIL_SIZES,
    THUMBNAIL_FORMAT,
    FailedImage,
    ImageResult,
    KnownImage,
    StoredImage,
    UnchangedImage,
    check_sizes,
    decide_fetch,
    is_same_content,
    object_key,
    thumbnail_key,
)
from import_core.domain.products import SourceImage
from import_worker.pipeline.download import Downloaded, ImageDownloader
from import_worker.pipeline.thumbnails import Dimensions, Thumbnailer

log = structlog.get_logger(__name__)


class ImageImporter:
    """Imports images for all jobs of a worker; at most `concurrency` are in work at a time."""

    def __init__(
        self,
        downloader: ImageDownloader,
        thumbnailer: Thumbnailer,
        store: ObjectStore,
        *,
        concurrency: int = 12,
    ) -> None:
        self._downloader = downloader
        self._thumbnailer = thumbnailer
        self._store = store
        self._places = asyncio.Semaphore(concurrency)

    async def import_images(
        self,
        company_id: str,
        product_external_id: str,
        images: Sequence[SourceImage],
        known: Mapping[str, KnownImage],
        sizes: Sequence[int] = DEFAULT_THUMBNAIL_SIZES,
        *,
        on_image: Callable[[int], None] | None = None,
    ) -> list[ImageResult]:
        """Import one product's images; results are in the order of `images`, a failed one among them.

        `known` maps source URL to what its row says; `sizes` are the thumbnails' longest sides in pixels;
        `on_image` is called with the number of images done after each.
        Raises StorageUnavailableError or StorageRefusedError when the object store fails: that is the job's
        failure, not an image's. Whatever else happens to one image is that image's failure.
        """
        sizes = check_sizes(sizes)
        done = 0

        async def one(position: int, image: SourceImage) -> ImageResult:
            nonlocal done
            async with self._places:
                result = await self._import_one(company_id, position, image, known.get(image.url), sizes)
            if isinstance(result, FailedImage):
                log.info(
                    "image.failed",
                    companyId=company_id,
                    product=product_external_id,
                    position=position,
                    stage=result.stage,
                    reason=result.reason,
                )
            done += 1
            if on_image is not None:
                on_image(done)
            return result

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(position, image)) for position, image in enumerate(images)]
        except* Exception as failures:
            # The first failure cancelled the others; the caller's handling is by kind of error.
            raise failures.exceptions[0] from failures
        return [task.result() for task in tasks]

    async def _import_one(
        self,
        company_id: str,
        position: int,
        image: SourceImage,
        known: KnownImage | None,
        sizes: Sequence[int],
    ) -> ImageResult:
        stage = "download"
        try:
            async with self._downloader.fetch(image.url, decide_fetch(known, sizes)) as answer:
                stage = "decode"
                if isinstance(answer, Downloaded) and not is_same_content(known, answer.sha256, sizes):
                    return await self._store_image(company_id, position, image, answer, sizes)
                if known is None:
                    message = f"{display_url(image.url)} says that it is not modified, which was not asked"
                    return FailedImage(image.url, position, "download", "UnexpectedStatus", message)
                return UnchangedImage(
                    image.url, position, image.alt_text, answer.etag, answer.last_modified, known
                )
        except ItemError as error:
            return FailedImage(image.url, position, error.stage, error.reason, error.message)
        except JobError:
            raise
        except Exception as error:
            # One image's oddity must not end the job with all the others; the log has the rest.
            log.exception("image.unexpected_error", companyId=company_id, stage=stage)
            message = f"{display_url(image.url)} failed unexpectedly ({type(error).__name__})"
            return FailedImage(image.url, position, stage, "UnexpectedError", message)

    async def _store_image(
        self, company_id: str, position: int, image: SourceImage, answer: Downloaded, sizes: Sequence[int]
    ) -> StoredImage:
        key = object_key(company_id, answer.sha256, answer.format.extension)
        thumbnails = {size: thumbnail_key(company_id, answer.sha256, size) for size in sorted(sizes)}
        dimensions = await self._put_missing(key, thumbnails, answer)
        return StoredImage(
            source_url=image.url,
            position=position,
            alt_text=image.alt_text,
            etag=answer.etag,
            last_modified=answer.last_modified,
            sha256=answer.sha256,
            key=key,
            content_type=answer.format.content_type,
            width=dimensions.width,
            height=dimensions.height,
            bytes=len(answer.content),
            thumbnails={str(size): thumbnail for size, thumbnail in thumbnails.items()},
        )

    async def _put_missing(self, key: str, thumbnails: Mapping[int, str], answer: Downloaded) -> Dimensions:
        """Store what is not there yet. The original goes last: where it is, it was decoded in full before."""
        is_stored = await self._store.exists(key)
        missing = [
            size for size in thumbnails if not (is_stored and await self._store.exists(thumbnails[size]))
        ]
        if is_stored and not missing:
            return await self._thumbnailer.inspect(answer.content, answer.format)
        rendered = await self._thumbnailer.render(answer.content, answer.format, missing)
        for size, thumbnail in rendered.thumbnails.items():
            await self._store.put_if_absent(thumbnails[size], thumbnail, THUMBNAIL_FORMAT.content_type)
        if not is_stored:
            await self._store.put_if_absent(key, answer.content, answer.format.content_type)
        return rendered.dimensions
