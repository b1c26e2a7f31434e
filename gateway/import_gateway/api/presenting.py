"""What the API says of a job: from its row, which is authoritative, or from its object while it has none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from import_core.adapters.postgres.jobs import DEPTH_CAP
from import_core.domain.estimates import seconds_until_done, seconds_until_start
from import_core.domain.jobs import JobRow, JobState, Progress
from import_core.domain.live import state_id
from import_core.domain.projection import PHASES, attempts, message, waiting_reason
from import_core.domain.resources.conditions import ImportJobCondition, bound_message, get_condition
from import_core.domain.resources.import_job import JobPhase
from import_gateway.api.models import Estimate, Import, ImportProgress


def present_row(
    row: JobRow,
    *,
    namespace: str,
    now: datetime,
    estimate: Estimate | None = None,
    dead_letters: int = 0,
) -> Import:
    """A recorded job."""
    return Import(
        namespace=row.namespace or namespace,
        name=row.origin.name if row.origin else row.id,
        id=row.id,
        company_id=row.company_id,
        provider=row.provider,
        queue=row.queue,
        phase=PHASES[row.state],
        message=bound_message(message(row)),
        reason=row.failure_reason if row.state is JobState.FAILED else None,
        waiting_reason=waiting_reason(row, now),
        attempts=attempts(row),
        suspended=row.suspended,
        progress=_progress(row.progress),
        dead_letters=dead_letters,
        queued_at=row.queued_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        estimate=estimate,
    )


def present_object(body: Mapping[str, Any]) -> Import:
    """A job without a row: it was just submitted, or the operator refused it and says why."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    accepted = get_condition(status.get("conditions") or [], ImportJobCondition.ACCEPTED)
    refused = accepted is not None and accepted["status"] == "False"
    return Import(
        namespace=metadata["namespace"],
        name=metadata["name"],
        id=metadata["uid"],
        company_id=spec.get("companyId", ""),
        provider=(spec.get("providerRef") or {}).get("name", ""),
        phase=JobPhase(status.get("phase") or JobPhase.PENDING),
        message=status.get("message") or "Waits to be recorded",
        reason=accepted["reason"] if accepted is not None and refused else None,
        suspended=bool(spec.get("suspend")),
    )


def estimate_of(
    row: JobRow, *, now: datetime, place: int | None, running: int, average_seconds: float | None
) -> Estimate | None:
    """How long it will take; None for what is finished or held back. `place` None: it is not known."""
    if row.state is JobState.IN_PROGRESS:
        return Estimate(
            seconds_until_done=seconds_until_done(row.progress, started_at=row.started_at, now=now)
        )
    if row.state is not JobState.PENDING or row.suspended:
        return None
    if row.not_before is not None and row.not_before > now:
        return Estimate(seconds_until_due=(row.not_before - now).total_seconds())
    if place is None:
        return Estimate()
    start = seconds_until_start(place=place, running=running, average_seconds=average_seconds)
    return Estimate(
        place=place,
        place_is_at_least=place >= DEPTH_CAP,
        seconds_until_start=None if row.queue_paused else start,
    )


def event_id(view: Import) -> str:
    """The id of a job's state; estimates change it not, as they change with the time alone."""
    return state_id(view.model_dump(mode="json", by_alias=True, exclude={"estimate"}))


def differs(new: Import, old: Import) -> bool:
    """Whether a listener should be told; times that only shrink with time itself are no news."""
    without = {"estimate": None}
    if new.model_copy(update=without) != old.model_copy(update=without):
        return True
    return (new.estimate and new.estimate.place) != (old.estimate and old.estimate.place)


def _progress(progress: Progress) -> ImportProgress:
    return ImportProgress(
        products_total=progress.products_total,
        products_done=progress.products_done,
        products_imported=progress.products_imported,
        products_unchanged=progress.products_unchanged,
        products_failed=progress.products_failed,
        images_total=progress.images_total,
        images_imported=progress.images_imported,
        images_unchanged=progress.images_unchanged,
        images_failed=progress.images_failed,
        percent=progress.percent,
    )
