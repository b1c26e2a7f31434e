"""The queue limiter, the guard's levels and held jobs, with thresholds scaled down; PostgreSQL and Valkey are real."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio
from operator_world import TakingWorker
from prometheus_client import REGISTRY

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.evidence import EvidenceStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.queue_state import COMPANY, QueueState, QueueStateStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.backpressure import HealthLevel, Thresholds
from import_core.domain.dispatch import StartLimit
from import_core.domain.emergency import (
    TRIAL_JOBS,
    TRIAL_STARTS,
    Emergency,
    EmergencyPhase,
    EmergencyPolicy,
)
from import_core.domain.jobs import Claim, JobRequest, JobState, ObjectReference
from import_operator.holding import Holding
from import_operator.loops.dispatch import Capacity, DispatchLoop
from import_operator.loops.guard import GuardLoop
from import_operator.loops.record import RecordLoop
from import_operator.loops.tell import TellLoop
from import_operator.policies import QueuePolicy
from import_operator.state import OperatorState, SeenDepth

QUEUE = "product-imports"
SMALL = Thresholds(
    degraded_above=4, critical_above=8, overload_above=12, improved_seconds=0.0, basic_delay_seconds=0.0
)


def request(job_id: str, company: str = "acme") -> JobRequest:
    origin = ObjectReference("imports", job_id, job_id)
    return JobRequest(job_id, company, "acme-shopify", "imports", {}, origin, 1)


def provider(company: str) -> dict[str, Any]:
    return {
        "metadata": {"name": company, "namespace": "imports", "uid": company, "resourceVersion": "1"},
        "spec": {
            "companyId": company,
            "type": "shopify",
            "baseUrl": "https://acme.myshopify.com",
            "credentialsSecretRef": {"name": "acme"},
        },
    }


@dataclass
class Bench:
    """An operator's loops, turned by hand."""

    database: Database
    redis_url: str
    policy: QueuePolicy = field(default_factory=QueuePolicy)
    clients: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = OperatorState("imports")
        self.jobs = JobStore(self.database)
        self.queues = QueueStateStore(self.database)
        self.holding = Holding(self.state, self.queues, OriginStore(self.database))
        self.record = RecordLoop(self.state, self.jobs, self.holding)
        kube = KubeClient.__new__(KubeClient)  # Events are not posted here
        self.guard = GuardLoop(
            self.state,
            self.queues,
            EvidenceStore(self.database),
            TellLoop(kube, namespace="imports", instance="tests"),
            holding=self.holding,
            policies=lambda: {QUEUE: self.policy},
        )

    def dispatcher(self, *, capacity: int = 50, limit: StartLimit | None = None) -> DispatchLoop:
        client = connect(self.redis_url, client_name="dispatcher")
        self.clients.append(client)
        own = JobQueue(client)
        return DispatchLoop(
            self.state,
            DispatchStore(self.database),
            queue=lambda _name: own,
            capacities=lambda: {QUEUE: Capacity(capacity, limit)},
        )

    async def look(self) -> QueueState:
        """Measure as the scale loop does, then guard."""
        seen_at = datetime.now(UTC)
        depth = (await self.jobs.depth([QUEUE]))[QUEUE]
        self.state.depths[QUEUE] = SeenDepth(depth.due, depth.claimed, seen_at)
        await self.guard.round()
        return await self.queues.health(QUEUE)

    def apply(self, *names: str, company: str = "acme") -> None:
        self.state.providers.put(provider(company))
        for name in names:
            body = {
                "metadata": {
                    **{"name": name, "namespace": "imports", "uid": name, "generation": 1},
                    **{"resourceVersion": "1", "creationTimestamp": "2026-11-27T12:00:00Z"},
                },
                "spec": {"companyId": company, "providerRef": {"name": company}},
            }
            self.state.jobs.put(body)
            self.state.to_record.add(name)

    def refusal(self, name: str) -> str | None:
        verdict = self.state.verdicts.get(name)
        return verdict.refusal.reason if verdict and verdict.refusal else None

    async def rows(self) -> dict[str, str]:
        async with self.database.connection() as connection:
            cursor = await connection.execute('SELECT id, status FROM "ProductImportJob"')
            return dict(await cursor.fetchall())


