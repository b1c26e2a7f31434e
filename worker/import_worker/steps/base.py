"""What a kind of step must offer to be run as a job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from import_core.adapters.postgres.pool import Connection
from import_core.domain.steps import StepKind, StepOutcome, StepProduct


@dataclass(frozen=True, slots=True)
class StepBatch:
    """What became of a batch: one outcome for each product that was given.

    `rest`: what kept the products without an outcome from being taken. It counts for them as if the step had raised it,
    and the others go on.
    `write` is called inside the transaction that checks the claim and marks the steps as done: what a step keeps
    in PostgreSQL is written there, so that a worker that lost its claim changes nothing. What goes to another store
    is written before, by an idempotent call that names the product and its content hash.
    """

    outcomes: Sequence[StepOutcome]
    write: Callable[[Connection], Awaitable[None]] | None = None
    rest: Exception | None = None


class Step(Protocol):
    """One kind of step. Raises JobError, HandBackError or DependencyUnavailableError when all of the batch failed.

    What is wrong with one product is an outcome of it: an error that is permanent counts as one of the setup, and
    the batch waits until that is put right.
    """

    kind: StepKind

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        """Do the step for a batch of products of one company."""

    async def aclose(self) -> None:
        """Give back what it holds."""
