"""Steps that a product takes after its import: which there are, in which order, what one gets and gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from import_core.domain.failures import retry_delay


class StepKind(StrEnum):
    """A kind of step; its word is also the name of the queue that serves it. In the order that a product takes them."""

    EMBEDDING = "generate-embedding"
    QUALITY_CONTROL = "quality-control"
    INDEX = "index-product"


@dataclass(frozen=True, slots=True)
class StepImage:
    """An image of a product, as it lies in the object store."""

    key: str
    content_type: str
    width: int
    height: int
    sha256: str | None = None
    alt_text: str | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class StepProduct:
    """A product as a step sees it: its row, and its images by position. `content_hash` names this state of it."""

    product_id: str
    company_id: str
    content_hash: str
    title: str
    description: str | None = None
    price: Decimal | None = None
    currency: str | None = None
    vendor: str | None = None
    product_type: str | None = None
    status: str | None = None
    tags: tuple[str, ...] = ()
    images: tuple[StepImage, ...] = ()
    version: int = 0
    """Only goes up with what a step makes something of (microseconds): a store of its own refuses an earlier one."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """The step is done for a product; `result` is kept with it (JSON values, small).

    `halts`: the product takes no further step (quality control did not approve it).
    """

    product_id: str
    result: Mapping[str, Any] = field(default_factory=dict)
    halts: bool = False


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The step failed for a product; tried again where `retryable`, and dead-lettered where not or out of tries."""

    product_id: str
    reason: str
    """Short CamelCase word."""
    message: str
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class StepPostponed:
    """The step could not be taken for a product now, which is no failure of it: tried again, without a try used up."""

    product_id: str
    seconds: float
    """Until then."""
    waiting_reason: str
    message: str | None = None


StepOutcome = StepDone | StepFailed | StepPostponed


STEPS_IN_ORDER = tuple(StepKind)
BATCH_SIZES: Mapping[StepKind, int] = {
    StepKind.EMBEDDING: 32,
    StepKind.QUALITY_CONTROL: 10,
    StepKind.INDEX: 200,
}
"""Products of one step job, at most: as many as one call of the step's own service takes well."""
RETRY_DELAYS_SECONDS = (2.0, 4.0, 8.0)
"""One try, plus a retry after each of these (docs/reference/lifecycle.md)."""
BATCH_TIMEOUT = "Timeout"
"""Reason of products whose batch took too long."""
_ENRICH_FIELDS = {
    StepKind.EMBEDDING: "embedding",
    StepKind.QUALITY_CONTROL: "qualityControl",
    StepKind.INDEX: "index",
}


class StepState(StrEnum):
    """Where a product's step stands."""

    WAITING = "Waiting"
    """An earlier step of the product comes first."""
    DUE = "Due"
    """In a batch: waiting, running, or to be tried again."""
    DONE = "Done"
    HALTED = "Halted"
    """Not taken, because an earlier step did not let the product through."""
    DEAD = "Dead"
    """Invalid or out of tries: in the dead-letter queue."""
    DISCARDED = "Discarded"
    """Taken out of the dead-letter queue by a person; not tried again for this content."""
    CANCELLED = "Cancelled"
    """Its ImportJob was cancelled or deleted."""

    @property
    def is_open(self) -> bool:
        """Whether it is still to come."""
        return self in {StepState.WAITING, StepState.DUE}


@dataclass(frozen=True, slots=True)
class KnownStep:
    """A row of imports.product_step: one step of one product."""

    product_id: str
    kind: StepKind
    content_hash: str
    """Of the product that the step was asked for."""
    state: StepState
    attempts: int = 0
    """Tries that have failed."""
    retryable: bool = True
    """Of a dead one: whether it was out of tries, and not invalid."""
    halts: bool = False
    """Of one that is done: the product takes no further step."""
    batch_id: str | None = None
    job_id: str | None = None
    """The ImportJob that asked last."""
    company_id: str = ""
    was_done: bool = False
    """It was done for some state of the product: what it made then is there."""


