"""Opens the embedding model that the settings name."""

from __future__ import annotations

import asyncio

from import_core.adapters.models.base import Embedder
from import_core.adapters.models.settings import EmbeddingSettings
from import_core.domain.errors import ModelUnusableError


async def open_embedder(settings: EmbeddingSettings) -> Embedder:
    """Load the model in a thread and try it.

    Raises ModelUnusableError where none is configured or the folder does not hold one, and MissingPackageError.
    """
    folder = settings.model_folder
    if folder is None:
        raise ModelUnusableError(
            "EMBEDDING_MODEL_PATH",
            "is not set: name the folder of a SigLIP model as ONNX (docs/how-to/embeddings.md)",
        )
    from import_core.adapters.models.siglip import load_siglip

    return await asyncio.to_thread(
        load_siglip, folder, threads=settings.embedding_threads, batch=settings.embedding_batch
    )
