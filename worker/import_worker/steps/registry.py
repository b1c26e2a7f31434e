"""Which kinds of step this version knows, and what one is given to make itself from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from redis.asyncio import Redis

from import_core.adapters.postgres import Database
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.errors import InvalidInputError
from import_core.domain.steps import StepKind
from import_core.observability.metrics import WorkerMetrics
from import_worker.breakers import Breakers
from import_worker.settings import WorkerSettings
from import_worker.steps.base import Step


@dataclass(frozen=True, slots=True)
class StepContext:
    """What the worker has open; a step closes none of it."""

    settings: WorkerSettings
    database: Database
    store: ObjectStore
    redis: Redis
    breakers: Breakers
    metrics: WorkerMetrics


StepFactory = Callable[[StepContext], Awaitable[Step]]

# The modules are imported by the worker that runs them alone: a model's runtime is large.
MODULES: Mapping[StepKind, str] = {
    StepKind.EMBEDDING: "import_worker.steps.embedding",
    StepKind.QUALITY_CONTROL: "import_worker.steps.quality_control",
    StepKind.INDEX: "import_worker.steps.indexing",
}
"""Module of each kind; it offers `async def make_step(context: StepContext) -> Step`."""


def step_kind(queue: str) -> StepKind | None:
    """The kind of step that a queue serves; None: it serves imports."""
    return next((kind for kind in StepKind if kind.value == queue), None)


async def make_step(kind: StepKind, context: StepContext) -> Step:
    """Make the step of a kind. Raises InvalidInputError where its settings can't be used."""
    name = MODULES.get(kind)
    if name is None:
        raise InvalidInputError("IMPORT_QUEUE", f"this version has no step {kind.value}")
    factory: StepFactory = import_module(name).make_step
    return await factory(context)
