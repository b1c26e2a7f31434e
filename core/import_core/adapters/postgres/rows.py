"""Reading rows of "ProductImportJob" as values of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from import_core.domain.jobs import (
    DEFAULT_QUEUE,
    ITEMS_CHECKPOINT_VERSION,
    Checkpoint,
    ItemsPlace,
    JobRow,
    JobState,
    ObjectReference,
    Progress,
)

# Joined with the checkpoint and the claim: both are keyed by the job's id.
_STORED = """
    j.id, j."companyId", j.provider, j.status, j.namespace, coalesce(j."queuedAt", j."createdAt"), j.queue,
    j."objectName", j."objectUid", j.spec, j.attempt, j.deaths, j.dispatch, j."dispatchedAt", j."notBefore",
    j."startedAt", j."completedAt", j.suspended, j."waitingReason", j."failureReason",
    j."errorMessage", j.generation, c.progress, k.live_progress, k.worker_id, j."confirmedRemovals",
    j."itemsOnly", j."itemsRetryToken", j."correlationId"
"""
_HOLDS = """
    coalesce((SELECT s.paused OR s.emergency_phase = 'Paused' FROM imports.queue_state s
              WHERE s.queue = coalesce(j.queue, 'product-imports')), false),
    j.status = 'PENDING' AND EXISTS (SELECT FROM imports.pause p
        WHERE (p.scope = 'company' AND p.name = j."companyId")
           OR (p.scope = 'provider' AND p.name = j.provider
               AND (p.namespace = j.namespace OR coalesce(j.namespace, '') = ''))),
    CASE WHEN j.status = 'PENDING' THEN (
        SELECT coalesce(j."queuedAt", j."createdAt")
            + coalesce((s.thresholds ->> 'basic_delay_seconds')::float8, 0) * interval '1 second'
        FROM imports.queue_state s
        WHERE s.queue = coalesce(j.queue, 'product-imports')
          AND s.health_level IN ('Degraded', 'Critical', 'Overload')
          AND coalesce((SELECT c.tier::text FROM "Company" c WHERE c.id = j."companyId"), 'BASIC')
              NOT IN ('PRO', 'ENTERPRISE')) END,
    j.status = 'PENDING' AND EXISTS (SELECT FROM imports.breaker b
        WHERE b.state <> 'Closed' AND b.name = j.provider
          AND (b.namespace = j.namespace OR coalesce(j.namespace, '') = ''))
"""
JOB_COLUMNS = f"{_STORED}, {_HOLDS}"
# Of a job that is being claimed, which nothing holds up: asking would cost a quarter of the statement.
CLAIMED_COLUMNS = f"{_STORED}, false, false, NULL::timestamptz, false"
JOB_TABLES = """
    "ProductImportJob" j
    LEFT JOIN imports.checkpoint c ON c.job_id = j.id
    LEFT JOIN imports.claim k ON k.job_id = j.id
"""

_PROGRESS_FIELDS = frozenset(f.name for f in fields(Progress))


def progress_from_json(value: Mapping[str, Any] | None) -> Progress:
    """Read counters of this or an older version; unknown ones are left out."""
    return Progress(**{key: item for key, item in (value or {}).items() if key in _PROGRESS_FIELDS})


def current_progress(committed: Mapping[str, Any] | None, live: Mapping[str, Any] | None) -> Progress:
    """The newer of the last checkpoint's counters and the last renewal's, which count on from a checkpoint."""
    checkpoint, renewal = progress_from_json(committed), progress_from_json(live)
    if live is None or renewal.products_done < checkpoint.products_done:
        return checkpoint
    return renewal


def progress_to_json(progress: Progress) -> dict[str, Any]:
    """Counters as JSON values."""
    return asdict(progress)


def cursor_to_json(checkpoint: Checkpoint) -> Mapping[str, Any] | None:
    """A checkpoint's cursor as it is stored: the provider's own, with the place among failed items if any."""
    if checkpoint.items is None:
        return checkpoint.cursor
    return {"catalogue": checkpoint.cursor, "items": asdict(checkpoint.items)}


def cursor_from_json(
    version: int, value: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, ItemsPlace | None]:
    """Read a cursor stored under a checkpoint's version: the provider's, and the place among failed items."""
    if version < ITEMS_CHECKPOINT_VERSION or value is None:
        return value, None
    items = value["items"]
    return value["catalogue"], ItemsPlace(items["run"], items["after"], tuple(items["done"]))


def job_from_row(row: Sequence[Any]) -> JobRow:
    """Turn a row of JOB_COLUMNS or CLAIMED_COLUMNS into a JobRow.

    Columns that the platform left empty get their defaults.
    """
    namespace, object_name, object_uid = row[4], row[7], row[8]
    origin = ObjectReference(namespace, object_name, object_uid) if object_uid and object_name else None
    return JobRow(
        id=row[0],
        company_id=row[1],
        provider=row[2],
        state=JobState(row[3]),
        namespace=namespace,
        queued_at=row[5],
        queue=row[6] or DEFAULT_QUEUE,
        origin=origin,
        spec=row[9] or {},
        attempt=row[10] or 0,
        deaths=row[11] or 0,
        dispatch=row[12] or 0,
        dispatched_at=row[13],
        not_before=row[14],
        started_at=row[15],
        completed_at=row[16],
        suspended=bool(row[17]),
        waiting_reason=row[18],
        failure_reason=row[19],
        message=row[20],
        generation=row[21] or 0,
        progress=current_progress(row[22], row[23]),
        claimed_by=row[24],
        confirmed_removals=row[25],
        items_only=bool(row[26]),
        items_run=row[27],
        asked_correlation_id=row[28],
        queue_paused=row[29],
        connection_paused=bool(row[30]),
        delayed_until=row[31],
        breaker_open=bool(row[32]),
    )