def asked_steps(spec: Mapping[str, Any]) -> tuple[StepKind, ...]:
    """The steps that an ImportJob's spec, as its row keeps it, asks for; in their order."""
    enrich = spec.get("enrich")
    if not isinstance(enrich, Mapping):
        return ()
    return tuple(kind for kind in STEPS_IN_ORDER if enrich.get(_ENRICH_FIELDS[kind]) is True)


def plan_steps(
    kinds: Sequence[StepKind], content_hash: str, known: Sequence[KnownStep], *, product_id: str, job_id: str
) -> list[KnownStep]:
    """Rows to write for a product that an ImportJob has brought; empty where every step is done already.

    A step that is done for this content is skipped, and so is one that is invalid or was discarded for it. One
    that was out of tries or cancelled is tried anew. A step that is under way keeps its batch and its failed tries.
    One that only an earlier job asked for is taken as well, with what the product is now: others wait for it.
    """
    rows = {row.kind: row for row in known}
    wanted: list[KnownStep] = []
    for kind in STEPS_IN_ORDER:
        row = rows.get(kind)
        if kind not in kinds:
            if row is not None and row.state.is_open:
                changed = row.content_hash != content_hash
                wanted.append(_anew(row, content_hash, row.job_id) if changed else row)
        elif row is None:
            wanted.append(KnownStep(product_id, kind, content_hash, StepState.WAITING, job_id=job_id))
        elif row.content_hash != content_hash or _is_tried_anew(row):
            wanted.append(_anew(row, content_hash, job_id))
        else:
            wanted.append(row)
    planned = [
        replace(row, job_id=job_id) if row.kind in kinds and row.state.is_open else row
        for row in settle_steps(wanted)
    ]
    return [row for row in planned if row != rows.get(row.kind)]


def _anew(row: KnownStep, content_hash: str, job_id: str | None) -> KnownStep:
    """The step as it is to be taken with that content; one that is in a batch keeps it."""
    return KnownStep(
        row.product_id,
        row.kind,
        content_hash,
        StepState.DUE if row.state is StepState.DUE else StepState.WAITING,
        batch_id=row.batch_id,
        job_id=job_id,
        company_id=row.company_id,
        was_done=row.was_done,
    )


def _is_tried_anew(row: KnownStep) -> bool:
    return row.state is StepState.CANCELLED or (row.state is StepState.DEAD and row.retryable)


def settle_steps(rows: Sequence[KnownStep]) -> list[KnownStep]:
    """Whose turn it is: the first step that is open is due, those behind it wait, those behind a stop are halted.

    A product that is not let through any more takes the index's step all the same where it was indexed before:
    that step takes it out.
    """
    due = halted = rejected = False
    settled: list[KnownStep] = []
    for row in sorted(rows, key=lambda row: STEPS_IN_ORDER.index(row.kind)):
        state = row.state
        if state.is_open or state is StepState.HALTED:
            if halted and not (rejected and row.was_done and row.kind is StepKind.INDEX):
                state = StepState.HALTED
            elif due:
                state = StepState.WAITING
            else:
                state, due = StepState.DUE, True
        elif state is not StepState.DONE or row.halts:
            halted, rejected = True, state is StepState.DONE
        settled.append(row if state is row.state else replace(row, state=state))
    return settled


def following_steps(ended: KnownStep, rows: Sequence[KnownStep]) -> list[KnownStep]:
    """Rows behind one that has changed, as they are to be now; only those that differ.

    Of the product's `rows` only those of the same content count: others belong to an earlier state of it. A cancelled
    one stands in nobody's way: it was another ImportJob's, which is gone.
    """
    later = [
        row
        for row in rows
        if STEPS_IN_ORDER.index(row.kind) > STEPS_IN_ORDER.index(ended.kind)
        and row.content_hash == ended.content_hash
        and row.state is not StepState.CANCELLED
    ]
    before = {row.kind: row for row in later}
    return [row for row in settle_steps([ended, *later]) if row.kind in before and row != before[row.kind]]


