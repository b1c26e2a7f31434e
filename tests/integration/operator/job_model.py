"""What the life of jobs must be (docs/reference/lifecycle.md), in plain values: no SQL, no clock.

Written from the rules and not from the statements, so that the two can disagree. Each method returns what the
stores must answer to the same call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

FINISHED = frozenset({"COMPLETED", "FAILED"})
NOT_CONFIRMED = "RemovalsNotConfirmed"


@dataclass(frozen=True, slots=True)
class ModelClaim:
    """A worker's claim; one that is over time stands until somebody ends it, but allows nothing."""

    claim_id: str
    worker: str
    expired: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class ModelJob:
    """A row as it should be."""

    job_id: str
    company: str
    generation: int
    suspended: bool
    state: str = "PENDING"
    attempt: int = 0
    deaths: int = 0
    dispatch: int = 0
    handed_over: bool = False
    waits: bool = False
    """It is due only later."""
    reason: str | None = None
    retry_token: str | None = None
    items_token: str | None = None
    items_only: bool = False
    confirmed: int | None = None
    """The generation whose removals a person has confirmed; negative: for a run that is over."""
    pages: int = 0
    errors: frozenset[str] = frozenset()
    """Products of it that failed."""
    claim: ModelClaim | None = None

    @property
    def is_due(self) -> bool:
        """It may be handed over."""
        return self.state == "PENDING" and not (self.suspended or self.handed_over or self.waits)


