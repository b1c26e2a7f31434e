"""Which steps an ImportJob asks for, and whether this installation can do them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from import_core.domain.steps import StepKind

FIELDS = {
    "embedding": StepKind.EMBEDDING,
    "qualityControl": StepKind.QUALITY_CONTROL,
    "index": StepKind.INDEX,
}
"""By the field of `spec.enrich` that asks for them."""
_REASONS = {
    StepKind.EMBEDDING: "this installation has no embedding model: leave the field out, or have EMBEDDING_MODEL_PATH"
    " set for the operator, the gateway and the workers of the queue generate-embedding (docs/how-to/embeddings.md)"
}


@dataclass(frozen=True, slots=True)
class StepRefusal:
    """Why a job is refused; `field` is the path in the object."""

    field: str
    reason: str

    @property
    def message(self) -> str:
        """Field and reason."""
        return f"{self.field}: {self.reason}"


def asked_steps(enrich: object) -> frozenset[StepKind]:
    """The steps that a job's `spec.enrich` asks for; none where it is anything else than an object."""
    if not isinstance(enrich, Mapping):
        return frozenset()
    return frozenset(kind for field, kind in FIELDS.items() if enrich.get(field) is True)


def refuse_steps(asked: Collection[StepKind], unavailable: Collection[StepKind]) -> StepRefusal | None:
    """The first step that is asked for and can't be done; None: all can."""
    for field, kind in FIELDS.items():
        if kind in asked and kind in unavailable:
            reason = _REASONS.get(kind, "this installation does not do this step")
            return StepRefusal(f"spec.enrich.{field}", reason)
    return None
