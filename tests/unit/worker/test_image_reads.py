"""Whether a refused image is the image's fault or the object store's, by what else the store has given."""

import pytest

from import_core.domain.errors import ObjectTooLargeError, StorageRefusedError, StorageUnavailableError
from import_worker.steps.image_reads import ImageReader


class Store:
    """Images by key; an error is raised, and what is not there has no bytes."""

    def __init__(self, **images: bytes | Exception | None) -> None:
        self.images = images
        self.asked: list[str] = []

    async def get(self, key: str, *, at_most: int | None = None) -> bytes | None:
        self.asked.append(key)
        found = self.images.get(key)
        if isinstance(found, Exception):
            raise found
        return found


def refused(key: str) -> StorageRefusedError:
    return StorageRefusedError(f"refused to read {key}")


@pytest.mark.parametrize("other", [b"bytes", ObjectTooLargeError("too large")])
async def test_a_refusal_beside_an_image_that_is_given_is_the_images(other: bytes | Exception) -> None:
    reads = ImageReader(Store(bad=refused("bad"), other=other)).batch()
    assert await reads.read("bad") == "refused to read bad"
    await reads.read("other")
    await reads.check()
    assert set(reads.refused) == {"bad"}


async def test_refusals_alone_are_the_stores_with_the_first_of_their_words() -> None:
    store = Store(a=refused("a"), b=refused("b"))
    reads = ImageReader(store).batch()
    await reads.check()
    for key in ("a", "b"):
        await reads.read(key)
    with pytest.raises(StorageRefusedError, match="refused to read a"):
        await reads.check()
    assert store.asked == ["a", "b"]


async def test_that_another_image_is_missing_does_not_prove_that_the_store_gives_any() -> None:
    reads = ImageReader(Store(bad=refused("bad"), gone=None)).batch()
    await reads.read("bad")
    assert await reads.read("gone") == "it is not in the object store"
    with pytest.raises(StorageRefusedError, match="refused to read bad"):
        await reads.check()


async def test_what_another_batch_could_read_is_asked_for_once_more_to_tell() -> None:
    store = Store(bad=refused("bad"), good=b"bytes")
    reader = ImageReader(store)
    await reader.batch().read("good")
    reads = reader.batch()
    await reads.read("bad")
    await reads.check()
    assert store.asked == ["good", "bad", "good"]
    store.images["good"] = ObjectTooLargeError("too large")
    await reads.check()
    store.images["good"] = refused("good")
    with pytest.raises(StorageRefusedError, match="refused to read bad"):
        await reads.check()
    store.images["good"] = StorageUnavailableError()
    with pytest.raises(StorageUnavailableError):
        await reads.check()


async def test_an_image_that_was_deleted_since_tells_nothing_and_is_not_asked_for_again() -> None:
    store = Store(bad=refused("bad"), good=b"bytes")
    reader = ImageReader(store)
    await reader.batch().read("good")
    store.images["good"] = None
    reads = reader.batch()
    await reads.read("bad")
    for _ in range(2):
        with pytest.raises(StorageRefusedError, match="refused to read bad"):
            await reads.check()
    assert store.asked == ["good", "bad", "good"]


async def test_a_store_that_does_not_answer_is_no_refusal() -> None:
    reads = ImageReader(Store(a=StorageUnavailableError())).batch()
    with pytest.raises(StorageUnavailableError):
        await reads.read("a")
    await reads.check()