@pytest_asyncio.fixture(loop_scope="session")
async def bench(database: Database, redis_url: str) -> AsyncIterator[Bench]:
    made = Bench(database, redis_url)
    yield made
    for client in made.clients:
        await client.aclose()


def metric(name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"queue": QUEUE})


async def take_all(worker: TakingWorker, queue: JobQueue) -> list[Claim]:
    return [await worker.take() for _ in await queue.waiting_ids()]


async def test_no_more_jobs_start_than_the_limit_allows_however_many_dispatch(
    bench: Bench, queue: JobQueue, worker: TakingWorker
) -> None:
    await bench.jobs.record([request(f"job-{number:02}") for number in range(20)])
    limit = StartLimit(6, 60)
    both = [bench.dispatcher(limit=limit), bench.dispatcher(limit=limit)]
    claims: list[Claim] = []
    for _ in range(3):
        for dispatcher in both:
            await dispatcher.round()
        claims += await take_all(worker, queue)
    assert len(claims) == 6
    async with bench.database.connection() as connection:
        await connection.execute("UPDATE imports.job_start SET started_at = started_at - interval '61 s'")
    await both[1].round()
    assert len(await queue.waiting_ids()) == 6, "the rest was delayed, not dropped"


async def test_jobs_on_their_way_count_as_started(bench: Bench, queue: JobQueue) -> None:
    await bench.jobs.record([request(f"job-{number:02}") for number in range(20)])
    dispatcher = bench.dispatcher(limit=StartLimit(6, 1))
    for _ in range(3):
        await dispatcher.round()
    assert len(await queue.waiting_ids()) == 6, "whenever workers come, no more than these start at once"


async def test_without_a_limit_the_window_alone_counts(bench: Bench, queue: JobQueue) -> None:
    await bench.jobs.record([request(f"job-{number:02}") for number in range(20)])
    await bench.dispatcher(capacity=20).round()
    assert len(await queue.waiting_ids()) == 20


async def test_levels_intake_stop_and_resume_while_everything_accepted_completes(
    bench: Bench, queue: JobQueue, worker: TakingWorker
) -> None:
    bench.policy = QueuePolicy(SMALL)
    accepted = [f"job-{number:02}" for number in range(14)]
    levels = {}
    for number, name in enumerate(accepted, start=1):
        await bench.jobs.record([request(name)])
        levels[number] = (await bench.look()).level
    assert [levels[depth] for depth in (4, 5, 8, 9, 12, 13)] == [
        *(HealthLevel.HEALTHY, HealthLevel.DEGRADED, HealthLevel.DEGRADED),
        *(HealthLevel.CRITICAL, HealthLevel.CRITICAL, HealthLevel.OVERLOAD),
    ]
    assert metric("imports_intake_stopped") == 1
    assert metric("imports_queue_health_level") == 3
    dispatcher = bench.dispatcher(capacity=2)
    stopped = []
    done = 0
    while done < len(accepted):
        await dispatcher.round()
        for claim in await take_all(worker, queue):
            await worker.finish(claim)
            done += 1
        stopped.append((await bench.look()).intake.intake.stopped)
    assert (stopped[0], stopped[-1]) == (True, False), "work goes on while intake is stopped, and resumes it"
    assert metric("imports_intake_stopped") == 0
    assert metric("imports_queue_health_level") == 0
    assert set((await bench.rows()).values()) == {"COMPLETED"}


async def test_a_queue_that_could_not_be_measured_changes_nothing(bench: Bench) -> None:
    bench.policy = QueuePolicy(SMALL)
    await bench.jobs.record([request(f"job-{number:02}") for number in range(13)])
    assert (await bench.look()).intake.intake.stopped
    bench.state.depths[QUEUE] = SeenDepth(0, 0, datetime.now(UTC) - timedelta(seconds=60))
    await bench.guard.round()
    state = await bench.queues.health(QUEUE)
    assert (state.level, state.intake.depth) == (HealthLevel.OVERLOAD, 13)


async def test_intake_does_not_resume_while_the_queue_can_not_be_measured(bench: Bench) -> None:
    bench.policy = QueuePolicy(replace(SMALL, improved_seconds=0.5))
    await bench.jobs.record([request(f"job-{number:02}") for number in range(13)])
    assert (await bench.look()).intake.intake.stopped
    await bench.jobs.cancel([f"job-{number:02}" for number in range(10)], message="m")
    better = (await bench.look()).intake.intake
    assert (better.stopped, better.improved_since is None) == (True, False)
    bench.state.depths.clear()
    bench.policy = QueuePolicy(SMALL)  # the time is over
    await bench.guard.round()
    unknown = (await bench.queues.health(QUEUE)).intake.intake
    assert (unknown.stopped, unknown.improved_since) == (True, None), "it counts anew"
    assert not (await bench.look()).intake.intake.stopped


