"""The rules of the hand-over, each by the death or loss that it is there for; PostgreSQL and Valkey are real."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from eventually import eventually
from operator_world import TakingWorker
from redis.asyncio import Redis

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.errors import ClaimLostError, QueueUnavailableError
from import_core.domain.jobs import JobRequest, JobState, Message, ObjectReference
from import_core.domain.worker_ends import WorkerEnd
from import_operator.loops import dispatch, reap
from import_operator.loops.dispatch import Capacity, DispatchLoop
from import_operator.loops.reap import ReapLoop
from import_operator.state import OperatorState

QUEUE = "product-imports"


def request(job_id: str, company: str = "acme", **values: Any) -> JobRequest:
    return JobRequest(
        id=job_id,
        company_id=company,
        provider="acme-shopify",
        namespace="imports",
        spec={},
        origin=ObjectReference("imports", job_id, job_id),
        generation=1,
        **values,
    )


class Dispatchers:
    """Dispatchers as several operators would run them, each with its own memory."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self.database = database
        self.redis_url = redis_url
        self.clients: list[Redis] = []

    def new(
        self, capacity: int = 10, queue: JobQueue | None = None, state: OperatorState | None = None
    ) -> DispatchLoop:
        client = connect(self.redis_url, client_name="dispatcher")
        self.clients.append(client)
        own = queue or JobQueue(client)
        return DispatchLoop(
            state or OperatorState("imports"),
            DispatchStore(self.database),
            queue=lambda _name: own,
            capacities=lambda: {QUEUE: Capacity(capacity)},
        )


class BrokenQueue(JobQueue):
    """Redis dies between the commit and the add."""

    broken = True

    async def add(self, messages: Any) -> None:
        if self.broken and messages:
            raise QueueUnavailableError
        await super().add(messages)


@pytest_asyncio.fixture(loop_scope="session")
async def dispatchers(database: Database, redis_url: str) -> AsyncIterator[Dispatchers]:
    made = Dispatchers(database, redis_url)
    yield made
    for client in made.clients:
        await client.aclose()


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def reaper(database: Database) -> ReapLoop:
    return ReapLoop(
        OperatorState("imports"), ClaimStore(database), WorkerStore(database), RepairStore(database)
    )


async def age_hand_overs(database: Database, seconds: float) -> None:
    async with database.connection() as connection:
        await connection.execute(
            'UPDATE "ProductImportJob" SET "dispatchedAt" = "dispatchedAt" - %s * interval \'1 second\'',
            (seconds,),
        )


async def test_only_a_window_is_handed_over(
    dispatchers: Dispatchers, jobs: JobStore, queue: JobQueue, worker: TakingWorker
) -> None:
    await jobs.record([request(f"job-{number:02}") for number in range(20)])
    dispatcher = dispatchers.new(capacity=4)
    await dispatcher.round()
    assert len(await queue.waiting_ids()) == 4
    await dispatcher.round()
    assert len(await queue.waiting_ids()) == 4
    await worker.take()
    await dispatcher.round()
    assert len(await queue.waiting_ids()) >= 4


async def test_companies_share_the_window(dispatchers: Dispatchers, jobs: JobStore, queue: JobQueue) -> None:
    await jobs.record([request(f"big-{number:03}", "big") for number in range(200)])
    await jobs.record([request(f"small-{number}", f"small-{number}") for number in range(3)])
    await dispatchers.new(capacity=8).round()
    waiting = sorted(identifier.rsplit("-", 1)[0] for identifier in await queue.waiting_ids())
    assert [job for job in waiting if job.startswith("small")] == ["small-0", "small-1", "small-2"]
    assert [job for job in waiting if job.startswith("big")] == [f"big-{n:03}" for n in range(5)]


async def test_enterprise_comes_first(
    dispatchers: Dispatchers, jobs: JobStore, database: Database, worker: TakingWorker
) -> None:
    async with database.connection() as connection:
        await connection.execute("""INSERT INTO "Company" (id, tier) VALUES ('large', 'ENTERPRISE')""")
    await jobs.record([request("basic", "acme")])
    await jobs.record([request("enterprise", "large")])
    await dispatchers.new(capacity=2).round()
    assert (await worker.fetch()).job_id == "enterprise"


async def test_suspended_job_stays(dispatchers: Dispatchers, jobs: JobStore, queue: JobQueue) -> None:
    await jobs.record([request("held", suspended=True), request("free")])
    await dispatchers.new().round()
    assert await queue.waiting_ids() == {"free-1"}


async def test_death_between_commit_and_add(
    dispatchers: Dispatchers, jobs: JobStore, database: Database, queue: JobQueue
) -> None:
    await jobs.record([request("job")])
    client = connect(dispatchers.redis_url, client_name="broken")
    dispatchers.clients.append(client)
    with pytest.raises(QueueUnavailableError):
        await dispatchers.new(queue=BrokenQueue(client)).round()
    assert (await jobs.read(["job"]))["job"].dispatched_at is not None
    assert await queue.waiting_ids() == frozenset()

    successor = dispatchers.new()
    await successor.round()
    assert await queue.waiting_ids() == frozenset(), "not overdue yet: a worker may be about to claim it"
    await age_hand_overs(database, 16)
    await dispatchers.new().round()
    assert await queue.waiting_ids() == {"job-2"}


