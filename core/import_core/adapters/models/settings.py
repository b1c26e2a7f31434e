"""What the environment may set of the embedding model."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from import_core.domain.steps import StepKind


class ModelSettings(BaseSettings):
    """Whether there is a model; all that a process needs to know that refuses jobs without one."""

    model_config = SettingsConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    embedding_model_path: str = Field(
        default="",
        validation_alias="EMBEDDING_MODEL_PATH",
        max_length=4096,
        description="Folder of the embedding model (SigLIP as ONNX). Empty: this installation computes no embeddings, "
        "and ImportJobs with `spec.enrich.embedding` are refused. Set it the same everywhere; only workers of the "
        "queue `generate-embedding` and the gateway read the folder",
    )

    @property
    def unavailable_steps(self) -> frozenset[StepKind]:
        """Steps that this installation can't do."""
        return frozenset() if self.embedding_model_path else frozenset({StepKind.EMBEDDING})


class EmbeddingSettings(ModelSettings):
    """How the model is run."""

    embedding_threads: int = Field(
        default=2,
        validation_alias="EMBEDDING_THREADS",
        ge=1,
        le=64,
        description="Threads that the embedding model computes in, and as many that decode its images",
    )
    embedding_batch: int = Field(
        default=8,
        validation_alias="EMBEDDING_BATCH",
        ge=1,
        le=256,
        description="Texts or images that the embedding model is given at once: more need more memory",
    )

    @property
    def model_folder(self) -> Path | None:
        """The model's folder, where there is to be one."""
        return Path(self.embedding_model_path) if self.embedding_model_path else None