async def test_jobs_that_there_is_no_room_for_are_held_and_taken_by_themselves(
    bench: Bench, queue: JobQueue, worker: TakingWorker
) -> None:
    bench.policy = QueuePolicy(SMALL)
    async with bench.database.connection() as connection:
        await connection.execute("""INSERT INTO "Company" (id, tier) VALUES ('large', 'ENTERPRISE')""")
    await bench.look()
    basic = [f"basic-{number:02}" for number in range(20)]
    bench.apply(*basic)
    await bench.record.round()
    assert len(await bench.rows()) == 8, "up to critical at once, before the depth was measured again"
    held = [name for name in basic if bench.refusal(name) == "Backpressure"]
    assert len(held) == 12
    refusal = bench.state.verdicts[held[0]].refusal
    assert refusal is not None
    assert "by itself" in refusal.message
    large = [f"large-{number:02}" for number in range(6)]
    bench.apply(*large, company="large")
    await bench.look()
    await bench.record.round()
    assert len(await bench.rows()) == 12, "ENTERPRISE goes on, up to overload"
    # The platform's own rows are never refused.
    async with bench.database.connection() as connection:
        await connection.execute(
            """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('own', 'acme', 'p')"""
        )
    assert (await bench.look()).intake.intake.stopped
    dispatcher = bench.dispatcher(capacity=3)
    done: list[str] = []
    for _ in range(60):
        await dispatcher.round()
        for claim in await take_all(worker, queue):
            await worker.finish(claim)
            done.append(claim.job.id)
        state = await bench.look()
        await bench.record.round()
        assert state.intake.depth <= 13
    assert sorted(done) == sorted([*basic, *large, "own"]), "nothing is lost, nothing is done twice"
    assert bench.state.held == {}
    assert {bench.refusal(name) for name in [*basic, *large]} == {None}


async def test_a_job_with_a_row_is_never_held(bench: Bench) -> None:
    bench.policy = QueuePolicy(SMALL)
    bench.apply("mine")
    await bench.record.round()
    await bench.queues.set_intake(QUEUE, stopped=True, reason="r", changed_by="ada")
    bench.state.to_record.add("mine")
    bench.apply("new")
    await bench.record.round()
    assert (bench.refusal("mine"), bench.refusal("new")) == (None, "Backpressure")
    bench.state.forget_job("new")
    assert bench.state.held == {}, "a deleted one is held no more"


async def test_a_persons_stop_and_resume_of_intake(bench: Bench) -> None:
    bench.policy = QueuePolicy(SMALL)
    await bench.queues.set_intake(QUEUE, stopped=True, reason="r", changed_by="ada")
    bench.apply("a")
    await bench.look()
    await bench.record.round()
    assert await bench.rows() == {}
    await bench.queues.set_intake(QUEUE, stopped=False, reason=None, changed_by="ada")
    await bench.look()
    await bench.record.round()
    assert await bench.rows() == {"a": "PENDING"}


async def test_emergency_pause_trial_and_resume(bench: Bench, queue: JobQueue, worker: TakingWorker) -> None:
    bench.policy = QueuePolicy(emergency=EmergencyPolicy(pause_seconds=0.0))
    insert = """INSERT INTO "ProductImportJob" (id, "companyId", provider, status, "failureReason", "completedAt")
        SELECT 'bad-' || n, 'c-' || n %% 5, 'p', 'FAILED', 'UnexpectedError', clock_timestamp()
        FROM generate_series(1, 50) n"""
    async with bench.database.connection() as connection:
        await connection.execute(insert.replace("%%", "%"))
    await bench.jobs.record([request(f"job-{number:02}") for number in range(40)])
    dispatcher = bench.dispatcher()
    paused = await bench.look()
    assert paused.emergency.phase is EmergencyPhase.PAUSED
    assert paused.emergency.reason == "only 0 of the last 50 jobs succeeded"
    assert metric("imports_dispatch_paused") == 1
    await dispatcher.round()
    assert await queue.waiting_ids() == frozenset()
    assert (await bench.jobs.read(["job-00"]))["job-00"].queue_paused
    assert (await bench.look()).emergency.phase is EmergencyPhase.TRYING
    await dispatcher.round()
    tried = await take_all(worker, queue)
    assert len(tried) == TRIAL_STARTS
    await dispatcher.round()
    assert await queue.waiting_ids() == frozenset(), "a few, not all"
    for claim in tried[:TRIAL_JOBS]:
        await worker.finish(claim)
    assert (await bench.look()).emergency.phase is EmergencyPhase.NONE
    assert metric("imports_dispatch_paused") == 0
    await dispatcher.round()
    assert len(await queue.waiting_ids()) == 40 - TRIAL_STARTS
    assert (await bench.look()).emergency.phase is EmergencyPhase.NONE, (
        "the old failures are no more evidence"
    )


