"""What goes over HTTP of the figures of the last days."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from import_core.adapters.postgres.step_figures import LONGEST_DAYS
from import_core.domain.resources.common import Count
from import_gateway.api.models import ApiModel


class DayFigures(ApiModel):
    """How a queue's jobs ended on one day."""

    day: date
    """The day, in UTC."""
    queue: str
    """The queue; each step after the import has one of its own."""
    completed: Count
    """Jobs that completed."""
    failed: Count
    """Jobs that failed."""
    is_at_least: bool
    """Whether there were more than are counted."""


class QueueDuration(ApiModel):
    """How long a queue's jobs took: of imports the newest 2,000 of the time that is looked at, of steps all but those
    over 2,000 of the last hour; over an hour old ones are rounded up, by at most a tenth."""

    queue: str
    """The queue."""
    jobs: Count
    """Completed jobs that were measured."""
    median_seconds: float
    """Half of them took no longer, from the first start to completion."""
    p95_seconds: float
    """Nineteen of twenty took no longer."""


class FailureFigure(ApiModel):
    """How many jobs failed for a reason, of as many as durations are of, and how many products were given up for it."""

    queue: str
    """The queue."""
    reason: str
    """The reason, as one word."""
    jobs: Count
    """Jobs that failed for it."""
    products: Count = 0
    """Of a step: products that were given up for it, also in jobs that completed; each time where it was repeated."""


class Figures(ApiModel):
    """Figures of the last days; the same answer is given for a minute."""

    days: list[DayFigures]
    """One for each day and queue, in order."""
    durations: list[QueueDuration]
    """One for each queue with completed jobs."""
    failures: list[FailureFigure]
    """The ten most frequent reasons, the most frequent first, jobs and products together."""
    measured_at: datetime
    """When they were read."""


class FiguresQuery(ApiModel):
    """Which figures are asked for."""

    model_config = ConfigDict(strict=False)

    days: Annotated[int, Field(ge=1, le=LONGEST_DAYS)] = 14
    """So many days, today among them."""
