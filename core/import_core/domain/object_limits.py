"""How many unfinished jobs a company, and how many objects a namespace, may have, whatever the queue is like."""

from __future__ import annotations

from dataclasses import dataclass

from import_core.domain.backpressure import IntakeRefusal

RETRY_SECONDS = 600
"""When to ask again: finished jobs and objects go by themselves, but nobody can say when."""


@dataclass(frozen=True, slots=True)
class ObjectLimits:
    """From these numbers on nothing is added."""

    company_jobs: int = 10_000
    """Unfinished jobs of one company; those that are not due yet, or suspended, count too."""
    namespace_objects: int = 25_000
    """ImportJobs of one namespace, finished ones included."""


def decide_room_for_object(
    limits: ObjectLimits, *, company_jobs: int | None, namespace_objects: int | None
) -> IntakeRefusal | None:
    """Whether one more ImportJob may be added: None, or a refusal. A number that is unknown (None) refuses nothing."""
    if namespace_objects is not None and namespace_objects >= limits.namespace_objects:
        return IntakeRefusal(
            f"There are {namespace_objects:,} ImportJobs in this namespace, and no more than"
            f" {limits.namespace_objects:,} may be. Finished ones go after their time; delete what is not needed,"
            " or try again later.",
            RETRY_SECONDS,
        )
    if company_jobs is not None and company_jobs >= limits.company_jobs:
        return IntakeRefusal(
            f"This company has {limits.company_jobs:,} unfinished imports, and can't add to them. Please try"
            " again when some are done.",
            RETRY_SECONDS,
        )
    return None
