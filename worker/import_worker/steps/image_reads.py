"""Reads images of a batch, and tells an image that is refused from an object store that refuses everything."""

from __future__ import annotations

from typing import Protocol

from import_core.domain.errors import ObjectTooLargeError, StorageRefusedError
from import_core.domain.images import MAX_BYTES


class ImageSource(Protocol):
    """Where images' bytes are: the object store."""

    async def get(self, key: str, *, at_most: int | None = None) -> bytes | None:
        """An object's bytes; None if there is none. Raises ObjectTooLargeError."""


class ImageReader:
    """The images of all batches of a worker."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._readable: str | None = None
        """The image that was read last, of whichever batch."""

    def batch(self) -> BatchReads:
        """For the images of a batch."""
        return BatchReads(self)

    async def read(self, key: str) -> bytes | None:
        """An image's bytes; None if there is none. Raises what `ObjectStore.get` raises."""
        content = await self._source.get(key, at_most=MAX_BYTES)
        if content is not None:
            self._readable = key
        return content

    async def answers(self) -> bool:
        """Whether the store still gives what it gave last. Raises StorageUnavailableError."""
        if self._readable is None:
            return False
        try:
            content = await self.read(self._readable)
        except StorageRefusedError:
            return False
        except ObjectTooLargeError:
            return True
        if content is None:
            self._readable = None
        return content is not None


class BatchReads:
    """How the object store has answered in a batch: whether it gave anything, and what it refused."""

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader
        self._answered = False
        self.refused: dict[str, StorageRefusedError] = {}
        """Why, by the image's key."""

    async def read(self, key: str) -> bytes | str:
        """An image's bytes, or why it has none. Raises StorageUnavailableError."""
        try:
            content = await self._reader.read(key)
        except StorageRefusedError as error:
            self.refused[key] = error
            return error.message
        except ObjectTooLargeError as error:
            self._answered = True
            return error.message
        if content is None:
            # No proof: without the right to decrypt, say, what is missing is still told, and all else refused.
            return "it is not in the object store"
        self._answered = True
        return content

    async def check(self) -> None:
        """Once all is read: tell whether what was refused is the images' or the store's.

        Raises StorageRefusedError where every image was refused, and so is the one that this worker has read last, if
        any: that is the store's setup, not an image. Raises StorageUnavailableError.
        """
        if not self.refused or self._answered or await self._reader.answers():
            return
        raise next(iter(self.refused.values()))
