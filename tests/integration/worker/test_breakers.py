"""A provider that fails: its breaker opens for all workers, one call at a time probes, and no job loses a try."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.connections import ConnectionStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.notifications import CONNECTION_CHANNEL, listen
from import_core.adapters.tasks import end_tasks
from import_core.domain import failures
from import_core.domain.breaker import CLOSED
from import_core.domain.jobs import JobRequest, JobState, ObjectReference
from import_core.domain.resources.import_provider import BreakerState
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.faults import FaultAction, FaultSettings
from import_operator.loops.breakers import BreakerLoop
from import_operator.loops.dispatch import Capacity, DispatchLoop
from import_operator.state import OperatorState

NAMESPACE = "imports"
CATALOGUE = "tiny-1-0"
JOBS = 200
WINDOW = 60
"""Jobs handed over or running while the breaker opened, at most."""
THRESHOLD, OPEN_SECONDS = 5, 1
BREAKER = {"failureThreshold": THRESHOLD, "openSeconds": OPEN_SECONDS}


def order(stage, **api: Any) -> None:
    """Give the provider its faults; its own limit is far away."""
    faults = FaultOrder(api=FaultSettings(**api), rate_scale=10_000)
    set_faults(stage.samples.account("roastify", CATALOGUE), faults)


def calls(stage) -> list[float]:
    account = stage.samples.account("roastify", CATALOGUE)
    return sorted(call.at for call in account.counters.calls)


def one_at_a_time(times: list[float]) -> list[float]:
    """The last calls, of which each came as long after the one before as a breaker stays open."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    alone = itertools.takewhile(lambda gap: gap >= OPEN_SECONDS, reversed(gaps))
    return times[-1 - sum(1 for _ in alone) :]


async def breaker(stage, name: str):
    return (await BreakerStore(stage.database).read(NAMESPACE, name)).breaker


async def until(check, *, seconds: float = 60.0):
    async with asyncio.timeout(seconds):
        while not (found := await check()):  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def dispatching(stage, *, jobs: int = 10) -> AsyncIterator[None]:
    """The operator's two loops that these jobs need, round after round."""
    state = OperatorState(NAMESPACE)
    dispatch = DispatchLoop(
        state,
        DispatchStore(stage.database),
        queue=lambda _: stage.queue,
        capacities=lambda: {stage.queue.name: Capacity(jobs)},
    )
    wake = BreakerLoop(state, BreakerStore(stage.database))

    async def run() -> None:
        while True:
            await wake.round()
            await dispatch.round()
            await asyncio.sleep(0.05)

    task = asyncio.create_task(run())
    try:
        yield
        assert not task.done()
    finally:
        await end_tasks([task])


async def record(stage, provider: str, number: int) -> list[str]:
    ids = [f"job-{n}" for n in range(number)]
    spec = {"companyId": "acme", "providerRef": {"name": provider}}
    await stage.jobs.record(
        [
            JobRequest(i, "acme", provider, NAMESPACE, spec, ObjectReference(NAMESPACE, i, i), generation=1)
            for i in ids
        ]
    )
    return ids


async def test_an_outage_costs_no_job_a_try_and_the_provider_sees_one_probe_at_a_time(stage) -> None:
    order(stage, outage=True)
    provider = stage.connect("roastify", CATALOGUE, circuitBreaker=BREAKER)
    ids = await record(stage, provider, JOBS)

    async def all_wait() -> bool:
        (row,) = await stage.rows(
            """SELECT count(*) FROM "ProductImportJob" WHERE status = 'PENDING' AND "dispatchedAt" IS NULL"""
        )
        return row[0] >= JOBS - 1 and (await breaker(stage, provider)).state is not BreakerState.CLOSED

    async with stage.worker(), stage.worker(), dispatching(stage):
        await until(all_wait)
        opened_at = (await breaker(stage, provider)).opened_at

        async def three_probed() -> bool:
            return (await breaker(stage, provider)).failures >= THRESHOLD + 3

        await until(three_probed)
        assert (await breaker(stage, provider)).opened_at == opened_at
        during = calls(stage)
        order(stage)
        for job_id in ids:
            job = await stage.finished(job_id)
            assert (job.state, job.attempt, job.deaths) == (JobState.COMPLETED, 0, 0)
    assert await breaker(stage, provider) == CLOSED
    # Those under way while it opened, at most one for each job of both workers, however long they took to arrive;
    # then single probes.
    probes = one_at_a_time(during)
    assert len(probes) >= 3
    assert len(during) - len(probes) <= THRESHOLD + 2 * stage.settings.concurrency
    # Each was started once to be done; before that few started, to open it and to probe.
    (row,) = await stage.rows("SELECT count(*) FROM imports.job_start")
    assert row[0] <= JOBS + WINDOW + len(probes) + 1
    (row,) = await stage.rows("""SELECT max(attempt) FROM "ProductImportJob" """)
    assert row[0] == 0


