"""Opens the vector index that the settings name."""

from __future__ import annotations

from import_core.adapters.postgres import Database
from import_core.adapters.vectors.base import VectorIndex
from import_core.adapters.vectors.pgvector import PgVectorIndex
from import_core.adapters.vectors.settings import VectorIndexKind, VectorSettings


def open_vector_index(settings: VectorSettings, database: Database) -> VectorIndex:
    """The index; its first use connects, `check` proves that it can be used. Raises VectorIndexUnavailableError."""
    if settings.vector_index is VectorIndexKind.MILVUS:
        from import_core.adapters.vectors.milvus import MilvusVectorIndex

        return MilvusVectorIndex(settings)
    return PgVectorIndex(database)
