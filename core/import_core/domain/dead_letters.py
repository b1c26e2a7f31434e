"""Dead letters as a person meets them: what they are, what names one, and what to look at for each reason. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from import_core.domain.item_errors import GONE_FROM_SOURCE, NO_EXTERNAL_ID
from import_core.domain.jobs import JobState
from import_core.domain.reimport import LASTING_REASONS, LASTING_STAGES
from import_core.domain.steps import StepKind
from import_core.domain.values import MAX_TEXT_LENGTH

_SEPARATOR = "\0"
"""Between the parts of what an id is made of: PostgreSQL keeps no text with it."""


class DeadStep(StrEnum):
    """What a product was given up in: its import, or a step after it. In the order that a product takes them."""

    IMPORT = "import"
    EMBEDDING = StepKind.EMBEDDING.value
    QUALITY_CONTROL = StepKind.QUALITY_CONTROL.value
    INDEX = StepKind.INDEX.value

    @property
    def kind(self) -> StepKind | None:
        """The step after the import; None: the import."""
        return None if self is DeadStep.IMPORT else StepKind(self.value)


_LONGEST_JOB_ID = 253
"""Characters, all of them ASCII, of a job's id in an address."""
_LONGEST_NAMED = _LONGEST_JOB_ID + len(_SEPARATOR) + 4 * MAX_TEXT_LENGTH
"""Bytes of what an id is made of: imports keep products' ids of up to MAX_TEXT_LENGTH characters in UTF-8."""
LONGEST_ID = max(map(len, DeadStep)) + len(".") + -(-4 * _LONGEST_NAMED // 3)
"""Characters."""


class LetterAction(StrEnum):
    """What a person decides on a dead letter."""

    RETRY = "retry"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters are meant; None: any. `product` is the product's row id or its id at the source.

    `namespace`: whose jobs brought the products; `until`: what died later is not meant.
    """

    company: str | None = None
    job: str | None = None
    step: DeadStep | None = None
    product: str | None = None
    reason: str | None = None
    namespace: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A product that was given up for good: by a step after its import, or by the import.

    `product_id` None: it has no row, as it was never imported or is gone; external id, source and title None: the
    product is gone. What an import gave up has job and external id, and no `content_hash`.
    """

    product_id: str | None
    step: DeadStep
    company_id: str
    job_id: str | None
    attempts: int
    retryable: bool
    """Out of tries; else invalid."""
    reason: str | None
    message: str | None
    content_hash: str | None
    recorded_at: datetime
    died_at: datetime
    external_id: str | None
    import_source: str | None
    title: str | None

    @property
    def id(self) -> str:
        """What names it in an address."""
        if self.step is DeadStep.IMPORT:
            return item_id(self.job_id or "", self.external_id or "")
        return letter_id(self.product_id or "", StepKind(self.step.value))


@dataclass(frozen=True, slots=True)
class DeadReason:
    """How many dead letters of a step there are for a reason, empty where none is known."""

    step: DeadStep
    reason: str
    count: int
    newest_at: datetime
    retryable: bool
    """Some of them were out of tries; else all are invalid."""


@dataclass(frozen=True, slots=True)
class DeadReasons:
    """The most frequent reasons first; `total` of all that were counted.

    `counted_all`: else there may be more, which died earlier.
    """

    reasons: Sequence[DeadReason]
    total: int
    more_reasons: bool
    counted_all: bool = True


@dataclass(frozen=True, slots=True)
class Advice:
    """What to look at: `field` of the product, or of the installation where it is not the product's fault."""

    field: str
    fix: str


_INSTALLATION = "installation"
_PRODUCT = "product"
_AGAIN = "then retry"
# A wrong setup (keys, models, buckets) kills nothing, and neither does a service that asks to slow down: the batch
# waits (failures.is_wrong_setup).
_ADVICE: Mapping[str, Advice] = {
    "NothingToEmbed": Advice(
        "title, description",
        "Give the product a title or a description where it comes from. The next import takes the step again.",
    ),
    "SearchRefused": Advice(
        _PRODUCT,
        "The search index does not take the product as it is: the message says which value. Change it where the "
        "product comes from; the next import takes the step again.",
    ),
    "ProviderRejected": Advice(
        "title, description, images",
        "The model does not take the product's texts or images: the message says why. Change them where the product "
        "comes from, or discard it.",
    ),
    "Timeout": Advice(
        _INSTALLATION,
        "The batch took too long. See whether the step's service is slow, or raise STEP_TIMEOUT_SECONDS of the "
        f"workers, {_AGAIN}.",
    ),
    "OutOfMemory": Advice(
        _INSTALLATION,
        f"The worker ran out of memory with this batch. Give the step's pool more memory or smaller batches, {_AGAIN}.",
    ),
    "WorkerKilled": Advice(
        _INSTALLATION, f"Workers died with this batch. Their logs and events say why; {_AGAIN}."
    ),
    "Stalled": Advice(
        _INSTALLATION, f"The batch made no progress. See what its workers waited for, {_AGAIN}."
    ),
    "EmbeddingFailed": Advice(
        _INSTALLATION, f"The model failed on this batch: the workers' logs say how; {_AGAIN}."
    ),
    "ProviderUnavailable": Advice(
        _INSTALLATION, "A service did not answer in all tries. Once it does, retry all of this reason."
    ),
}
_OUT_OF_TRIES = Advice(
    _INSTALLATION, "All tries failed. Once what the message names is out of the way, retry."
)
_INVALID = Advice(
    _PRODUCT,
    "Trying again as it is leads nowhere. Change what the message names where the product comes from; the next import "
    "takes the step again.",
)


_ITEM_ADVICE: Mapping[str, Advice] = {
    "InvalidField": Advice(
        _PRODUCT,
        "A value of the product does not fit its field: the message names both. Change it where the product comes "
        f"from, or the import's field mapping, {_AGAIN}.",
    ),
    GONE_FROM_SOURCE: Advice(
        _PRODUCT, "The source no longer has the product. Discard it, unless it is to come back there."
    ),
    NO_EXTERNAL_ID: Advice(
        _PRODUCT,
        "The source gave the product no id, so it can't be asked for by itself. Once the source gives one, retry the "
        "whole import.",
    ),
}
_ITEM_MAY_PASS = Advice(
    "source",
    "The source did not give the product as it should. Once it does, or the message says why not, retry.",
)
_ITEM_INVALID = Advice(
    _PRODUCT,
    "Trying again as it is leads nowhere. Change what the message names where the product comes from, then retry.",
)


def advice_for(reason: str | None, *, retryable: bool, step: DeadStep | None = None) -> Advice:
    """What a person does about a dead letter. `retryable`: it was out of tries, and not invalid."""
    if step is DeadStep.IMPORT:
        return _ITEM_ADVICE.get(reason or "") or (_ITEM_MAY_PASS if retryable else _ITEM_INVALID)
    return _ADVICE.get(reason or "") or (_OUT_OF_TRIES if retryable else _INVALID)


def may_pass(stage: str, reason: str) -> bool:
    """Whether an item of an import that failed so may do better as it is; else its source has to change first."""
    return stage not in LASTING_STAGES and reason not in {*LASTING_REASONS, GONE_FROM_SOURCE, NO_EXTERNAL_ID}


def why_no_letter(name: str, state: JobState, *, is_old: bool) -> str | None:
    """Why what failed in the import of that name is no dead letter; None: it is one.

    `is_old`: a later import has read the whole catalogue anew.
    """
    if state in {JobState.PENDING, JobState.IN_PROGRESS}:
        return f"{name} is under way, and may still import it: what it gives up is a dead letter once it has ended"
    if state is JobState.CANCELLED:
        return f"{name} was cancelled: what failed in it is no dead letter"
    if is_old:
        return f"A later import than {name} has read the whole catalogue anew: what failed in that one counts"
    return None


@dataclass(frozen=True, slots=True)
class LetterName:
    """What an id names: a product's step, or what an import gave up."""

    step: DeadStep
    product_id: str = ""
    job_id: str = ""
    external_id: str = ""


def letter_id(product_id: str, step: StepKind) -> str:
    """What names a dead step in an address, whatever the platform has in its products' ids."""
    return f"{step.value}.{_encoded(product_id)}"


def item_id(job_id: str, external_id: str) -> str:
    """What names a product that an import gave up, whatever the source has in its ids."""
    return f"{DeadStep.IMPORT.value}.{_encoded(job_id + _SEPARATOR + external_id)}"


def parse_letter_id(text: str) -> LetterName | None:
    """What it names; None for what names no dead letter."""
    word, _, code = text.partition(".")
    if word not in set(DeadStep) or not code or len(text) > LONGEST_ID:
        return None
    try:
        decoded = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    step, parts = DeadStep(word), decoded.split(_SEPARATOR)
    if len(parts) != (2 if step is DeadStep.IMPORT else 1) or _encoded(decoded) != code:
        return None  # one letter has one name
    if step is DeadStep.IMPORT:
        return LetterName(step, job_id=parts[0], external_id=parts[1])
    return LetterName(step, product_id=parts[0])


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")
