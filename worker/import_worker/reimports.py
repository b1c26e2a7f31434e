"""Incremental re-imports on the worker: what a run lists is settled before its first call, the mark at its end."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import structlog

from import_core.adapters.postgres.reimports import ReimportStore
from import_core.adapters.postgres.removals import Owner
from import_core.domain.jobs import Claim, Progress
from import_core.domain.mapping import CompiledMapping
from import_core.domain.reimport import (
    Listing,
    Policy,
    ReimportMode,
    decide_listing,
    fingerprint_of,
    moves_mark,
)
from import_core.domain.resources.import_job import ImportJobSpec, RemovalAction
from import_core.domain.resources.import_provider import ImportProvider
from import_worker.outages import through_outages
from import_worker.providers.registry import FILTERS_BY_TIME

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reimport:
    """One run's part in it; `listing` is None for a run that moves no mark."""

    claim: Claim
    owner: Owner
    fingerprint: str
    listing: Listing | None
    store: ReimportStore

    @property
    def is_incremental(self) -> bool:
        """Whether the run lists only what changed."""
        return self.listing is not None and self.listing.since is not None

    async def conclude(self, progress: Progress) -> None:
        """Move the connection's mark after a run that went through. Raises ClaimLostError."""
        if self.listing is None:
            return
        failures = await through_outages(
            lambda: self.store.passing_failures(self.claim.job.id), what="failures that may pass"
        )
        moves = moves_mark(self.listing, progress, fingerprint=self.fingerprint, passing_failures=failures)
        if moves:
            step = functools.partial(self.store.move, self.claim, self.owner, self.listing)
            moves = await through_outages(step, what="re-import mark")
        log.info("reimport.concluded", moved=moves, since=_shown(self.listing))


async def begin_reimport(
    store: ReimportStore, claim: Claim, owner: Owner, spec: ImportJobSpec, fingerprint: str
) -> Reimport:
    """Settle what a run lists, and keep it. Raises ClaimLostError and DatabaseUnavailableError."""
    state = await through_outages(lambda: store.state(claim, owner), what="re-import mark")
    listing: Listing | None = None
    if not claim.job.items_only:
        if state.has_pages:
            # Its cursor is a place in that listing, whatever the spec says by now. Without one kept, nobody
            # knows when the run began: it goes on and moves no mark.
            listing = state.listing
        elif sets_mark(spec):
            listing = decide_listing(
                policy_of(spec),
                state.mark,
                fingerprint=fingerprint,
                filters_by_time=owner.import_source in FILTERS_BY_TIME,
                now=state.now,
            )
            begin = functools.partial(store.begin, claim, owner, listing)
            await through_outages(begin, what="re-import's listing")
        if listing is not None:
            log.info("reimport.listing", since=_shown(listing), full=listing.full)
    is_foreign = state.mark is not None and state.mark.fingerprint != fingerprint
    if is_foreign and (listing is None or listing.fingerprint != fingerprint):
        # A job that moves no mark, or one whose settings changed between its tries, writes by other settings.
        await through_outages(lambda: store.void(claim, owner, fingerprint), what="re-import mark")
    return Reimport(claim, owner, fingerprint, listing, store)


def sets_mark(spec: ImportJobSpec) -> bool:
    """Whether a run of the job may move the mark: it reads everything that changed, and all of it anew.

    A job that neither archives nor is incremental may use a listing that somebody began before it.
    """
    if spec.filter is not None and spec.filter.updated_after is not None:
        return False
    return spec.removed.action is RemovalAction.ARCHIVE or spec.reimport.mode is ReimportMode.INCREMENTAL


def policy_of(spec: ImportJobSpec) -> Policy:
    """What the job's spec says."""
    return Policy(spec.reimport.mode, spec.reimport.full_every, spec.reimport.overlap_seconds)


def read_fingerprint(provider: ImportProvider, mapping: CompiledMapping, spec: ImportJobSpec) -> str:
    """Identity of what decides how this source's products become rows."""
    return fingerprint_of(
        provider_uid=provider.metadata.uid,
        provider_type=provider.spec.type.value,
        base_url=provider.spec.effective_base_url,
        mapping={**mapping.provider.defaults, **(spec.field_mapping or {})},
        images_enabled=spec.images.enabled,
        images_per_product=spec.images.max_per_product,
        thumbnails=spec.images.thumbnails,
    )


def _shown(listing: Listing) -> str | None:
    return listing.since.isoformat() if listing.since else None