async def test_add_that_failed_is_repeated_as_soon_as_redis_is_back(
    dispatchers: Dispatchers, jobs: JobStore, queue: JobQueue
) -> None:
    await jobs.record([request("job")])
    client = connect(dispatchers.redis_url, client_name="broken")
    dispatchers.clients.append(client)
    broken = BrokenQueue(client)
    dispatcher = dispatchers.new(queue=broken)
    with pytest.raises(QueueUnavailableError):
        await dispatcher.round()
    broken.broken = False
    await dispatcher.round()
    assert await queue.waiting_ids() == {"job-2"}


async def test_message_lost_between_fetch_and_claim(
    dispatchers: Dispatchers, jobs: JobStore, database: Database, worker: TakingWorker
) -> None:
    await jobs.record([request("job")])
    await dispatchers.new().round()
    fetched = await worker.fetch()
    await age_hand_overs(database, 16)
    await dispatchers.new().round()
    again = await worker.take()
    assert (again.job.id, again.job.dispatch) == ("job", fetched.dispatch + 1)
    assert await worker.claims.claim(fetched, worker_id="sleeper") is None


async def test_message_that_an_ended_worker_had_fetched_is_looked_for_soon(
    dispatchers: Dispatchers,
    jobs: JobStore,
    database: Database,
    worker: TakingWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "FETCHED_SECONDS", 0.0)
    workers = WorkerStore(database)
    await workers.register(WorkerProcess(worker.worker_id, QUEUE, "imports", "pod-a", "uid-pod-a", 5))
    state = OperatorState("imports")
    dispatcher = dispatchers.new(state=state)
    await jobs.record([request("job")])
    await dispatcher.round()
    fetched = await worker.fetch()
    await dispatcher.round()
    assert (await jobs.read(["job"]))["job"].dispatch == fetched.dispatch
    state.worker_ends["uid-pod-a"] = WorkerEnd("uid-pod-a", None)
    await ReapLoop(state, worker.claims, workers, RepairStore(database)).round()
    await dispatcher.round()
    assert (await jobs.read(["job"]))["job"].dispatch == fetched.dispatch + 1
    await dispatcher.round()
    assert (await jobs.read(["job"]))["job"].dispatch == fetched.dispatch + 1


async def test_message_that_waits_is_left_alone(
    dispatchers: Dispatchers, jobs: JobStore, database: Database, queue: JobQueue
) -> None:
    await jobs.record([request("job")])
    await dispatchers.new().round()
    await age_hand_overs(database, 3600)
    await dispatchers.new().round()
    assert await queue.waiting_ids() == {"job-1"}


async def test_flushed_redis_is_filled_at_once(
    dispatchers: Dispatchers, jobs: JobStore, queue: JobQueue, redis_url: str, worker: TakingWorker
) -> None:
    await jobs.record([request(f"job-{number}") for number in range(5)])
    dispatcher = dispatchers.new()
    await dispatcher.round()
    claim = await worker.take()
    client = Redis.from_url(redis_url)
    await client.flushall()
    await client.aclose()
    await dispatcher.round()
    waiting = await queue.waiting_ids()
    unclaimed = {f"job-{number}-2" for number in range(5)} - {f"{claim.job.id}-2"}
    assert waiting == unclaimed


async def test_job_without_object_takes_the_same_way(
    dispatchers: Dispatchers, database: Database, worker: TakingWorker
) -> None:
    async with database.connection() as connection:
        await connection.execute(
            """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('by-hand', 'acme', 'p')"""
        )
    await dispatchers.new().round()
    claim = await worker.take()
    assert (claim.job.id, claim.job.origin) == ("by-hand", None)


async def test_two_dispatchers_hand_over_once(
    dispatchers: Dispatchers, jobs: JobStore, queue: JobQueue
) -> None:
    await jobs.record([request(f"job-{number:03}") for number in range(100)])
    pair = [dispatchers.new(capacity=20), dispatchers.new(capacity=20)]
    for _ in range(5):
        await asyncio.gather(*(dispatcher.round() for dispatcher in pair))
    waiting = await queue.waiting_ids()
    assert len(waiting) == 20
    assert all(identifier.endswith("-1") for identifier in waiting), "none was handed over twice"


