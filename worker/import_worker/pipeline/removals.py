"""The removals stage, at the end of a run over the whole catalogue: archives what is gone from the source."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from import_core.adapters.postgres.removals import Owner, Removals, RemovalStore
from import_core.domain.jobs import Claim, Progress
from import_core.domain.removals import (
    Archive,
    Ask,
    Nothing,
    decide_removals,
    describe_removals,
    is_confirmed,
    not_confirmed,
)
from import_worker.outages import through_outages

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RemovalStage:
    """Archives the products of one connection that one job did not see."""

    claim: Claim
    owner: Owner
    max_percent: int
    store: RemovalStore
    show: Callable[[Progress], None]
    """Called with the counters after each batch."""

    async def run(self, progress: Progress) -> str | None:
        """Archive what is gone; returns a sentence for people, if there is one to say.

        `progress` are the counters after the last page. A job that died in here continues: what is archived
        counts no more. Raises RemovalsNotConfirmedError, ClaimLostError and DatabaseUnavailableError.
        """
        found = await through_outages(lambda: self.store.measure(self.claim, self.owner), what="removals")
        decision = decide_removals(
            missing=found.missing,
            present=found.present,
            max_percent=self.max_percent,
            confirmed=is_confirmed(self.claim.job),
            unidentified_failures=_unknown(progress, found),
            unlisted=progress.products_unlisted,
        )
        log.info(
            "removals.decided",
            decision=type(decision).__name__,
            missing=found.missing,
            present=found.present,
            maxPercent=self.max_percent,
        )
        match decision:
            case Ask():
                raise not_confirmed(self.claim.job, decision)
            case Nothing():
                return describe_removals(progress.products_archived, decision)
            case Archive(products):
                return describe_removals(await self._archive(found, products, progress))

    async def _archive(self, found: Removals, products: int, before: Progress) -> int:
        """Archive at most `products`, batch by batch; returns how many the job archived in all its tries."""
        archived, after = before.products_archived, ""
        target = archived + products
        while archived < target:
            step = functools.partial(
                self.store.archive,
                self.claim,
                self.owner,
                since=found.since,
                after=after,
                limit=target - archived,
            )
            batch = await through_outages(step, what="archived products")
            if batch.last is None:
                break
            archived, after = batch.archived, batch.last
            self.show(replace(before, products_archived=archived))
            log.info("removals.archived", products=archived)
        return archived


def _unknown(progress: Progress, found: Removals) -> int:
    """Products of the source whose ids were not kept; all of them, where what was kept is gone."""
    if progress.products_seen and not found.has_seen:
        return progress.products_done
    return progress.products_done - progress.products_seen
