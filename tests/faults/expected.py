"""What a job's row says after a scenario, and what a scenario may leave otherwise than "all went well"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

BLAMED_SHARE = 0.02
"""Of all jobs, those that may be blamed for their workers' deaths while workers are killed at random."""
FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a scenario may leave otherwise than "every job completed at its first try".

    `most_tries`: failures of their own that jobs may count. `reopened`: names of jobs whose failed items
    were asked for again. `killed_alone`: at most BLAMED_SHARE of the jobs may end FAILED with WorkerKilled,
    and only after DEATHS_UNTIL_SUSPECTED deaths and one more, alone. `cancelled`: names of jobs that were
    deleted. `deaths_counted`: every cut claim is a death; False where the database itself was away.
    `short_pages`: the provider, or the limiter of its calls, may be away, so that a page ends with what was
    fetched until then. `commits_repeated`: PostgreSQL may be away, so that a page whose commit got no answer
    is committed once more by the same claim.
    """

    most_tries: int = 0
    killed_alone: bool = False
    cancelled: frozenset[str] = frozenset()
    reopened: frozenset[str] = frozenset()
    deaths_counted: bool = True
    short_pages: bool = False
    commits_repeated: bool = False


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A row of the job table with its checkpoint."""

    id: str
    name: str
    company: str
    status: str
    attempt: int
    deaths: int
    dispatch: int
    completed_at: datetime | None
    reason: str | None
    message: str | None
    progress: Mapping[str, Any] | None
    pages: int | None
