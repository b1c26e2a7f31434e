"""What follows in PostgreSQL when a person decides on a product: where quality control meets the steps after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from import_core.adapters.postgres.catalogue_versions import bump
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.postgres.step_rows import lock_rows
from import_core.adapters.postgres.steps import judge_steps
from import_core.domain.quality import Verdict
from import_core.domain.steps import StepKind


@dataclass(frozen=True, slots=True)
class Change:
    """A product whose decision a person changed, in the state that `content_hash` names."""

    product_id: str
    company_id: str
    content_hash: str
    before: Verdict
    after: Verdict


async def lock_followers(connection: Connection, product_ids: Sequence[str]) -> None:
    """Called first in that transaction, before decisions are locked: what `follow_decisions` is going to change is
    locked here, in the order in which the end of a batch locks it, so that the two never wait for each other.
    """
    await lock_rows(connection, sorted(product_ids))


async def follow_decisions(connection: Connection, changes: Sequence[Change]) -> None:
    """Called inside the transaction of a person's decisions, with all that changed by them.

    What became approved is due for its next step, what no longer is takes none, and is taken out of the search index
    if it is there. A search shows neither before: it asks imports.quality_decision, and the catalogue's version tells
    caches.
    """
    for halts in (False, True):
        judged = [change.product_id for change in changes if (change.after is not Verdict.APPROVED) is halts]
        if judged:
            await judge_steps(connection, judged, StepKind.QUALITY_CONTROL, halts=halts)
    await bump(connection, {change.company_id for change in changes})