@dataclass
class Model:
    """All jobs, and what was ever committed of products."""

    jobs: dict[str, ModelJob] = field(default_factory=dict)
    products: set[tuple[str, str]] = field(default_factory=set)
    """(company, external id)."""

    def record(self, job_id: str, company: str, *, generation: int, suspended: bool) -> None:
        """An object as it is now: a new job, a newer spec of a waiting one, or a hold on a running one."""
        job = self.jobs.get(job_id)
        if job is None:
            self.jobs[job_id] = ModelJob(job_id, company, generation, suspended)
        elif job.state == "PENDING" and generation > job.generation:
            changed = replace(job, generation=generation, suspended=suspended)
            self.jobs[job_id] = _outdated(changed) if suspended else changed
        elif job.state == "IN_PROGRESS" and suspended:
            self.jobs[job_id] = _left(job, "PENDING", suspended=True)

    def heads(self) -> dict[str, str]:
        """The oldest due job of each company; jobs are kept in the order of their age."""
        return {job.company: job.job_id for job in reversed(self.jobs.values()) if job.is_due}

    def hand_over(self, job_ids: Iterable[str]) -> list[tuple[str, int]]:
        """Due rows get their next number."""
        return [self._handed_over(job_id) for job_id in job_ids if self.jobs[job_id].is_due]

    def unclaimed(self) -> set[tuple[str, int]]:
        """Hand-overs that nobody has claimed."""
        return {
            (job.job_id, job.dispatch)
            for job in self.jobs.values()
            if job.state == "PENDING" and job.handed_over
        }

    def hand_over_again(self, messages: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Lost ones get a new number, unless they were claimed or given up meanwhile."""
        return [self._handed_over(job_id) for job_id, _ in sorted(self.unclaimed() & set(messages))]

    def take_back(self) -> list[str]:
        """A paused queue undoes the hand-overs that nobody has claimed."""
        undone = sorted(job_id for job_id, _ in self.unclaimed())
        for job_id in undone:
            self.jobs[job_id] = _outdated(self.jobs[job_id])
        return undone

    def _handed_over(self, job_id: str) -> tuple[str, int]:
        job = self.jobs[job_id]
        self.jobs[job_id] = replace(job, dispatch=job.dispatch + 1, handed_over=True, waits=False)
        return job_id, job.dispatch + 1

    def may_claim(self, job_id: str, dispatch: int) -> bool:
        """Only the newest hand-over of a waiting job is worth anything."""
        job = self.jobs[job_id]
        return (job_id, dispatch) in self.unclaimed() and not job.suspended

    def claim(self, job_id: str, claim_id: str, worker: str) -> None:
        """It runs."""
        job = self.jobs[job_id]
        self.jobs[job_id] = replace(job, state="IN_PROGRESS", claim=ModelClaim(claim_id, worker))

    def holds(self, job_id: str, claim_id: str) -> bool:
        """Whether a worker may still write under this claim."""
        claim = self.jobs[job_id].claim
        return claim is not None and claim.claim_id == claim_id and not claim.expired

    def expire(self, job_id: str) -> None:
        """The lease runs out."""
        job = self.jobs[job_id]
        if job.claim is not None:
            self.jobs[job_id] = replace(job, claim=replace(job.claim, expired=True))

    def mark_alone(self, job_id: str) -> None:
        """The worker has nothing else on board any more."""
        job = self.jobs[job_id]
        assert job.claim is not None
        self.jobs[job_id] = replace(job, claim=replace(job.claim, alone=True))

    def commit_page(self, job_id: str, good: Iterable[str], failed: Iterable[str]) -> None:
        """Products, item errors and checkpoint together."""
        job = self.jobs[job_id]
        seen = {*good, *failed}
        errors = (job.errors - seen) | frozenset(failed)
        self.products |= {(job.company, external_id) for external_id in good}
        self.jobs[job_id] = replace(job, pages=job.pages + 1, errors=errors)

    def release(self, job_id: str, *, tries: int, later: bool) -> None:
        """Given back, with or without a try used up."""
        job = self.jobs[job_id]
        self.jobs[job_id] = _left(job, "PENDING", attempt=job.attempt + tries, waits=later)

    def finish(self, job_id: str, state: str, reason: str | None) -> None:
        """The end."""
        self.jobs[job_id] = _left(self.jobs[job_id], state, reason=reason, items_only=False)

    def end_claims(self, job_ids: Iterable[str], *, count: bool, reason: str) -> None:
        """Workers are gone: jobs are due again at once, and one that was alone on its worker has killed it."""
        for job_id in job_ids:
            job = self.jobs[job_id]
            assert job.claim is not None
            blamed = job.claim.alone and count
            self.jobs[job_id] = _left(
                job,
                "FAILED" if blamed else "PENDING",
                deaths=job.deaths + count,
                reason=reason if blamed else job.reason,
                items_only=job.items_only and not blamed,
                waits=False,
            )

    def running(self) -> bool:
        """Whether anybody has a claim."""
        return any(job.claim is not None for job in self.jobs.values())

    def expired(self) -> set[str]:
        """Jobs whose lease has run out."""
        return {job.job_id for job in self.jobs.values() if job.claim is not None and job.claim.expired}

    def of_worker(self, worker: str) -> set[str]:
        """Jobs that this worker has claimed."""
        return {job.job_id for job in self.jobs.values() if job.claim and job.claim.worker == worker}

    def waiting(self) -> list[str]:
        """Jobs that are due only later."""
        return [job.job_id for job in self.jobs.values() if job.state == "PENDING" and job.waits]

    def wait_passes(self, job_id: str) -> None:
        """A job that was due later is due."""
        self.jobs[job_id] = replace(self.jobs[job_id], waits=False)

    def cancel(self, job_ids: Iterable[str]) -> list[str]:
        """What has not ended ends."""
        live = [i for i in job_ids if i in self.jobs and self.jobs[i].state in {"PENDING", "IN_PROGRESS"}]
        for job_id in live:
            self.jobs[job_id] = _left(self.jobs[job_id], "CANCELLED")
        return live

    def retry(self, tokens: Mapping[str, str]) -> list[str]:
        """Finished jobs start over, once for each token."""
        again = [job for job in self._finished(tokens) if job.retry_token != tokens[job.job_id]]
        for job in again:
            self.jobs[job.job_id] = replace(
                self._reopen(job),
                retry_token=tokens[job.job_id],
                items_only=False,
                pages=0,
                errors=frozenset(),
                confirmed=None if job.confirmed is None else -abs(job.confirmed),
            )
        return [job.job_id for job in again]

    def retry_items(self, tokens: Mapping[str, str]) -> list[str]:
        """Finished jobs take their failed products again, once for each token, which counts in any case."""
        asked = [job for job in self._finished(tokens) if job.items_token != tokens[job.job_id]]
        for job in asked:
            reopened = replace(self._reopen(job), items_only=True) if job.errors else job
            self.jobs[job.job_id] = replace(reopened, items_token=tokens[job.job_id])
        return [job.job_id for job in asked if job.errors]

    def confirm_removals(self, generations: Mapping[str, int]) -> list[str]:
        """Jobs that stopped to ask go on, for the generation that was confirmed, once."""
        again = [
            job
            for job in self._finished(generations)
            if job.reason == NOT_CONFIRMED
            and job.generation == generations[job.job_id] != abs(job.confirmed or 0)
        ]
        for job in again:
            self.jobs[job.job_id] = replace(self._reopen(job), confirmed=generations[job.job_id])
        return [job.job_id for job in again]

    def _reopen(self, job: ModelJob) -> ModelJob:
        """It waits anew, behind those that have waited before."""
        self.jobs[job.job_id] = self.jobs.pop(job.job_id)
        return _reopened(job)

    def _finished(self, job_ids: Iterable[str]) -> list[ModelJob]:
        return [job for i in job_ids if (job := self.jobs.get(i)) is not None and job.state in FINISHED]


def _outdated(job: ModelJob) -> ModelJob:
    """Whatever was handed over of it is worth nothing any more."""
    return replace(job, dispatch=job.dispatch + 1, handed_over=False)


def _left(job: ModelJob, state: str, **changes: object) -> ModelJob:
    return replace(_outdated(job), state=state, claim=None, **changes)  # type: ignore[arg-type]


def _reopened(job: ModelJob) -> ModelJob:
    return _left(job, "PENDING", attempt=0, deaths=0, waits=False, reason=None)
