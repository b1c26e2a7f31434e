"""How many unfinished jobs a company, and how many objects a namespace, may have, whatever the queue is like."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Objects let in between two counts of a namespace, believed as far as the last count found such ones.

    Whoever asks without creating anything adds to them, too. He is believed until the next count, and no longer:
    then it shows that the objects did not come. Where as many went as came, arrivals are not believed either,
    and up to one period's objects may be too many until they are counted.
    """

    let_in: int = 0
    """Since the last count, or the try at it."""
    counted: int | None = None
    """Objects at the last count."""
    believed: float = 1.0
    """The share of `let_in` that will have become objects."""

    def one_more(self) -> Arrivals:
        """An object was let in."""
        return replace(self, let_in=self.let_in + 1)

    def after_count(self, objects: int | None, *, let_in: int) -> Arrivals:
        """A count found so many objects (None: it failed), begun when `let_in` were let in."""
        rest = self.let_in - let_in
        if objects is None:
            return replace(self, let_in=rest)
        believed = 1.0
        if self.counted is not None and let_in:
            believed = min(1.0, max(0, objects - self.counted) / let_in)
        return Arrivals(rest, objects, believed)

    def estimate(self, objects: int) -> int:
        """How many objects there are now, if the last count found `objects`."""
        return objects + int(self.let_in * self.believed)


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
