"""How long it took from a fault until the jobs that it hit ran again, read from the audit alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from faults.audit import Audit, ClaimRecord
from faults.expected import FINAL_STATES
from faults.world import Fault


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from the fault to the next claim, one for each job hit; `not_again`: hit and never claimed again."""

    seconds: tuple[float, ...]
    not_again: tuple[str, ...] = ()

    def quantile(self, share: float) -> float | None:
        """The smallest time within which this share of the jobs ran again; None where none was hit."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def after_kills(audit: Audit, faults: Iterable[Fault]) -> Recovery:
    """Claims that were cut by the kill of their worker's process, and how long until the next claim."""
    hit = [(claim.job_id, kill.at) for claim, kill in _cut_by_kills(audit, faults)]
    return _until_next_claim(audit.claims, hit)


def after_giving_back(audit: Audit, kill: Fault) -> Recovery:
    """Jobs that a worker's process gave back by itself before it was killed, from then to the next claim."""
    ended = {(state.job_id, state.at) for state in audit.states if state.after in FINAL_STATES}
    hit = [
        (claim.job_id, claim.ended_at)
        for claim in audit.claims
        if claim.pod == kill.pod
        and claim.ended_at is not None
        and claim.ended_at <= kill.at
        and not claim.was_cut
        and not any(job == claim.job_id and claim.taken_at < at <= kill.at for job, at in ended)
    ]
    return _until_next_claim(audit.claims, hit)


def kills_that_hit(audit: Audit, faults: Iterable[Fault]) -> int:
    """How many kills cut at least one claim."""
    return len({(kill.pod, kill.at) for _, kill in _cut_by_kills(audit, faults)})


def _cut_by_kills(audit: Audit, faults: Iterable[Fault]) -> list[tuple[ClaimRecord, Fault]]:
    kills = sorted((fault for fault in faults if fault.pod is not None), key=lambda fault: fault.at)
    found = []
    for claim in audit.claims:
        kill = next((k for k in kills if k.pod == claim.pod and k.at >= claim.taken_at), None)
        ended_before = kill is not None and claim.ended_at is not None and claim.ended_at < kill.at
        if kill is not None and not ended_before and (claim.was_cut or claim.ended_at is None):
            found.append((claim, kill))
    return found


def after_loss_of_messages(audit: Audit, fault: Fault) -> Recovery:
    """Jobs that were handed over and not yet claimed when the queue lost its memory."""
    claimed = {(claim.job_id, claim.dispatch): claim.taken_at for claim in audit.claims}
    hit = []
    for job_id, dispatch, at in audit.hand_overs:
        taken_at = claimed.get((job_id, dispatch))
        replaced = any(
            job_id == other and dispatch < number and later <= fault.at
            for other, number, later in audit.hand_overs
        )
        if at <= fault.at and (taken_at is None or taken_at > fault.at) and not replaced:
            hit.append((job_id, fault.at))
    return _until_next_claim(audit.claims, hit)


def lost_hand_overs(audit: Audit, since: datetime, until: datetime) -> list[str]:
    """Jobs that were handed over between these moments and then once more, without a claim in between."""
    claimed = {(claim.job_id, claim.dispatch) for claim in audit.claims}
    return [
        job_id
        for job_id, dispatch, at in audit.hand_overs
        if since <= at <= until
        and (job_id, dispatch) not in claimed
        and any(other == job_id and number > dispatch for other, number, _ in audit.hand_overs)
    ]


def after_standstill(audit: Audit, fault: Fault) -> Recovery:
    """Jobs in work at the fault: seconds until each next wrote a page, ended, or was claimed again."""
    running = {
        claim.job_id
        for claim in audit.claims
        if claim.taken_at <= fault.at and (claim.ended_at is None or claim.ended_at > fault.at)
    }
    events: dict[str, datetime] = {}
    for record_job, at in (
        *((page.job_id, page.at) for page in audit.pages),
        *((state.job_id, state.at) for state in audit.states),
        *((claim.job_id, claim.taken_at) for claim in audit.claims),
    ):
        if record_job in running and at > fault.at:
            events[record_job] = min(at, events.get(record_job, at))
    seconds = tuple((at - fault.at).total_seconds() for at in events.values())
    return Recovery(seconds, tuple(sorted(running - set(events))))


def _until_next_claim(claims: Sequence[ClaimRecord], hit: Iterable[tuple[str, datetime]]) -> Recovery:
    taken: dict[str, list[datetime]] = {}
    for claim in claims:
        taken.setdefault(claim.job_id, []).append(claim.taken_at)
    seconds, not_again = [], []
    for job_id, at in hit:
        later = [moment for moment in taken.get(job_id, []) if moment > at]
        if later:
            seconds.append((min(later) - at).total_seconds())
        else:
            not_again.append(job_id)
    return Recovery(tuple(seconds), tuple(not_again))
