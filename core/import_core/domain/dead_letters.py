"""Dead letters as a person meets them: what names one, and what to look at for each reason. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from import_core.domain.steps import StepKind

LONGEST_ID = 253
_BY_WORD = {kind.value: kind for kind in StepKind}


@dataclass(frozen=True, slots=True)
class Advice:
    """What to look at: `field` of the product, or of the installation where it is not the product's fault."""

    field: str
    fix: str


_INSTALLATION = "installation"
_PRODUCT = "product"
_AGAIN = "then retry"
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
    "InvalidInput": Advice(
        _PRODUCT,
        "A value can't be used: the message names it. Change it where the product comes from; the next import takes "
        "the step again.",
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
    "ModelNotUsable": Advice(_INSTALLATION, f"Put the model's folder and its settings in order, {_AGAIN}."),
    "InvalidCredentials": Advice(
        _INSTALLATION, f"Put the key of the service that the step calls in order, {_AGAIN}."
    ),
    "StorageRefused": Advice(
        "images",
        f"The object store refuses to give the product's images: put the workers' rights in order, {_AGAIN}.",
    ),
    "EmbeddingFailed": Advice(
        _INSTALLATION, f"The model failed on this batch: the workers' logs say how; {_AGAIN}."
    ),
    "ProviderUnavailable": Advice(
        _INSTALLATION, "A service did not answer in all tries. Once it does, retry all of this reason."
    ),
    "ProviderThrottled": Advice(
        _INSTALLATION,
        f"A service asked to slow down in all tries. Lower the step's pool or its budget, {_AGAIN}.",
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


def advice_for(reason: str | None, *, retryable: bool) -> Advice:
    """What a person does about a dead letter. `retryable`: it was out of tries, and not invalid."""
    return _ADVICE.get(reason or "") or (_OUT_OF_TRIES if retryable else _INVALID)


def letter_id(product_id: str, step: StepKind) -> str:
    """What names a dead letter in an address, whatever the platform has in its products' ids."""
    word = base64.urlsafe_b64encode(product_id.encode("utf-8", "surrogatepass")).decode().rstrip("=")
    return f"{step.value}.{word}"


def parse_letter_id(text: str) -> tuple[str, StepKind] | None:
    """Product and step; None for what names no dead letter."""
    step, _, word = text.partition(".")
    if step not in _BY_WORD or not word or len(text) > LONGEST_ID:
        return None
    try:
        raw = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
        product_id = raw.decode()
    except (binascii.Error, ValueError):
        return None
    if "\0" in product_id or letter_id(product_id, _BY_WORD[step]) != text:
        return None  # one letter has one name
    return product_id, _BY_WORD[step]
