"""Random steps of users, dispatcher, Redis and workers, done to the real stores and to the model alike."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from job_model import NOT_CONFIRMED, Model
from job_rows import EMPTY, FINAL, RUN_OUT, JobTables, Snapshot, page_of, shown

from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.adapters.postgres.claims import ClaimStore, EndedClaim
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.errors import ClaimLostError
from import_core.domain.jobs import (
    DEFAULT_QUEUE,
    Claim,
    JobRequest,
    JobState,
    Message,
    ObjectReference,
    Progress,
)

SLOTS = 4
COMPANIES = ("acme", "bolt")
WORKERS = ("worker-1", "worker-2")
CATALOGUE = ("p1", "p2", "p3")
Result = TypeVar("Result")

some = st.integers(0, 7)
"""An index into whatever there is, counted from the newest."""
ENDS = st.sampled_from((None, "Broken", NOT_CONFIRMED))
"""Reasons of a finished job; None: it completed."""


class JobMachine(JobTables):
    """Each rule does the same to the stores and to the model; after each step the two are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs, self.claim_store = JobStore(self.database), ClaimStore(self.database)
        self.dispatching, self.catalogue = DispatchStore(self.database), CatalogueStore(self.database)
        self.reopening = ReopeningStore(self.database)
        self.model = Model()
        self.objects: dict[int, tuple[str, int, bool]] = {}
        """Of each slot the job's id, its generation, and whether it is suspended."""
        self.messages: list[Message] = []
        """Every message that was ever sent, whatever became of it."""
        self.in_redis: set[Message] = set()
        self.claims: list[Claim] = []
        """Every claim that a worker ever got."""
        self.execute(EMPTY)
        self.before: Snapshot = {}
        self.reopened: set[str] = set()

    # What the rules are made of.

    def sent(self, messages: Sequence[Message]) -> list[tuple[str, int]]:
        self.messages += messages
        self.in_redis.update(messages)
        return [(message.job_id, message.dispatch) for message in messages]

    def chosen(self, index: int) -> Claim:
        """A claim: more often one that holds than one that is lost."""
        held = [claim for claim in self.claims if self.model.holds(claim.job.id, claim.claim_id)]
        return self.picked(held if held and index % 4 else self.claims, index)

    def under(self, claim: Claim, write: Awaitable[Any], then: Callable[[], object], what: str) -> None:
        """A worker's write: it happens under a claim that holds, and else leaves no trace."""
        if self.model.holds(claim.job.id, claim.claim_id):
            self.wait(write)
            then()
            self.note(what)
            return
        with pytest.raises(ClaimLostError):
            self.wait(write)
        assert self.snapshot() == self.before, "a worker without its claim has changed something"
        self.note(f"{what} refused")

    # What users do.

    @rule(
        slot=st.integers(0, SLOTS - 1),
        suspend=st.sampled_from((False, False, False, True)),
        replace=st.booleans(),
    )
    def apply(self, slot: int, suspend: bool, replace: bool) -> None:
        """Create an object, or change its spec (which suspends or resumes it)."""
        job_id, generation, _ = self.objects.get(slot, (f"job-{slot}-1", 0, False))
        known = self.model.jobs.get(job_id)
        if known is not None and known.state in FINAL and replace:
            job_id, generation = f"job-{slot}-{len(self.model.jobs) + 1}", 0
        self.objects[slot] = (job_id, generation + 1, suspend)
        self.record(slot)

    @precondition(lambda self: self.objects)
    @rule(slot=st.integers(0, SLOTS - 1))
    def record(self, slot: int) -> None:
        """The operator sees an object, also once more, as after a restart."""
        if slot not in self.objects:
            return
        wanted = self.request(slot)
        new = [] if wanted.id in self.model.jobs else [wanted.id]
        assert self.wait(self.jobs.record([wanted])).new == new
        self.recorded(wanted)
        self.note("suspended" if wanted.suspended else "recorded")

    def request(self, slot: int) -> JobRequest:
        job_id, generation, suspended = self.objects[slot]
        origin = ObjectReference("imports", job_id, job_id)
        company = COMPANIES[slot % len(COMPANIES)]
        return JobRequest(job_id, company, "shop", "imports", {}, origin, generation, suspended)

    def recorded(self, wanted: JobRequest) -> None:
        self.model.record(
            wanted.id, wanted.company_id, generation=wanted.generation, suspended=wanted.suspended
        )

    @precondition(lambda self: self.finished())
    @rule(index=some, token=st.sampled_from(("one", "two")), items=st.booleans(), changed=st.booleans())
    def retry(self, index: int, token: str, items: bool, changed: bool) -> None:
        """Annotate a finished object, after its spec has changed or not."""
        wanted = self.request(self.picked(self.finished(), index))
        tokens = {wanted.id: token}
        retry = self.reopening.retry_items if items else self.reopening.retry
        again = self.wait(retry(tokens, requests={wanted.id: wanted} if changed else None))
        assert again == (self.model.retry_items(tokens) if items else self.model.retry(tokens))
        if again and changed:
            self.recorded(wanted)
        if items:
            self.reopened.add(wanted.id)  # the request is noted also where there was nothing to do
        self.reopened_now(again, f"retried {'items' if items else 'all'}", "retry refused")

    @precondition(lambda self: self.finished())
    @rule(index=some, late=st.booleans())
    def confirm_removals(self, index: int, late: bool) -> None:
        """Confirm what the run has found, or what an earlier generation had found."""
        job_id, generation, _ = self.objects[self.picked(self.finished(), index)]
        generations = {job_id: generation if late else self.model.jobs[job_id].generation}
        again = self.wait(self.reopening.confirm_removals(generations))
        assert again == self.model.confirm_removals(generations)
        self.reopened_now(again, "confirmed", "confirmation refused")

    def finished(self) -> list[int]:
        """Slots whose job has ended."""
        states = {slot: self.model.jobs[job_id].state for slot, (job_id, *_) in self.objects.items()}
        return [slot for slot, state in states.items() if state in {"COMPLETED", "FAILED"}]

    def reopened_now(self, again: Sequence[str], done: str, refused: str) -> None:
        self.reopened |= set(again)
        self.note(done if again else refused)

    @precondition(lambda self: len(self.objects) == SLOTS)
    @rule(slot=st.integers(0, SLOTS - 1))
    def cancel(self, slot: int) -> None:
        """An object is deleted."""
        gone = [self.objects[slot][0]]
        cancelled = self.wait(self.jobs.cancel(gone, message="deleted"))
        assert sorted(cancelled) == sorted(self.model.cancel(gone))
        self.note("cancelled" if cancelled else "cancel refused")

    # What the dispatcher and Redis do.

    @precondition(lambda self: self.model.heads())
    @rule(also_others=st.booleans())
    def dispatch(self, also_others: bool) -> None:
        jobs = self.model.jobs.values()
        others = [job.job_id for job in jobs if also_others and not job.waits]
        asked = list(dict.fromkeys([*self.model.heads().values(), *others]))

        async def hand_over() -> list[Message]:
            async with self.dispatching.transaction() as transaction:
                assert await transaction.lock()
                heads = {c.company_id: c.job_id for c in await transaction.heads(DEFAULT_QUEUE)}
                assert heads == self.model.heads()
                return await transaction.hand_over(asked)

        assert self.sent(self.wait(hand_over())) == self.model.hand_over(asked)
        self.note("handed over")

    @precondition(lambda self: self.in_redis)
    @rule(index=some)
    def lose_message(self, index: int) -> None:
        self.in_redis.discard(self.picked([m for m in self.messages if m in self.in_redis], index))

    @precondition(lambda self: self.model.unclaimed())
    @rule(index=some)
    def dispatch_again(self, index: int) -> None:
        """What Redis lacks is handed over anew; an old look at a row does nothing."""

        async def look() -> list[Message]:
            pages = self.dispatching.overdue(DEFAULT_QUEUE, older_than_seconds=0.0, page=2)
            return [message async for page in pages for message in page]

        overdue = self.wait(look())
        assert {(m.job_id, m.dispatch) for m in overdue} == self.model.unclaimed()
        lost = [message for message in overdue if message not in self.in_redis]
        if self.messages:
            lost.append(self.picked(self.messages, index))
        again = self.sent(self.wait(self.dispatching.hand_over_again(lost)))
        assert sorted(again) == self.model.hand_over_again((m.job_id, m.dispatch) for m in lost)
        self.note("handed over again" if again else "nothing lost")

    @precondition(lambda self: self.model.unclaimed())
    @rule(index=some)
    def redis_restarts_empty(self, index: int) -> None:
        self.in_redis.clear()
        self.dispatch_again(index=index)

    @precondition(lambda self: self.model.unclaimed())
    @rule()
    def take_back(self) -> None:
        """The queue is paused: what nobody has claimed is not handed over any more."""

        async def undo() -> list[str]:
            async with self.dispatching.transaction() as transaction:
                assert await transaction.lock()
                return await transaction.take_back(DEFAULT_QUEUE)

        assert sorted(self.wait(undo())) == self.model.take_back()
        self.note("taken back")

    # What workers do.

    @precondition(lambda self: self.messages)
    @rule(index=some, worker=st.sampled_from(WORKERS))
    def claim(self, index: int, worker: str) -> None:
        self.take(self.picked(self.messages, index), worker)

    @precondition(lambda self: self.model.heads() or self.model.unclaimed())
    @rule(worker=st.sampled_from(WORKERS))
    def start(self, worker: str) -> None:
        """The usual way: handed over and claimed."""
        if self.model.heads():
            self.dispatch(also_others=False)
        for job_id, number in sorted(self.model.unclaimed()):
            self.take(Message(job_id, number), worker)

    def take(self, message: Message, worker: str) -> None:
        allowed = self.model.may_claim(message.job_id, message.dispatch)
        before = self.snapshot()
        claim = self.wait(self.claim_store.claim(message, worker_id=worker))
        assert (claim is not None) is allowed
        if claim is None:
            assert self.snapshot() == before, "an outdated message has changed something"
            self.note("claim refused")
            return
        job = self.model.jobs[message.job_id]
        assert claim.suspected == (job.deaths >= 3)
        assert (claim.checkpoint.pages if claim.checkpoint else 0) == job.pages
        self.model.claim(message.job_id, claim.claim_id, worker)
        self.claims.append(claim)
        self.note("claimed under suspicion" if claim.suspected else "claimed")

    @precondition(lambda self: self.claims)
    @rule()
    def renew(self) -> None:
        recent = self.claims[-6:]
        renewal = self.wait(
            self.claim_store.renew([(c.job.id, c.claim_id, Progress(products_total=3)) for c in recent])
        )
        held = {c.claim_id for c in recent if self.model.holds(c.job.id, c.claim_id)}
        assert renewal.confirmed == held
        assert not renewal.busy
        self.note("renewed")

    @precondition(lambda self: self.claims)
    @rule(index=some)
    def run_alone(self, index: int) -> None:
        self.under_alone(self.chosen(index))

    def under_alone(self, claim: Claim) -> None:
        self.under(
            claim,
            self.claim_store.mark_alone(claim),
            lambda: self.model.mark_alone(claim.job.id),
            "runs alone",
        )

    @precondition(lambda self: self.claims)
    @rule(index=some, good=st.sets(st.sampled_from(CATALOGUE)), failed=st.sampled_from((None, *CATALOGUE)))
    def commit_page(self, index: int, good: set[str], failed: str | None) -> None:
        bad = [failed] if failed is not None and failed not in good else []
        self.under_page(self.chosen(index), sorted(good), bad)

    def under_page(self, claim: Claim, good: list[str], bad: list[str]) -> None:
        page = page_of(self.model.jobs[claim.job.id].pages + 1, good, bad)
        self.under(
            claim,
            self.catalogue.commit_page(claim, page),
            lambda: self.model.commit_page(claim.job.id, good, bad),
            "page",
        )

    @precondition(lambda self: self.model.heads() or self.model.unclaimed())
    @rule(worker=st.sampled_from(WORKERS), reason=ENDS, failed=st.sampled_from(CATALOGUE))
    def run_through(self, worker: str, reason: str | None, failed: str) -> None:
        """The way of most jobs: taken, a page, an end."""
        self.start(worker)
        for claim in self.claims:
            if claim.worker_id == worker and self.model.holds(claim.job.id, claim.claim_id):
                self.under_page(claim, [i for i in CATALOGUE if i != failed], [failed])
                self.under_end(claim, reason)

    @precondition(lambda self: self.claims)
    @rule(index=some, tries=st.integers(0, 1), later=st.booleans())
    def release(self, index: int, tries: int, later: bool) -> None:
        claim = self.chosen(index)
        written = self.claim_store.release(
            claim, delay_seconds=3600 if later else 0, tries=tries, waiting_reason="Retry", message="again"
        )
        self.under(
            claim,
            written,
            lambda: self.model.release(claim.job.id, tries=tries, later=later),
            "released",
        )

    @precondition(lambda self: self.claims)
    @rule(index=some, reason=ENDS)
    def finish(self, index: int, reason: str | None) -> None:
        self.under_end(self.chosen(index), reason)

    def under_end(self, claim: Claim, reason: str | None) -> None:
        state = JobState.COMPLETED if reason is None else JobState.FAILED
        self.under(
            claim,
            self.claim_store.finish(claim, state, reason=reason, message=None),
            lambda: self.model.finish(claim.job.id, state.value, reason),
            f"finished {state.value}",
        )

    # What happens to workers, and what the operator makes of it.

    @precondition(lambda self: self.claims)
    @rule(index=some)
    def lease_runs_out(self, index: int) -> None:
        job_id = self.chosen(index).job.id
        self.execute(f"UPDATE imports.claim SET expires_at = {RUN_OUT} WHERE job_id = %s", job_id)
        self.model.expire(job_id)

    @precondition(lambda self: self.model.running())
    @rule(count=st.booleans())
    def reap(self, count: bool) -> None:
        ended = self.wait(self.claim_store.end_expired(count_deaths=count))
        self.ended(ended, self.model.expired(), count=count, reason="WorkerKilled")

    @precondition(lambda self: self.model.running())
    @rule(worker=st.sampled_from(WORKERS), out_of_memory=st.booleans())
    def worker_dies(self, worker: str, out_of_memory: bool) -> None:
        ended = self.wait(self.claim_store.end_of_workers([worker], out_of_memory=out_of_memory))
        reason = "OutOfMemory" if out_of_memory else "WorkerKilled"
        self.ended(ended, self.model.of_worker(worker), count=True, reason=reason)

    @precondition(lambda self: self.model.heads() or self.model.unclaimed())
    @rule(worker=st.sampled_from(WORKERS))
    def kill_workers_one_after_the_other(self, worker: str) -> None:
        """Jobs that kill whoever has them; alone on a worker in the end."""
        self.start(worker)
        for claim in self.claims:
            if claim.suspected and self.model.holds(claim.job.id, claim.claim_id):
                self.under_alone(claim)
        self.worker_dies(worker=worker, out_of_memory=False)

    def ended(self, ended: Iterable[EndedClaim], expected: set[str], *, count: bool, reason: str) -> None:
        assert {claim.job_id for claim in ended} == expected
        self.model.end_claims(expected, count=count, reason=reason)
        if any(self.model.jobs[job_id].state == "FAILED" for job_id in expected):
            self.note("blamed")
        elif expected:
            self.note("claims ended")

    @precondition(lambda self: self.model.waiting())
    @rule()
    def time_passes(self) -> None:
        for job_id in self.model.waiting():
            self.execute(f'UPDATE "ProductImportJob" SET "notBefore" = {RUN_OUT} WHERE id = %s', job_id)
            self.model.wait_passes(job_id)

    # What holds always.

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        rows, before = self.snapshot(), self.before
        assert {job_id: row[:-2] for job_id, row in rows.items()} == {
            job.job_id: shown(job) for job in self.model.jobs.values()
        }
        for job_id, row in before.items():
            assert rows[job_id][6] >= row[6], "the number of the hand-over has fallen"
            if row[1] in FINAL and job_id not in self.reopened:
                assert rows[job_id] == row, "a finished job has changed"
        for row in rows.values():
            assert (row[1] == "IN_PROGRESS") is (row[-3] == 1), "a claim and a running job belong together"
        self.before, self.reopened = rows, set()
        type(self).steps += 1

    def teardown(self) -> None:
        found = self.execute('SELECT "companyId", "externalId" FROM "Product"')
        assert sorted(found) == sorted(self.model.products)
