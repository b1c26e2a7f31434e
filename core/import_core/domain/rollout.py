"""How a new version of the workers replaces the old one: step by step, judged by its jobs, and back if it fails. Pure.

A version is a pool's template, known by its hash. The stable one is known to be good; the canary is rolled out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

HASH_LENGTH = 10
MAX_RESTARTS = 3
"""So many restarts of the new version, at least one for each worker and more than the old one's, end a rollout."""
TOLERANCE_PERCENT = 5
"""The new version is worse than the old one only where its success rate is lower by more than so many points."""


def template_hash(namespace: str, pool: str, template: Mapping[str, Any]) -> str:
    """The name of a version: the same for the same template of the same pool, and a label's value."""
    text = json.dumps([namespace, pool, template], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


class RolloutPhase(StrEnum):
    """What a rollout does (`status.rollout.phase`)."""

    UP_TO_DATE = "UpToDate"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    ROLLED_BACK = "RolledBack"


class RolloutReason(StrEnum):
    """Why it does so (`status.rollout.reason`, condition RolledOut)."""

    UP_TO_DATE = "UpToDate"
    STARTED = "Started"
    STARTING = "WorkersStarting"
    WATCHING = "Watching"
    AWAITING_JOBS = "AwaitingJobs"
    JOBS_UNKNOWN = "JobsUnknown"
    BOTH_FAIL = "BothVersionsFail"
    NO_WORKERS = "NoWorkersNeeded"
    STEPPED = "NextStep"
    PAUSED = "Paused"
    PROMOTED = "Promoted"
    COMPLETED = "Completed"
    SUPERSEDED = "Superseded"
    LOW_SUCCESS = "JobsFail"
    RESTARTS = "WorkersRestart"
    NOT_READY = "WorkersNotReady"
    REFUSED = "TemplateRefused"
    ABORTED = "Aborted"


ROLLED_BACK = frozenset(
    {
        RolloutReason.LOW_SUCCESS,
        RolloutReason.RESTARTS,
        RolloutReason.NOT_READY,
        RolloutReason.REFUSED,
        RolloutReason.ABORTED,
    }
)
"""Reasons for which a rollout goes back."""


@dataclass(frozen=True, slots=True)
class Step:
    """A share of the workers (None: the initial number), and for how long it is watched."""

    percent: int | None
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """A pool's wishes; `steps` begins with the initial one and ends at 100 percent."""

    initial_replicas: int
    steps: tuple[Step, ...]
    min_success_percent: int
    min_jobs: int
    """Fewer ended jobs than this say nothing, and no step ends before."""
    ready_seconds: float
    """A step none of whose workers gets ready for so long has failed."""

    @property
    def last_step(self) -> int:
        """Index of the step at which all workers are new."""
        return len(self.steps) - 1


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of one version: its workers, and the ends of its newest jobs' tries."""

    replicas: int = 0
    ready: int = 0
    restarts: int = 0
    succeeded: int = 0
    failed: int = 0
    running: int = 0

    @property
    def ended(self) -> int:
        """Tries that ended, handed-back ones left out."""
        return self.succeeded + self.failed


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person asks for by annotations; `promote` and `abort` name the version that they mean."""

    paused: bool = False
    promote: str | None = None
    abort: str | None = None


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """What was seen. `total`: workers that scaling wants in all."""

    template: str
    """The version that the pool's spec asks for."""
    canary_name: str
    """Name of the Deployment that this version has or would have."""
    total: int
    stable: Version = Version()
    canary: Version = Version()
    jobs_known: bool = True
    """False: the ends of jobs could not be read. Nothing is judged, and no step ends."""
    refused: str | None = None
    """Why the API server refuses the new version's Deployment."""
    wishes: Wishes = Wishes()


@dataclass(frozen=True, slots=True)
class RolloutState:
    """What outlives an operator, in the pool's status."""

    stable: str
    deployment: str
    """Name of the stable version's Deployment."""
    phase: RolloutPhase = RolloutPhase.UP_TO_DATE
    reason: RolloutReason = RolloutReason.UP_TO_DATE
    message: str = ""
    canary: str | None = None
    step: int = 0
    started_at: datetime | None = None
    step_at: datetime | None = None
    watched_from: datetime | None = None
    """When the step's workers were all ready for the first time: its pause counts from then."""
    rolled_back: str | None = None
    """The version that was taken back: it is not tried again before the template changes."""


@dataclass(frozen=True, slots=True)
class RolloutDecision:
    """The next state, how many workers of each version to ask for, and what a person wants to hear of."""

    state: RolloutState
    stable_replicas: int
    canary_replicas: int
    happened: tuple[RolloutReason, ...] = ()


def share(spec: RolloutSpec, step: int, total: int) -> int:
    """Workers of the new version at a step: never fewer than at the steps before."""
    initial = min(spec.initial_replicas, total)
    percent = spec.steps[step].percent
    return initial if percent is None else max(initial, -(-total * percent // 100))


def split(total: int, wanted: int, ready: int) -> tuple[int, int]:
    """Workers of the old and of the new version: an old one goes only when a new one is ready in its place."""
    wanted = min(wanted, total)
    return total - min(ready, wanted), wanted


def decide(state: RolloutState, spec: RolloutSpec, facts: RolloutFacts, now: datetime) -> RolloutDecision:
    """What to do now. It ends at the canary, or at the stable version; any moment may be its last."""
    state, happened = _follow_template(state, facts, now)
    if state.canary is None:
        return RolloutDecision(state, facts.total, 0, happened)
    if RolloutReason.STARTED in happened:
        # The facts are from before.
        return RolloutDecision(state, *split(facts.total, share(spec, 0, facts.total), 0), happened)
    state = replace(state, step=min(state.step, spec.last_step))
    verdict = _verdict(state, spec, facts, now)
    if verdict is not None:
        return _back(state, facts, *verdict, happened=happened)
    state, more = _go_on(state, spec, facts, now)
    happened += more
    if state.canary is None:
        return RolloutDecision(state, facts.total, 0, happened)
    stable, canary = split(facts.total, share(spec, state.step, facts.total), facts.canary.ready)
    return RolloutDecision(state, stable, canary, happened)


def _follow_template(
    state: RolloutState, facts: RolloutFacts, now: datetime
) -> tuple[RolloutState, tuple[RolloutReason, ...]]:
    """Begin, leave or forget a rollout where the template asks for another version."""
    happened: tuple[RolloutReason, ...] = ()
    if state.canary is not None and facts.template != state.canary:
        state = RolloutState(state.stable, state.deployment, rolled_back=state.rolled_back)
        happened = (RolloutReason.SUPERSEDED,)
    if state.canary is not None:
        return state, happened
    if facts.template == state.stable:
        return RolloutState(state.stable, state.deployment), happened
    is_promoted = facts.wishes.promote == facts.template and facts.wishes.abort != facts.template
    if facts.template == state.rolled_back and (not is_promoted or state.reason is RolloutReason.REFUSED):
        # What the API server refuses no word of a person makes run; another template does.
        return state, happened
    if facts.wishes.paused and facts.wishes.promote != facts.template:
        paused = RolloutPhase.PAUSED, RolloutReason.PAUSED, "A new template waits: rollouts are paused"
        phase, reason, message = paused
        return replace(state, phase=phase, reason=reason, message=message), happened
    started = RolloutState(
        state.stable,
        state.deployment,
        phase=RolloutPhase.PROGRESSING,
        reason=RolloutReason.STARTING,
        canary=facts.template,
        started_at=now,
        step_at=now,
    )
    return started, (*happened, RolloutReason.STARTED)


def _verdict(
    state: RolloutState, spec: RolloutSpec, facts: RolloutFacts, now: datetime
) -> tuple[RolloutReason, str] | None:
    """Why the new version has to go; None: it need not. A person's word comes before all judgement."""
    if facts.wishes.abort == state.canary:
        return RolloutReason.ABORTED, "Taken back by a person's word"
    if facts.refused is not None:
        return RolloutReason.REFUSED, f"The API server refuses it: {facts.refused}"
    if facts.wishes.promote == state.canary or not facts.jobs_known:
        return None
    return _failed_jobs(spec, facts) or _failed_workers(state, spec, facts, now)


def _failed_jobs(spec: RolloutSpec, facts: RolloutFacts) -> tuple[RolloutReason, str] | None:
    new, old = facts.canary, facts.stable
    if not _is_below(new, spec) or not _is_worse(new, old, spec):
        return None
    old_words = f", {_words(old)} of the old one's" if old.ended else ""
    return RolloutReason.LOW_SUCCESS, f"{_words(new)} of the new version's jobs succeeded{old_words}"


def _failed_workers(
    state: RolloutState, spec: RolloutSpec, facts: RolloutFacts, now: datetime
) -> tuple[RolloutReason, str] | None:
    new, old = facts.canary, facts.stable
    many = new.restarts >= max(MAX_RESTARTS, new.replicas)
    if many and new.restarts * max(1, old.replicas) > old.restarts * new.replicas:
        return RolloutReason.RESTARTS, f"Its workers restarted {new.restarts} times"
    waited = (now - (state.step_at or now)).total_seconds()
    if new.replicas and not new.ready and state.watched_from is None and waited > spec.ready_seconds:
        return RolloutReason.NOT_READY, f"None of its workers got ready within {spec.ready_seconds:g} s"
    return None


def _is_below(version: Version, spec: RolloutSpec) -> bool:
    """Whether enough of its jobs ended, and too few of them well."""
    if version.ended < max(1, spec.min_jobs):
        return False
    return version.succeeded * 100 < spec.min_success_percent * version.ended


def _is_worse(new: Version, old: Version, spec: RolloutSpec) -> bool:
    """Whether the old version does better; where too little is known of it, the new one is judged by itself."""
    if old.ended < max(1, spec.min_jobs):
        return True
    both = new.ended * old.ended
    return 100 * new.succeeded * old.ended + TOLERANCE_PERCENT * both < 100 * old.succeeded * new.ended


def _words(version: Version) -> str:
    return f"{version.succeeded} of {version.ended}"


def _back(
    state: RolloutState,
    facts: RolloutFacts,
    reason: RolloutReason,
    message: str,
    *,
    happened: tuple[RolloutReason, ...],
) -> RolloutDecision:
    ended = RolloutState(
        state.stable,
        state.deployment,
        phase=RolloutPhase.ROLLED_BACK,
        reason=reason,
        message=f"{state.canary} was rolled back: {message[0].lower()}{message[1:]}",
        started_at=state.started_at,
        rolled_back=state.canary,
    )
    return RolloutDecision(ended, facts.total, 0, (*happened, reason))


def _go_on(
    state: RolloutState, spec: RolloutSpec, facts: RolloutFacts, now: datetime
) -> tuple[RolloutState, tuple[RolloutReason, ...]]:
    """Hold the step, take the next one, or end as completed."""
    happened: tuple[RolloutReason, ...] = ()
    promoted = facts.wishes.promote == state.canary
    if promoted and state.phase is not RolloutPhase.PROMOTING:
        happened = (RolloutReason.PROMOTED,)
    if promoted:
        state = replace(state, phase=RolloutPhase.PROMOTING, step=spec.last_step)
    wanted = share(spec, state.step, facts.total)
    all_ready = facts.canary.ready >= wanted
    if all_ready and wanted and state.watched_from is None:
        state = replace(state, watched_from=now)
    if wanted and state.reason is RolloutReason.NO_WORKERS:
        # Nobody could get ready before: that time does not count.
        state = replace(state, step_at=now)
    held = None if promoted and all_ready else _held(state, spec, facts, now, wanted=wanted)
    if held is not None:
        reason, message = held
        if promoted:
            return replace(state, reason=RolloutReason.PROMOTED, message=message), happened
        phase = RolloutPhase.PAUSED if reason is RolloutReason.PAUSED else RolloutPhase.PROGRESSING
        return replace(state, phase=phase, reason=reason, message=message), happened
    if state.step < spec.last_step:
        following = replace(
            state,
            phase=RolloutPhase.PROGRESSING,
            reason=RolloutReason.STARTING,
            message=f"Step {state.step + 1} of {spec.last_step}",
            step=state.step + 1,
            step_at=now,
            watched_from=None,
        )
        return following, (*happened, RolloutReason.STEPPED)
    return RolloutState(facts.template, facts.canary_name), (*happened, RolloutReason.COMPLETED)


def _held(
    state: RolloutState, spec: RolloutSpec, facts: RolloutFacts, now: datetime, *, wanted: int
) -> tuple[RolloutReason, str] | None:
    """Why the step does not end yet; the texts hold no number that changes by itself."""
    pause = spec.steps[state.step].pause_seconds
    watched = (now - (state.watched_from or now)).total_seconds()
    if wanted == 0:
        return RolloutReason.NO_WORKERS, "It goes on when the pool needs workers"
    if facts.canary.ready < wanted:
        return RolloutReason.STARTING, f"Waiting for {wanted} workers of the new version to be ready"
    if facts.wishes.paused:
        return RolloutReason.PAUSED, "Paused by a person's word"
    if watched < pause:
        return RolloutReason.WATCHING, f"The new version is watched for {pause:g} s"
    return _no_verdict(spec, facts)


def _no_verdict(spec: RolloutSpec, facts: RolloutFacts) -> tuple[RolloutReason, str] | None:
    if not facts.jobs_known:
        return RolloutReason.JOBS_UNKNOWN, "How the new version's jobs ended can't be read"
    if facts.canary.ended < spec.min_jobs:
        return RolloutReason.AWAITING_JOBS, f"Waiting for {spec.min_jobs} jobs of the new version to end"
    if _is_below(facts.canary, spec):
        return RolloutReason.BOTH_FAIL, "Jobs fail, with the old version as well: this rollout waits"
    return None
