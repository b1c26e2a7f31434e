"""What becomes of products that are gone from the source: archived, kept, or asked about first."""

from __future__ import annotations

from dataclasses import dataclass

from import_core.domain.errors import RemovalsNotConfirmedError
from import_core.domain.jobs import JobRow
from import_core.domain.resources.common import GROUP

CONFIRM_ANNOTATION = f"{GROUP}/confirm-removals"
"""On an ImportJob: its generation, as a person's word that the products asked about may be archived."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The products that are gone are archived."""

    products: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Too many are gone at once: nothing is archived until a person has confirmed it."""

    missing: int
    present: int
    max_percent: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing is archived: products of the source could be any of the `missing` ones.

    `unknown` are those that could not be told by id, `unlisted` those that it counted and did not list.
    """

    missing: int = 0
    unknown: int = 0
    unlisted: int = 0


def decide_removals(
    *,
    missing: int,
    present: int,
    max_percent: int,
    confirmed: bool,
    unidentified_failures: int,
    unlisted: int = 0,
) -> Archive | Ask | Nothing:
    """Decide on `missing` of a connection's `present` products, archived ones counted in neither.

    One product of the source whose id is not known, or that is counted and not listed, could be any of the
    missing ones, so nothing is archived then, confirmed or not. The share is compared exactly: 20 of 100 are not
    more than 20 percent, 21 of 104 are. A job that continues after a part was archived never asks about the rest.
    """
    if not missing:
        return Nothing()
    if unidentified_failures or unlisted:
        return Nothing(missing, unidentified_failures, unlisted)
    if confirmed or missing * 100 <= max_percent * present:
        return Archive(missing)
    return Ask(missing, present, max_percent)


def is_confirmed(job: JobRow) -> bool:
    """Whether a person has confirmed the removals of this very generation of the job."""
    return job.confirmed_removals is not None and job.confirmed_removals == job.generation


def not_confirmed(job: JobRow, question: Ask) -> RemovalsNotConfirmedError:
    """The question as the error that the job fails with: the numbers, and the command that answers it.

    A generation answers once: where it was confirmed for an earlier run, only a changed spec can be.
    """
    numbers = (
        f"{question.missing:,} of the connection's {question.present:,} products are gone from the source,"
        f" more than removed.maxPercent ({question.max_percent} %) allows; nothing was archived."
    )
    if job.origin is None:
        return RemovalsNotConfirmedError(
            f"{numbers} If this is right, run a job with a higher removed.maxPercent."
        )
    if job.confirmed_removals is not None and abs(job.confirmed_removals) == job.generation:
        return RemovalsNotConfirmedError(
            f"{numbers} Generation {job.generation} was confirmed for an earlier run. If this is right too, change"
            f" the spec (a higher removed.maxPercent, say) and run the job again with {GROUP}/retry, or apply a"
            f" job of another name."
        )
    command = (
        f"kubectl annotate importjob {job.origin.name} --namespace {job.origin.namespace} --overwrite"
        f" {CONFIRM_ANNOTATION}={job.generation}"
    )
    return RemovalsNotConfirmedError(f"{numbers} If this is right, confirm it: {command}")


def describe_removals(archived: int, kept: Nothing | None = None) -> str | None:
    """What a person should know of the removals of a job that went through; None where nothing was gone."""
    if kept is not None and (kept.unknown or kept.unlisted):
        why = []
        if kept.unlisted:
            why.append(f"it counts {_products(kept.unlisted)} that it did not list")
        if kept.unknown:
            why.append(f"{_products(kept.unknown)} of the source could not be told by id")
        return (
            f"{_products(kept.missing)} not seen at the source {'is' if kept.missing == 1 else 'are'} kept:"
            f" {', and '.join(why)}"
        )
    return f"{_products(archived)} archived, gone from the source" if archived else None


def _products(number: int) -> str:
    return "1 product" if number == 1 else f"{number:,} products"