async def test_expired_lease_makes_the_job_due(
    dispatchers: Dispatchers, jobs: JobStore, worker: TakingWorker, reaper: ReapLoop
) -> None:
    await jobs.record([request("job")])
    dispatcher = dispatchers.new()
    await dispatcher.round()
    claim = await worker.take(lease_seconds=0.05)

    async def due() -> bool:
        await reaper.round()
        return (await jobs.read(["job"]))["job"].state is JobState.PENDING

    await eventually(due, what="the job due again")
    with pytest.raises(ClaimLostError):
        await worker.claims.finish(claim, JobState.COMPLETED, reason=None, message=None)
    await dispatcher.round()
    again = await worker.take()
    # The reaper has not watched for a lease's time yet, so nobody knows whether the worker died.
    assert (again.job.deaths, again.job.attempt) == (0, 0), "a lost lease uses up no try"


async def test_a_lease_that_runs_out_while_the_database_is_there_is_a_death(
    dispatchers: Dispatchers,
    jobs: JobStore,
    worker: TakingWorker,
    reaper: ReapLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reap, "WATCHED_SECONDS", 0.0)
    await jobs.record([request("job")])
    dispatcher = dispatchers.new()
    await dispatcher.round()
    await reaper.round()
    await worker.take(lease_seconds=0.05)

    async def due() -> bool:
        await reaper.round()
        return (await jobs.read(["job"]))["job"].state is JobState.PENDING

    await eventually(due, what="the job due again")
    assert (await jobs.read(["job"]))["job"].deaths == 1


@pytest.mark.parametrize(
    ("out_of_memory", "reason", "words"),
    [(False, "WorkerKilled", "the worker died"), (True, "OutOfMemory", "ran out of memory")],
)
async def test_third_death_makes_a_suspect_that_fails_alone(
    dispatchers: Dispatchers,
    jobs: JobStore,
    worker: TakingWorker,
    database: Database,
    *,
    out_of_memory: bool,
    reason: str,
    words: str,
) -> None:
    workers = WorkerStore(database)
    await jobs.record([request("job")])
    dispatcher = dispatchers.new()
    for deaths in range(3):
        await dispatcher.round()
        claim = await worker.take()
        assert (claim.job.deaths, claim.suspected) == (deaths, False)
        await worker.claims.end_of_workers([worker.worker_id])
    await dispatcher.round()
    claim = await worker.take()
    assert claim.suspected
    await worker.claims.mark_alone(claim)
    await workers.register(WorkerProcess(worker.worker_id, QUEUE, "imports", "pod", "uid-pod", 5))
    state = OperatorState("imports")
    state.worker_ends["uid-pod"] = WorkerEnd("uid-pod", None, out_of_memory)
    await ReapLoop(state, worker.claims, workers, RepairStore(database)).round()
    row = (await jobs.read(["job"]))["job"]
    assert (row.state, row.failure_reason, row.deaths) == (JobState.FAILED, reason, 4)
    assert row.message is not None
    assert words in row.message


async def test_end_of_a_pod_ends_its_processes_claims(
    dispatchers: Dispatchers, jobs: JobStore, worker: TakingWorker, database: Database
) -> None:
    workers = WorkerStore(database)
    for worker_id, pod in ((worker.worker_id, "pod-a"), ("survivor", "pod-b")):
        await workers.register(WorkerProcess(worker_id, QUEUE, "imports", pod, f"uid-{pod}", 5))
    await jobs.record([request("job"), request("other")])
    await dispatchers.new().round()
    lost = await worker.take()
    message = await worker.fetch()
    assert await worker.claims.claim(message, worker_id="survivor") is not None
    state = OperatorState("imports")
    state.worker_ends["uid-pod-a"] = WorkerEnd("uid-pod-a", None)
    await ReapLoop(state, worker.claims, workers, RepairStore(database)).round()
    rows = await jobs.read(["job", "other"])
    assert rows[lost.job.id].state is JobState.PENDING
    assert rows[message.job_id].state is JobState.IN_PROGRESS
    assert state.dispatch_wanted.is_set()
    assert [row[0] for row in await workers.of_pods(["uid-pod-a", "uid-pod-b"])] == ["survivor"]


async def test_stale_message_claims_nothing(
    dispatchers: Dispatchers, jobs: JobStore, worker: TakingWorker
) -> None:
    await jobs.record([request("job")])
    await dispatchers.new().round()
    claim = await worker.take()
    stale = Message("job", claim.job.dispatch)
    await worker.finish(claim)
    assert await worker.claims.claim(stale, worker_id="late") is None
    assert (await jobs.read(["job"]))["job"].state is JobState.COMPLETED


async def test_redis_away_hands_nothing_over(jobs: JobStore, database: Database) -> None:
    await jobs.record([request("job")])
    client = connect("redis://127.0.0.1:1/0", client_name="nowhere")
    queue = JobQueue(client)
    dispatcher = DispatchLoop(
        OperatorState("imports"),
        DispatchStore(database),
        queue=lambda _name: queue,
        capacities=lambda: {QUEUE: Capacity(5)},
    )
    with pytest.raises(QueueUnavailableError):
        await dispatcher.round()
    assert (await jobs.read(["job"]))["job"].dispatched_at is None
    await client.aclose()
