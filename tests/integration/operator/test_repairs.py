"""The repair loop and the dispatcher against real PostgreSQL and Valkey: whatever is lost or left over is put right."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from operator_world import TakingWorker
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from structlog.testing import capture_logs

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.errors import QueueUnavailableError
from import_core.domain.jobs import JobRequest, JobState, Message, ObjectReference
from import_core.domain.worker_ends import WorkerEnd
from import_operator.loops.dispatch import Capacity, DispatchLoop
from import_operator.loops.reap import ReapLoop
from import_operator.loops.repair import RepairLoop
from import_operator.settings import OperatorSettings
from import_operator.state import OperatorState

QUEUE = "product-imports"


def request(job_id: str, **values: Any) -> JobRequest:
    origin = ObjectReference("imports", job_id, job_id)
    return JobRequest(job_id, "acme", "acme-shopify", "imports", {}, origin, generation=1, **values)


def repairs(kind: str) -> float:
    return REGISTRY.get_sample_value("imports_repairs_total", {"kind": kind}) or 0.0


@dataclass
class Bench:
    """One operator's loops on one queue."""

    database: Database
    state: OperatorState
    queue: JobQueue
    jobs: JobStore
    dispatch: DispatchLoop
    repair: RepairLoop
    reap: ReapLoop

    async def execute(self, statement: str, *parameters: Any) -> list[Any]:
        async with self.database.connection() as connection:
            cursor = await connection.execute(statement, parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def handed_over(self, count: int, *, seconds_ago: float = 16) -> list[str]:
        """Rows that were handed over; Redis does not know."""
        job_ids = [f"job-{number:05}" for number in range(count)]
        await self.jobs.record([request(job_id) for job_id in job_ids])
        await self.execute(
            """UPDATE "ProductImportJob"
            SET dispatch = 1, "dispatchedAt" = clock_timestamp() - %s * interval '1 second'""",
            seconds_ago,
        )
        return job_ids


@pytest_asyncio.fixture(loop_scope="session")
async def make(database: Database, redis_url: str) -> AsyncIterator[Callable[..., Bench]]:
    client = connect(redis_url, client_name="repairs")

    def new(*, capacity: int = 10, **settings: float) -> Bench:
        state, queue = OperatorState("imports"), JobQueue(client)
        store, dispatching = RepairStore(database), DispatchStore(database)
        configuration = OperatorSettings(
            database_url="postgresql://", redis_url="redis://", _env_file=None, **settings
        )
        common: dict[str, Any] = {
            "queue": lambda _name: queue,
            "capacities": lambda: {QUEUE: Capacity(capacity)},
        }
        return Bench(
            database,
            state,
            queue,
            JobStore(database),
            DispatchLoop(state, dispatching, **common),
            RepairLoop(state, store, dispatching, settings=configuration, **common),
            ReapLoop(state, ClaimStore(database), WorkerStore(database), store),
        )

    yield new
    await client.aclose()


async def test_every_orphan_is_found_however_many_wait_before_it(make: Any) -> None:
    bench = make()
    job_ids = await bench.handed_over(2600)
    # The check of every 5 s looks at the oldest 2,000 only, and those are all there.
    await bench.queue.add([Message(job_id, 1) for job_id in job_ids[:-7]])
    before = repairs("hand-over-lost")
    await bench.repair.repair_hand_overs()
    waiting = await bench.queue.waiting_ids()
    assert waiting == {f"{job_id}-1" for job_id in job_ids[:-7]} | {f"{job_id}-2" for job_id in job_ids[-7:]}
    assert repairs("hand-over-lost") - before == 7


async def test_orphans_are_read_in_bounded_pages(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make()
    job_ids = await bench.handed_over(1200)
    asked: list[int] = []
    absent = JobQueue.absent

    async def watched(self: JobQueue, queue_ids: Any) -> set[str]:
        asked.append(len(queue_ids))
        return await absent(self, queue_ids)

    monkeypatch.setattr(JobQueue, "absent", watched)
    await bench.repair.repair_hand_overs()
    assert asked == [500, 500, 200]
    assert len(await bench.queue.waiting_ids()) == len(job_ids)


async def test_redis_lost_is_repaired_in_full_by_the_next_round(make: Any, redis_url: str) -> None:
    bench = make()
    await bench.dispatch.round()
    job_ids = await bench.handed_over(2600, seconds_ago=0)
    await bench.queue.add([Message(job_id, 1) for job_id in job_ids])
    client = Redis.from_url(redis_url)
    await client.flushall()
    await client.aclose()
    before = repairs("redis-lost")
    await bench.dispatch.round()
    assert await bench.queue.waiting_ids() == {f"{job_id}-2" for job_id in job_ids}
    assert repairs("redis-lost") - before == 2600


async def test_recovery_that_breaks_off_is_taken_up_again(
    make: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis came back empty and went away again: its new epoch must not hide what is still missing."""
    bench = make()
    await bench.dispatch.round()
    job_ids = await bench.handed_over(3, seconds_ago=0)
    client = Redis.from_url(redis_url)
    await client.flushall()
    await client.aclose()
    with monkeypatch.context() as patch:

        async def gone(self: JobQueue, _queue_ids: Any) -> set[str]:
            raise QueueUnavailableError

        patch.setattr(JobQueue, "absent", gone)
        with pytest.raises(QueueUnavailableError):
            await bench.dispatch.round()
    await bench.dispatch.round()
    assert await bench.queue.waiting_ids() == {f"{job_id}-2" for job_id in job_ids}


async def test_leftovers_of_outdated_hand_overs_are_removed(make: Any, worker: TakingWorker) -> None:
    bench = make()
    await bench.jobs.record([request(job_id) for job_id in ("waits", "cancelled", "suspended", "deleted")])
    await bench.dispatch.round()
    await bench.jobs.cancel(["cancelled"], message="gone")
    await bench.execute("""UPDATE "ProductImportJob" SET suspended = true WHERE id = 'suspended'""")
    await bench.execute("""DELETE FROM "ProductImportJob" WHERE id = 'deleted'""")
    await bench.queue.add([Message("waits", 7)])
    assert len(await bench.queue.waiting_ids()) == 5
    before = repairs("leftover-message")
    await bench.repair.repair_hand_overs()
    assert await bench.queue.waiting_ids() == {"waits-1"}
    assert repairs("leftover-message") - before == 4
    assert (await worker.take()).job.id == "waits"


async def test_foreign_messages_are_left_alone(make: Any) -> None:
    bench = make()
    await bench.queue._queue.add("other", {}, {"jobId": "somebody"})
    await bench.repair.repair_hand_overs()
    assert await bench.queue.waiting_ids() == {"somebody"}


async def test_row_in_progress_without_a_claim_runs_again(make: Any, worker: TakingWorker) -> None:
    bench = make()
    await bench.execute(
        """INSERT INTO "ProductImportJob" (id, "companyId", provider, status, dispatch)
        VALUES ('by-hand', 'acme', 'p', 'IN_PROGRESS', 1)"""
    )
    before = repairs("job-without-claim")
    await bench.repair.repair_hand_overs()
    assert repairs("job-without-claim") - before == 1
    assert bench.state.dispatch_wanted.is_set()
    await bench.dispatch.round()
    assert (await worker.take()).job.id == "by-hand"


async def test_reaper_ends_claims_of_jobs_that_the_platform_cancelled(
    make: Any, worker: TakingWorker
) -> None:
    bench = make()
    await bench.jobs.record([request("job")])
    await bench.dispatch.round()
    claim = await worker.take()
    await bench.execute("""UPDATE "ProductImportJob" SET status = 'CANCELLED'""")
    before = repairs("claim-without-job")
    await bench.reap.round()
    assert repairs("claim-without-job") - before == 1
    assert await bench.execute("SELECT 1 FROM imports.claim") == []
    assert (await bench.jobs.read(["job"]))["job"].state is JobState.CANCELLED
    assert claim.job.id == "job"


async def test_job_without_progress_is_tried_again_and_fails_in_the_end(
    make: Any, worker: TakingWorker
) -> None:
    bench = make(stalled_after_seconds=0.01, stalled_fail_after_seconds=3600)
    await bench.jobs.record([request("job")])
    states = []
    before = REGISTRY.get_sample_value("imports_jobs_stalled_failed_total") or 0.0
    for _ in range(4):
        await bench.execute('UPDATE "ProductImportJob" SET "notBefore" = NULL')
        await bench.dispatch.round()
        await worker.take()
        await asyncio.sleep(0.02)
        await bench.repair.end_stalled()
        states.append((await bench.jobs.read(["job"]))["job"])
    assert [(row.state, row.attempt) for row in states] == [
        (JobState.PENDING, 1),
        (JobState.PENDING, 2),
        (JobState.PENDING, 3),
        (JobState.FAILED, 3),
    ]
    assert states[-1].failure_reason == "Stalled"
    assert REGISTRY.get_sample_value("imports_jobs_stalled_failed_total") == before + 1
    assert "job" in bench.state.to_project.take(10)


async def test_job_that_started_long_ago_fails_at_once(make: Any, worker: TakingWorker) -> None:
    bench = make(stalled_after_seconds=0.01, stalled_fail_after_seconds=0.01)
    await bench.jobs.record([request("job")])
    await bench.dispatch.round()
    await worker.take()
    await asyncio.sleep(0.02)
    await bench.repair.end_stalled()
    row = (await bench.jobs.read(["job"]))["job"]
    assert (row.state, row.failure_reason, row.attempt) == (JobState.FAILED, "Stalled", 0)


async def test_forced_deletion_of_a_pod_leaves_its_process_time_to_show_itself(
    make: Any, worker: TakingWorker, database: Database
) -> None:
    bench = make()
    await WorkerStore(database).register(WorkerProcess(worker.worker_id, QUEUE, "imports", "pod", "uid", 5))
    await bench.jobs.record([request("job")])
    await bench.dispatch.round()
    claim = await worker.take()
    bench.state.worker_ends["uid"] = WorkerEnd("uid", None, certain=False)
    ((before,),) = await bench.execute("SELECT clock_timestamp()")
    await bench.reap.round()
    assert (await bench.jobs.read(["job"]))["job"].state is JobState.IN_PROGRESS
    ((expires, now),) = await bench.execute("SELECT expires_at, clock_timestamp() FROM imports.claim")
    # Longer than between two renewals, shorter than a lease; from the moment of the round, however long it took.
    assert before + timedelta(seconds=14) <= expires <= now + timedelta(seconds=14)
    await worker.finish(claim)


async def test_an_end_that_a_worker_wrote_and_could_not_tell_of_is_shown(
    make: Any, worker: TakingWorker, database: Database
) -> None:
    bench = make()
    await WorkerStore(database).register(WorkerProcess(worker.worker_id, QUEUE, "imports", "pod", "uid", 5))
    await bench.jobs.record([request("job")])
    await bench.dispatch.round()
    await worker.finish(await worker.take())
    for uid, phase in (("job", "Running"), ("other", "Queued"), ("done", "Succeeded")):
        body = {
            "metadata": {"uid": uid, "name": uid, "resourceVersion": "1"},
            "status": {"phase": phase},
        }
        bench.state.jobs.put(body)
    bench.state.worker_ends["uid"] = WorkerEnd("uid", None, certain=True)
    await bench.reap.round()
    assert bench.state.to_project.take(10) == ["job"]


async def test_paused_queue_hands_out_nothing_and_goes_on_afterwards(
    make: Any, worker: TakingWorker, database: Database
) -> None:
    bench = make(capacity=3)
    await bench.jobs.record([request(f"job-{number}") for number in range(6)])
    await bench.dispatch.round()
    running = await worker.take()
    pauses = QueueStateStore(database)
    await pauses.set_paused(QUEUE, True, reason="maintenance", changed_by="ann")
    await bench.dispatch.round()
    rows = await bench.jobs.read([f"job-{number}" for number in range(6)])
    assert all(row.dispatched_at is None for job_id, row in rows.items() if job_id != running.job.id)
    assert rows[running.job.id].state is JobState.IN_PROGRESS, "jobs under way go on"
    for queue_id in await bench.queue.waiting_ids():
        job_id, _, dispatch = queue_id.rpartition("-")
        assert await worker.claims.claim(Message(job_id, int(dispatch)), worker_id="w") is None
    await bench.repair.repair_hand_overs()
    assert await bench.queue.waiting_ids() == frozenset()
    await worker.finish(running)
    await pauses.set_paused(QUEUE, False, reason=None, changed_by="ann")
    await bench.dispatch.round()
    assert len(await bench.queue.waiting_ids()) >= 3


async def test_objects_of_a_paused_queue_are_shown_anew(make: Any, database: Database) -> None:
    bench = make()
    bench.state.jobs.put({"metadata": {"uid": "live", "name": "live", "resourceVersion": "1"}})
    bench.state.jobs.put(
        {
            "metadata": {"uid": "done", "name": "done", "resourceVersion": "1"},
            "status": {"phase": "Succeeded"},
        }
    )
    pauses = QueueStateStore(database)
    for paused in (True, False):
        await pauses.set_paused(QUEUE, paused, reason=None, changed_by="ann")
        await bench.dispatch.round()
        assert bench.state.to_project.take(10) == ["live"]
        assert REGISTRY.get_sample_value("imports_queue_paused", {"queue": QUEUE}) == paused
        await bench.dispatch.round()
        assert bench.state.to_project.take(10) == [], "told once"


async def test_repairs_are_logged_with_job_kind_and_reason(make: Any) -> None:
    bench = make()
    await bench.handed_over(1)
    with capture_logs() as logs:
        await bench.repair.repair_hand_overs()
    told = [entry for entry in logs if entry["event"] == "job.repaired"]
    assert [(entry["jobId"], entry["kind"], entry["reason"]) for entry in told] == [
        ("job-00000", "hand-over-lost", "Orphaned")
    ]