@dataclass(frozen=True, slots=True)
class StepEnd:
    """What becomes of a row after a try; `retry_after` seconds where it is tried again."""

    row: KnownStep
    outcome: StepOutcome
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """What becomes of a batch and its job."""

    ends: Sequence[StepEnd]
    job_again: bool
    """None got through and all are tried again: the job itself is due again, with the same products."""
    delay_seconds: float = 0.0
    """Until the job is due again."""
    failure: StepFailed | None = None
    """Of a batch of which nothing got through: why."""

    @property
    def done(self) -> int:
        """Products that got through."""
        return sum(isinstance(end.outcome, StepDone) for end in self.ends)


def end_batch(rows: Sequence[KnownStep], outcomes: Sequence[StepOutcome], *, spread: float) -> BatchEnd:
    """Decide on a batch's rows by their outcomes; a product without one counts as failed. `spread`: in [0, 1).

    A retry is for the products that failed alone, the last one for each by itself, so that one bad product takes
    no others with it.
    """
    told = {outcome.product_id: outcome for outcome in outcomes}
    ends = [_end_step(row, told.get(row.product_id), spread) for row in rows]
    again = [end for end in ends if end.retry_after is not None]
    failures = [end.outcome for end in ends if isinstance(end.outcome, StepFailed)]
    failure = failures[0] if failures and len(failures) == len(ends) else None
    is_last = any(is_last_try(end.row.attempts) for end in again)
    # What is postponed waits longer than what failed, and apart from it.
    whole = bool(again) and len(failures) == len(again) == len(ends) and (len(ends) == 1 or not is_last)
    delay = max((end.retry_after or 0.0 for end in again), default=0.0)
    return BatchEnd(ends, whole, delay if whole else 0.0, failure)


def is_last_try(attempts: int) -> bool:
    """Whether no other try follows the next one, after so many that failed."""
    return attempts >= len(RETRY_DELAYS_SECONDS)


def _end_step(row: KnownStep, outcome: StepOutcome | None, spread: float) -> StepEnd:
    if outcome is None:
        outcome = StepFailed(row.product_id, "NoOutcome", "the step told nothing of this product")
    if isinstance(outcome, StepDone):
        return StepEnd(replace(row, state=StepState.DONE, halts=outcome.halts, retryable=True), outcome)
    if isinstance(outcome, StepPostponed):
        return StepEnd(row, outcome, outcome.seconds)
    failed = row.attempts + 1
    if outcome.retryable and not is_last_try(row.attempts):
        return StepEnd(
            replace(row, attempts=failed), outcome, retry_delay(row.attempts, spread, RETRY_DELAYS_SECONDS)
        )
    return StepEnd(
        replace(row, state=StepState.DEAD, attempts=failed, retryable=outcome.retryable, halts=False), outcome
    )


def in_batches(rows: Sequence[KnownStep], size: int) -> list[list[KnownStep]]:
    """Rows of one kind, company and ImportJob in batches of at most `size`; in a last try each is alone."""
    alone = [[row] for row in rows if is_last_try(row.attempts)]
    rest = [row for row in rows if not is_last_try(row.attempts)]
    return [*alone, *(rest[start : start + size] for start in range(0, len(rest), size))]


@dataclass(frozen=True, slots=True)
class StepCounts:
    """An ImportJob's products by the state of one step."""

    due: int = 0
    """Due, or waiting for an earlier step."""
    done: int = 0
    halted: int = 0
    dead: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.due + self.done + self.halted + self.dead + self.cancelled


def count_states(states: Mapping[StepState, int]) -> StepCounts:
    """Sum states up as people are shown them; discarded ones count as dead."""
    return StepCounts(
        due=states.get(StepState.DUE, 0) + states.get(StepState.WAITING, 0),
        done=states.get(StepState.DONE, 0),
        halted=states.get(StepState.HALTED, 0),
        dead=states.get(StepState.DEAD, 0) + states.get(StepState.DISCARDED, 0),
        cancelled=states.get(StepState.CANCELLED, 0),
    )