async def try_jobs(bench: Bench) -> None:
    async with bench.queues.locked(QUEUE) as locked:
        now = datetime.now(UTC)
        trying = Emergency(EmergencyPhase.TRYING, "r", now, now)
        await locked.save(replace(locked.state, emergency=trying), tell=False)


async def test_a_trial_whose_jobs_were_given_back_tries_others(
    bench: Bench, queue: JobQueue, worker: TakingWorker
) -> None:
    bench.policy = QueuePolicy(emergency=EmergencyPolicy(pause_seconds=0.0))
    await try_jobs(bench)
    await bench.jobs.record([request(f"job-{number:02}", f"c-{number}") for number in range(40)])
    dispatcher = bench.dispatcher()
    for _ in range(2):
        await dispatcher.round()
        tried = await take_all(worker, queue)
        assert len(tried) == TRIAL_STARTS
        for claim in tried:
            await worker.claims.release(
                claim, delay_seconds=60, tries=0, waiting_reason="BreakerOpen", message=None
            )
        assert (await bench.look()).emergency.phase is EmergencyPhase.TRYING
    await dispatcher.round()
    for claim in (await take_all(worker, queue))[:TRIAL_JOBS]:
        await worker.finish(claim)
    assert (await bench.look()).emergency.phase is EmergencyPhase.NONE


async def test_a_paused_companys_jobs_are_nothing_to_try(bench: Bench, queue: JobQueue) -> None:
    bench.policy = QueuePolicy(emergency=EmergencyPolicy(pause_seconds=0.0))
    await bench.queues.pause(COMPANY, "held", reason=None, changed_by="ada")
    await bench.jobs.record([request("held", "held"), request("free", "free")])
    evidence = EvidenceStore(bench.database)
    assert await evidence.dispatchable(QUEUE)
    await bench.dispatcher().round()
    assert await evidence.dispatchable(QUEUE), "what no worker has claimed yet is still to be tried"
    await bench.jobs.cancel(["free"], message="m")
    assert not await evidence.dispatchable(QUEUE)
    await try_jobs(bench)
    assert (await bench.look()).emergency.phase is EmergencyPhase.NONE


async def test_emergency_pause_is_ended_by_hand(bench: Bench, worker: TakingWorker) -> None:
    for number in range(50):
        await bench.jobs.record([request(f"job-{number:02}", f"company-{number % 5}")])
    await bench.dispatcher().round()
    for _ in range(50):
        await worker.finish(await worker.take(), JobState.FAILED, reason="UnexpectedError", message="m")
    assert (await bench.look()).emergency.phase is EmergencyPhase.PAUSED
    await bench.queues.set_paused(QUEUE, False, reason=None, changed_by="ada")
    assert (await bench.look()).emergency.phase is EmergencyPhase.NONE


async def test_a_paused_companys_jobs_wait_while_others_go_on(
    bench: Bench, queue: JobQueue, worker: TakingWorker
) -> None:
    await bench.jobs.record([request("held", "held"), request("free", "free")])
    dispatcher = bench.dispatcher()
    await dispatcher.round()
    await bench.queues.pause(COMPANY, "held", reason=None, changed_by="ada")
    await dispatcher.round()
    assert (await worker.take()).job.id == "free", "the other's hand-over is outdated"
    await bench.queues.resume(COMPANY, "held")
    await dispatcher.round()
    assert (await worker.take()).job.id == "held"