async def test_a_lone_job_whose_provider_does_not_answer_survives_the_outage(stage, monkeypatch) -> None:
    monkeypatch.setattr(failures, "RETRY_DELAYS_SECONDS", (0.01, 0.01, 0.01))
    order(stage, latency_seconds=3600)
    provider = stage.connect("roastify", CATALOGUE, circuitBreaker=BREAKER, timeoutSeconds=1)

    async def probed() -> bool:
        return (await breaker(stage, provider)).failures > THRESHOLD

    async with stage.worker(), dispatching(stage):
        await record(stage, provider, 1)
        await until(probed)
        order(stage)
        job = await stage.finished("job-0")
    assert job.state is JobState.COMPLETED
    assert job.attempt < 1 + len(failures.RETRY_DELAYS_SECONDS)


async def test_a_few_failures_between_successes_open_nothing(stage) -> None:
    provider = stage.connect("roastify", CATALOGUE, circuitBreaker=BREAKER)
    order(stage, next=[FaultAction(times=2)])
    async with stage.worker(), dispatching(stage):
        for number, _ in enumerate(await record(stage, provider, 3)):
            job = await stage.finished(f"job-{number}")
            assert (job.state, job.attempt) == (JobState.COMPLETED, 0)
    assert await breaker(stage, provider) == CLOSED


@pytest.mark.parametrize("status", [404, 429])
async def test_a_provider_that_answers_is_no_failing_one(stage, status: int) -> None:
    provider = stage.connect("roastify", CATALOGUE, circuitBreaker={"failureThreshold": 1, "openSeconds": 60})
    order(stage, next=[FaultAction(status=status, retry_after=0.01 if status == 429 else None)])
    await stage.submit("job-1", provider)
    async with stage.worker() as worker:
        await stage.finished("job-1")
        throttled = worker.metrics.provider_throttled.labels("roastify")._value.get()
    assert throttled == (status == 429)
    assert await breaker(stage, provider) == CLOSED


async def test_a_breaker_opened_by_hand_holds_its_jobs_and_reset_lets_them_go(stage) -> None:
    provider = stage.connect("roastify", CATALOGUE)
    order(stage)
    store = BreakerStore(stage.database)
    await store.open_by_hand(NAMESPACE, provider, by="ada", reason="moves")
    works = stage.connect("roastify", "tiny-2-0", company="bean")
    async with stage.worker(), dispatching(stage):
        await record(stage, provider, 1)
        spec = {"companyId": "bean", "providerRef": {"name": works}}
        origin = ObjectReference(NAMESPACE, "works", "works")
        await stage.jobs.record([JobRequest("works", "bean", works, NAMESPACE, spec, origin, generation=1)])
        await stage.finished("works")
        job = await stage.job("job-0")
        assert (job.state, job.dispatch, job.breaker_open) == (JobState.PENDING, 0, True)
        assert calls(stage) == []
        await store.reset(NAMESPACE, provider)
        assert (await stage.finished("job-0")).attempt == 0


async def test_an_open_breaker_is_no_other_connections_business(stage) -> None:
    broken = stage.connect("roastify", CATALOGUE)
    await BreakerStore(stage.database).open_by_hand(NAMESPACE, broken, by="ada", reason=None)
    works = stage.connect("roastify", "tiny-2-0", company="bean")
    async with stage.worker(concurrency=1):
        await stage.submit("held", broken)
        await stage.submit("works", works, company="bean")
        assert (await stage.finished("works")).state is JobState.COMPLETED
    assert (await stage.job("held")).waiting_reason == "BreakerOpen"


async def test_checks_feed_the_breaker_and_close_it_where_no_job_waits(stage) -> None:
    order(stage, outage=True)
    provider = stage.connect(
        "roastify", CATALOGUE, circuitBreaker={"failureThreshold": 2, "openSeconds": OPEN_SECONDS}
    )
    connections = ConnectionStore(stage.database)

    async def reachable() -> bool | None:
        (state,) = await connections.read(NAMESPACE, [provider])
        return state.result.reachable if state.result else None

    async with aclosing(listen(stage.database, [CONNECTION_CHANNEL])) as hints, stage.worker():
        await anext(hints)
        await connections.request_check(NAMESPACE, provider, "uid", 1)
        await anext(hints)
        assert (await breaker(stage, provider)).state is not BreakerState.CLOSED
        assert await reachable() is False
        order(stage)
        await until(reachable)
    assert await breaker(stage, provider) == CLOSED


async def test_a_job_that_waits_long_for_its_limit_gives_its_place_to_another(stage) -> None:
    slow = stage.connect("roastify", CATALOGUE, rateLimit={"requests": 1, "perSeconds": 600})
    quick = stage.connect("roastify", "tiny-2-0", company="bean")
    order(stage)
    await stage.submit("slow", slow)
    async with stage.worker(concurrency=1, provider_wait_seconds=0.2):
        job = await stage.until("slow", lambda job: job.waiting_reason == "ProviderLimit")
        assert (job.state, job.attempt) == (JobState.PENDING, 0)
        assert job.not_before is not None
        await stage.submit("quick", quick, company="bean")
        assert (await stage.finished("quick")).state is JobState.COMPLETED
