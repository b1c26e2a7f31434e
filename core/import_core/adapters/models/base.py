"""What an embedding model offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Embedder(Protocol):
    """Turns texts and images into vectors of length 1, in one space."""

    checksum: str
    """Hex SHA-256 of the model's files: vectors of different models can't be compared."""

    async def embed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text."""

    async def embed_images(self, images: Sequence[bytes]) -> list[list[float] | None]:
        """One vector for each encoded image; None for one that can't be decoded."""

    async def aclose(self) -> None:
        """Give back the model's memory and threads."""
