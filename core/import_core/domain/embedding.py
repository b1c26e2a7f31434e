"""What of a product is embedded: its text, and which of its images are tried."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from import_core.domain.markup import plain_text
from import_core.domain.steps import KnownStep, StepImage, StepKind, StepProduct

LONGEST_DESCRIPTION = 20_000
"""Characters of a description that are looked at, with its markup."""
LONGEST_TEXT = 2000
"""Characters that are given to the model; it reads a few hundred of them."""
IMAGES_TRIED = 3
"""A product's first image stands for it; the next ones only where it can't be used."""
_BLANKS = re.compile(r"\s+")
SHOWN_CHECKSUM = 12
"""Hex digits of a model's checksum that are kept with a step's result."""


@dataclass(frozen=True, slots=True)
class EmbeddingSetup:
    """What a product is embedded with: the model, by its files' checksum, and the index that keeps its vectors."""

    checksum: str
    index: str

    @property
    def model(self) -> str:
        """The model as results name it."""
        return self.checksum[:SHOWN_CHECKSUM]

    def to_result(self) -> dict[str, object]:
        """What the step's result says of it: by that an outdated one is known."""
        return {"model": self.model, "index": self.index}


def forget_outdated(rows: Sequence[KnownStep]) -> list[KnownStep]:
    """A product's rows where it was embedded with another setup: the step counts as done for no state of it."""
    return [replace(row, content_hash="") if row.kind is StepKind.EMBEDDING else row for row in rows]


def product_text(product: StepProduct) -> str:
    """Title, vendor, type, tags and description in plain words, the most telling first: models read the beginning.

    Empty for a product without any of them.
    """
    parts = [
        product.title,
        product.vendor,
        product.product_type,
        ", ".join(product.tags),
        plain_text((product.description or "")[:LONGEST_DESCRIPTION]),
    ]
    words = (_BLANKS.sub(" ", part or "").strip(" .") for part in parts)
    return ". ".join(part for part in words if part)[:LONGEST_TEXT]


def images_to_try(product: StepProduct) -> tuple[StepImage, ...]:
    """The images that may stand for the product, the best first."""
    return tuple(sorted(product.images, key=lambda image: image.position)[:IMAGES_TRIED])
