"""Tells of repairs: each in the log with its job, kind and reason, all of them counted by kind."""

from __future__ import annotations

from collections.abc import Iterable

from import_core.domain.repairs import RepairKind
from import_core.observability.logs import get_logger
from import_operator import metrics

log = get_logger(__name__)


def tell_repairs(kind: RepairKind, job_ids: Iterable[str], *, reason: str) -> None:
    """Log and count the repair of these jobs."""
    for job_id in job_ids:
        log.warning("job.repaired", jobId=job_id, kind=kind.value, reason=reason)
        metrics.REPAIRS.labels(kind.value).inc()
