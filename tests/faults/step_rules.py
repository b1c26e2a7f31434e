"""The checker's rules for steps after the import, as plain functions of plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faults.expected import Expectation, JobRecord
from faults.statuses import History
from import_core.domain.steps import STEPS_IN_ORDER, StepKind, StepState

OPEN_JOB = frozenset({"PENDING", "IN_PROGRESS"})
APPROVED = "approved"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A row of imports.product_step. `batch`: the state of the job that it is in ("": gone), None where in none.

    `is_current`: it was last done for the content that it was last asked for.
    """

    product: str
    company: str
    step: str
    state: str
    attempts: int
    is_current: bool
    batch: str | None
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A job that stands for a batch; `parent_id` is its ImportJob's row, and `parent_state` "" where there is none."""

    job: JobRecord
    parent_id: str | None
    parent_state: str


@dataclass(frozen=True, slots=True)
class ProductRecord:
    """A product of a company whose imports ask for steps, and what the stores keep of it.

    `decisions` are the verdicts in all rows, `texts`, `pictures` and `documents` numbers of rows; all of the content
    that the product's steps were last asked for. `outdated`: rows of any of the stores that are of another one.
    """

    id: str
    company: str
    images: int
    decisions: tuple[str, ...] = ()
    texts: int = 0
    pictures: int = 0
    documents: int = 0
    outdated: int = 0


def check_product_steps(
    products: Iterable[ProductRecord],
    rows: Collection[StepRecord],
    asked: Mapping[str, Collection[StepKind]],
    expected: Expectation,
) -> Iterator[str]:
    """Each product has each step that its company's imports ask for in one row, which has ended, and no other."""
    found = Counter((row.product, row.step) for row in rows)
    wanted = {(p.id, kind.value): p.company for p in products for kind in asked.get(p.company, ())}
    for (product, step), company in wanted.items():
        number = found.pop((product, step), 0)
        if number != 1:
            yield f"{company}: product {product} has {number} rows of {step}"
    for product, step in found:
        yield f"product {product} has {step}, which nobody asked for"
    for row in rows:
        yield from _row(row, expected)


def _row(row: StepRecord, expected: Expectation) -> Iterator[str]:
    what = f"{row.company}: {row.step} of product {row.product}"
    if row.state == StepState.DEAD:
        yield f"{what} is dead after {row.attempts} tries: {row.reason}: {row.message}"
    elif row.state not in {StepState.DONE, StepState.HALTED}:
        yield f"{what} is {row.state}"
    if row.state == StepState.DONE and not row.is_current:
        yield f"{what} is done, but not for what was asked for"
    if row.state == StepState.DUE and row.batch not in OPEN_JOB:
        yield f"{what} is due, and in no batch that anybody will take ({row.batch})"
    if row.state != StepState.DUE and row.batch is not None:
        yield f"{what} is {row.state}, and still in a batch that is {row.batch or 'gone'}"
    if row.attempts > expected.most_tries and row.state != StepState.DEAD:
        yield f"{what} has used up {row.attempts} tries: {row.reason}: {row.message}"


def check_order(rows: Iterable[StepRecord], products: Iterable[ProductRecord]) -> Iterator[str]:
    """A step is halted where quality control does not let its product through, and nowhere else."""
    decided = {product.id: product.decisions for product in products}
    steps: dict[str, dict[str, StepRecord]] = {}
    for row in rows:
        steps.setdefault(row.product, {})[row.step] = row
    for product, found in steps.items():
        checked = found.get(StepKind.QUALITY_CONTROL)
        stops = checked is not None and set(decided.get(product, ())) != {APPROVED}
        after = STEPS_IN_ORDER.index(StepKind.QUALITY_CONTROL)
        for kind, row in found.items():
            is_halted = row.state == StepState.HALTED
            if is_halted != (stops and STEPS_IN_ORDER.index(StepKind(kind)) > after):
                word = "not " if not is_halted else ""
                yield f"{row.company}: {kind} of product {product} is {word}halted, decided: {decided.get(product)}"


def check_stores(
    products: Iterable[ProductRecord], asked: Mapping[str, Collection[StepKind]]
) -> Iterator[str]:
    """Every store has each product once that belongs there, as it is now, and no other."""
    for product in products:
        kinds = asked.get(product.company, ())
        checked = StepKind.QUALITY_CONTROL in kinds
        approved = not checked or product.decisions == (APPROVED,)
        embedded, indexed = StepKind.EMBEDDING in kinds, StepKind.INDEX in kinds
        for store, number, wanted in (
            ("decisions", len(product.decisions), checked),
            ("vectors of its text", product.texts, embedded),
            ("vectors of an image", product.pictures, embedded and product.images > 0),
            ("search documents", product.documents, indexed and approved),
        ):
            if number != int(wanted):
                yield f"{product.company}: product {product.id} has {number} {store}, not {int(wanted)}"
        if product.outdated:
            yield f"{product.company}: {product.outdated} rows of product {product.id} are of another content"


def check_batches(batches: Iterable[BatchRecord]) -> Iterator[str]:
    """Every batch belongs to an ImportJob and has completed."""
    for batch in batches:
        if not batch.parent_id or not batch.parent_state:
            yield f"{batch.job.name} {batch.job.id} belongs to no import ({batch.parent_id})"
        if batch.job.status != "COMPLETED":
            yield f"{batch.job.name} {batch.job.id} is {batch.job.status}: {batch.job.reason}: {batch.job.message}"


def check_enriched(names: Collection[str], histories: Iterable[History]) -> Iterator[str]:
    """The objects of imports that completed say that their steps have ended."""
    told = {history.name: _enriched(history) for history in histories}
    for name in sorted(names):
        if told.get(name) != "True":
            yield f"{name}: its object does not say that its steps have ended: Enriched {told.get(name)}"


def _enriched(history: History) -> str | None:
    conditions: Sequence[Mapping[str, Any]] = (history.statuses or [{}])[-1].get("conditions") or ()
    return next((str(item["status"]) for item in conditions if item["type"] == "Enriched"), None)
