"""What the environment may set of the vector index."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class VectorIndexKind(StrEnum):
    """Where embeddings are kept."""

    PGVECTOR = "pgvector"
    MILVUS = "milvus"


class VectorSettings(BaseSettings):
    """Which vector index, and where it is; secrets never appear in a repr."""

    model_config = SettingsConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    vector_index: VectorIndexKind = Field(
        default=VectorIndexKind.PGVECTOR,
        validation_alias="VECTOR_INDEX",
        description="Where embeddings are kept: `pgvector` (the same PostgreSQL) or `milvus`",
    )
    # Not MILVUS_URI: its client reads that by itself when it is imported, and refuses the path of a file there.
    milvus_uri: str = Field(
        default="",
        validation_alias="MILVUS_ADDRESS",
        max_length=2048,
        description="Address of Milvus, such as http://milvus:19530; a path to a file is milvus-lite, for tests",
    )
    milvus_token: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="MILVUS_TOKEN",
        description="API key of Milvus, or user:password; empty: none is asked for",
    )
    milvus_collection: str = Field(
        default="import_products",
        validation_alias="MILVUS_COLLECTION",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$",
        description="Collection of the embeddings; made when it is missing",
    )
    milvus_timeout_seconds: float = Field(
        default=10.0,
        validation_alias="MILVUS_TIMEOUT_SECONDS",
        gt=0,
        le=300,
        description="Longest time for one request to Milvus",
    )
    milvus_flush: bool = Field(
        default=True,
        validation_alias="MILVUS_FLUSH",
        description="Whether a write waits until Milvus has flushed it; may be off where its log is replicated",
    )
