"""What goes over HTTP of dead letters: products that their import or a step after it gave up."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from import_core.domain.resources.common import CompanyId, Count
from import_gateway.api.models import ApiModel, RequestModel

StepWord = Literal["generate-embedding", "quality-control", "index-product"]
LetterStepWord = Literal["import", "generate-embedding", "quality-control", "index-product"]
Cursor = Annotated[
    str,
    Field(
        max_length=16_000,
        pattern=r"^[0-9]{1,16}\.(import|([0-9a-f]{2})*)\.([0-9a-f]{2})*(\.([0-9a-f]{2})*)?$",
    ),
]
Words = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
SomeWords = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
Moment = Annotated[str, Field(pattern=r"^[0-9]{1,16}$")]
MOST_AT_ONCE = 1_000
CHOICES = ("companyId", "job", "step", "reason", "product")


def _needs_a_choice(schema: dict[str, Any]) -> None:
    """Say that something must be chosen, or all of it."""
    chosen = [{"properties": {name: {"type": "string"}}, "required": [name]} for name in CHOICES]
    schema["anyOf"] = [*chosen, {"properties": {"all": {"const": True}}, "required": ["all"]}]


class DeadLetterView(ApiModel):
    """A product that its import, or a step after it, gave up."""

    id: str
    """Names it; the same product's same step, or import, has always the same."""
    product_id: str | None
    """Id of the product's row; null where an import gave it up that was never imported before."""
    external_id: str | None
    """The provider's id of the product; null where the product is gone."""
    import_source: str | None
    """The type of provider that it comes from."""
    title: str | None
    """The product's title."""
    company_id: str
    """Whose product it is."""
    job_id: str | None
    """The import that gave it up, or that asked for the step last; that one may be gone."""
    step: LetterStepWord
    """The step; `import`: the import itself."""
    reason: str
    """One word in CamelCase that says why; empty where nothing is known."""
    message: str | None
    """One sentence that says why."""
    attempts: Count
    """Tries that failed."""
    retryable: bool
    """Whether it was out of tries; else it is invalid, and trying it again as it is leads nowhere."""
    recorded_at: datetime
    """When the step was first asked for, or when the product failed in the import."""
    died_at: datetime
    """When it was given up: an import's products at the import's end."""


class DeadLetterPage(ApiModel):
    """Dead letters: of steps, those that died last first, then of imports, the newest imports first."""

    items: list[DeadLetterView]
    """The dead letters; a page may be short, or empty, and not the last."""
    next: str | None = None
    """Value of `cursor` for the next page; null when there is none."""


class DeadLetterReason(ApiModel):
    """How many dead letters of a step there are for a reason."""

    step: LetterStepWord
    """The step; `import`: the import itself."""
    reason: str
    """The reason; empty where nothing is known."""
    count: Count
    """How many."""
    newest_at: datetime
    """When the last one died."""
    retryable: bool
    """Whether some of them were out of tries; else all are invalid, and trying them again as they are leads nowhere."""
    field: str
    """What to look at: fields of the product, or the installation."""
    fix: str
    """What to do about it."""


class DeadLetterReasons(ApiModel):
    """Why products were given up."""

    items: list[DeadLetterReason]
    """The most frequent first, 50 at most."""
    more: bool
    """Whether there are further reasons."""
    total: Count
    """Dead letters, of all reasons."""
    is_at_least: bool
    """Whether there may be more, which are not counted: of steps the 100,000 that died last are looked at, of imports
    the 10,000 newest, and 100,000 errors of their items and images."""
    as_of: Moment
    """Names the moment of this answer, for `until` of what is done about it."""


class StepOfProduct(ApiModel):
    """How one step of a product stands."""

    step: StepWord
    """The step."""
    state: Literal["Waiting", "Due", "Done", "Halted", "Dead", "Discarded", "Cancelled"]
    """Halted: an earlier step did not let the product through."""
    attempts: Count
    """Tries that failed."""
    reason: str | None
    """Why it failed, as one word."""
    message: str | None
    """Why it failed."""
    changed_at: datetime
    """Since when it stands so."""


class ProductOfLetter(ApiModel):
    """The product as it is now."""

    title: str | None
    """Its title."""
    price: str | None
    """Its price in the currency's main unit, as a decimal number."""
    currency: str | None
    """The price's currency (ISO 4217)."""
    vendor: str | None
    """Its vendor."""
    product_type: str | None
    """Its type."""
    status: str | None
    """Its status."""
    images: Count
    """How many images it has."""


class DeadLetterDetail(DeadLetterView):
    """A dead letter with all that helps to decide on it."""

    field: str
    """What to look at: fields of the product, or the installation."""
    fix: str
    """What to do about it."""
    product: ProductOfLetter | None
    """The product; null where it is gone, or was never imported."""
    steps: list[StepOfProduct]
    """All steps of the product, in their order."""


class DeadLettersChanged(ApiModel):
    """What was done."""

    changed: Count
    """Dead letters that are none any more."""
    more: bool = False
    """Whether others are meant, too: the same request goes on with them, with `next` as its `cursor`."""
    next: str | None = None
    """Value of `cursor` to go on; null where all that are meant have been looked at."""
    skipped: Count = 0
    """Dead letters that were meant and stay: they can't be retried, or their import has begun to run again."""
    why: str | None = None
    """Why not, of one of them."""


class DeadLetterChoice(ApiModel):
    """Which dead letters are meant."""

    model_config = ConfigDict(strict=False)

    company_id: CompanyId | None = None
    """Only those of this company."""
    job: SomeWords | None = None
    """Only those of this import: its name, or its row's id."""
    step: LetterStepWord | None = None
    """Only those of this step; `import`: what imports gave up."""
    reason: Words | None = None
    """Only those that failed for this reason; empty: where none is known."""
    product: SomeWords | None = None
    """Only those of this product: its row's id, or its id at the source."""


class DeadLettersQuery(DeadLetterChoice):
    """Which dead letters are listed."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Dead letters on a page at most."""
    cursor: Cursor | None = None
    """The page's place: `next` of the page before."""


class DeadLettersRequest(RequestModel):
    """Which dead letters are retried or discarded: at least one choice, or all."""

    model_config = ConfigDict(json_schema_extra=_needs_a_choice)

    company_id: CompanyId | None = None
    """Only those of this company."""
    job: SomeWords | None = None
    """Only those of this import: its name, or its row's id."""
    step: LetterStepWord | None = None
    """Only those of this step; `import`: what imports gave up."""
    reason: Words | None = None
    """Only those that failed for this reason; empty: where none is known."""
    product: SomeWords | None = None
    """Only those of this product: its row's id, or its id at the source."""
    all: bool = False
    """All of them; needed where nothing else is said."""
    until: Moment | None = None
    """Value of `asOf`: none that died later, so that what is done is what was seen."""
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = MOST_AT_ONCE
    """At most so many, in the order of the list; what an import that is retried has beyond it counts, too."""
    cursor: Cursor | None = None
    """Where to go on: `next` of the answer before."""
