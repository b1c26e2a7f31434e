"""Breakers in PostgreSQL: exact over all workers, and who waits for them is woken when they close."""

import asyncio
from contextlib import aclosing

from postgres_rows import NAMESPACE, execute, request

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.connections import CheckResult, ConnectionStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications import BREAKER_CHANNEL, listen
from import_core.domain.breaker import CLOSED, WAIT_BEYOND_PROBE_SECONDS, BreakerPolicy
from import_core.domain.resources.import_provider import BreakerState

NAME = "acme-shopify"
POLICY = BreakerPolicy(failure_threshold=3, open_seconds=100)


async def fail(store: BreakerStore, times: int = 1, *, name: str = NAME) -> None:
    for _ in range(times):
        await store.failed(NAMESPACE, name, holder=None, policy=POLICY)


async def let_probe(database: Database) -> None:
    await execute(database, "UPDATE imports.breaker SET probe_at = clock_timestamp()")


async def test_what_never_failed_is_closed_and_leaves_nothing(database: Database) -> None:
    store = BreakerStore(database)
    assert (await store.read(NAMESPACE, NAME)).breaker == CLOSED
    assert await store.read_many(NAMESPACE, [NAME]) == {}
    assert await store.await_probe(NAMESPACE, NAME) == 0
    assert await execute(database, "SELECT * FROM imports.breaker") == []


async def test_failures_of_many_workers_at_once_are_all_counted(database: Database) -> None:
    store = BreakerStore(database)
    many = BreakerPolicy(failure_threshold=1000)
    await asyncio.gather(*(store.failed(NAMESPACE, NAME, holder=None, policy=many) for _ in range(40)))
    assert (await store.read(NAMESPACE, NAME)).breaker.failures == 40


async def test_of_many_that_come_at_once_one_probes(database: Database) -> None:
    store = BreakerStore(database)
    await fail(store, 3)
    waits = [await store.enter(NAMESPACE, NAME, holder="early", lease_seconds=30)]
    assert 90 < (waits[0].wait_seconds or 0) <= 100
    await let_probe(database)
    entered = await asyncio.gather(
        *(store.enter(NAMESPACE, NAME, holder=f"h{n}", lease_seconds=30) for n in range(20))
    )
    assert sum(admission.is_probe for admission in entered) == 1
    assert sum(admission.wait_seconds is None for admission in entered) == 1
    (holder,) = [f"h{n}" for n, admission in enumerate(entered) if admission.is_probe]
    closed = await store.succeeded(NAMESPACE, NAME, holder=holder)
    assert closed == CLOSED
    assert await store.not_closed(NAMESPACE) == {}


async def test_a_probe_of_a_worker_that_died_is_taken_over(database: Database) -> None:
    store = BreakerStore(database)
    await fail(store, 3)
    await let_probe(database)
    assert (await store.enter(NAMESPACE, NAME, holder="dead", lease_seconds=0)).is_probe
    assert (await store.enter(NAMESPACE, NAME, holder="alive", lease_seconds=30)).is_probe
    assert (await store.failed(NAMESPACE, NAME, holder="dead", policy=POLICY)).state is BreakerState.HALF_OPEN
    opened = await store.failed(NAMESPACE, NAME, holder="alive", policy=POLICY)
    assert (opened.state, opened.failures) == (BreakerState.OPEN, 4)


async def test_everybody_hears_of_the_first_failure_and_of_every_change(database: Database) -> None:
    store = BreakerStore(database)
    async with aclosing(listen(database, [BREAKER_CHANNEL])) as hints:
        await anext(hints)
        await fail(store, 3)
        await let_probe(database)
        await store.enter(NAMESPACE, NAME, holder="one", lease_seconds=30)
        await store.succeeded(NAMESPACE, NAME, holder="one")
        await store.succeeded(NAMESPACE, NAME, holder=None)
        await fail(store, name="last")
        heard = [(await anext(hints)).payload for _ in range(5)]
    # The first failure, opened, half-open, closed; the second failure and the second success are no news.
    assert heard == [f"{NAMESPACE}/{NAME}"] * 4 + [f"{NAMESPACE}/last"]


async def test_one_job_waits_for_each_probe_and_the_others_longer(database: Database) -> None:
    store = BreakerStore(database)
    await fail(store, 3)
    waits = await asyncio.gather(*(store.await_probe(NAMESPACE, NAME) for _ in range(10)))
    assert sum(wait <= 100 for wait in waits) == 1
    assert sum(wait > WAIT_BEYOND_PROBE_SECONDS for wait in waits) == 9
    await let_probe(database)
    await store.enter(NAMESPACE, NAME, holder="one", lease_seconds=30)
    assert await store.await_probe(NAMESPACE, NAME) > WAIT_BEYOND_PROBE_SECONDS
    await store.failed(NAMESPACE, NAME, holder="one", policy=POLICY)
    assert 90 < await store.await_probe(NAMESPACE, NAME) <= 100
    await store.open_by_hand(NAMESPACE, NAME, by="ada", reason=None)
    assert await store.await_probe(NAMESPACE, NAME) > 100


async def wait_for_breaker(database: Database, claimed, job_id: str, **values) -> None:
    claim = await claimed(job_id, **values)
    await ClaimStore(database).release(
        claim, delay_seconds=700, tries=0, waiting_reason="BreakerOpen", message=None
    )


async def waiting(database: Database) -> set[str]:
    rows = await execute(
        database, """SELECT id FROM "ProductImportJob" WHERE "notBefore" > now() AND status = 'PENDING'"""
    )
    return {row[0] for row in rows}


async def test_closing_wakes_the_jobs_that_waited_for_it_in_batches(
    database: Database, claimed, monkeypatch
) -> None:
    store = BreakerStore(database)
    await fail(store, 3)
    await fail(store, 3, name="other")
    for number in range(5):
        await wait_for_breaker(database, claimed, f"job-{number}")
        await store.await_probe(NAMESPACE, NAME)
    await wait_for_breaker(database, claimed, "of-another", provider="other")
    await store.await_probe(NAMESPACE, "other")
    claim = await claimed("retries")
    await ClaimStore(database).release(
        claim, delay_seconds=700, tries=1, waiting_reason="Retry", message=None
    )
    assert await store.wake_waiting(NAMESPACE) == ([], False)
    await store.reset(NAMESPACE, NAME)
    monkeypatch.setattr("import_core.adapters.postgres.breakers.WAKE_BATCH", 3)
    first, more = await store.wake_waiting(NAMESPACE)
    assert (len(first), more) == (3, True)
    second, more = await store.wake_waiting(NAMESPACE)
    assert (len(second), more) == (2, False)
    assert {*first, *second} == {f"job-{number}" for number in range(5)}
    assert await waiting(database) == {"of-another", "retries"}
    row = (await JobStore(database).read(["job-0"]))["job-0"]
    assert (row.attempt, row.not_before, row.waiting_reason) == (0, None, None)


async def test_a_job_that_came_back_while_it_closed_is_woken_too(database: Database, claimed) -> None:
    store = BreakerStore(database)
    await fail(store, 3)
    await store.await_probe(NAMESPACE, NAME)
    await store.reset(NAMESPACE, NAME)
    assert await store.wake_waiting(NAMESPACE) == ([], False)
    await wait_for_breaker(database, claimed, "late")
    assert await store.wake_waiting(NAMESPACE) == (["late"], False)
    await execute(database, "UPDATE imports.breaker SET waited_at = now() - interval '2 minutes'")
    assert await store.wake_waiting(NAMESPACE) == ([], False)
    assert await execute(database, "SELECT waited_at FROM imports.breaker") == [(None,)]


async def test_a_connection_that_is_gone_leaves_no_breaker_and_nobody_waiting(
    database: Database, claimed
) -> None:
    store = BreakerStore(database)
    await fail(store, 3)
    await wait_for_breaker(database, claimed, "job-1")
    await store.forget(NAMESPACE, NAME)
    assert await execute(database, "SELECT * FROM imports.breaker") == []
    assert await waiting(database) == set()


async def check_due_in(database: Database) -> float:
    ((seconds,),) = await execute(
        database, "SELECT extract(epoch FROM check_due_at - clock_timestamp()) FROM imports.connection"
    )
    return float(seconds)


async def test_a_check_is_due_when_the_breaker_may_be_probed_and_when_it_closed(database: Database) -> None:
    store, connections = BreakerStore(database), ConnectionStore(database)
    await connections.request_check(NAMESPACE, NAME, "uid", 1)
    await connections.take_due(NAMESPACE)
    await fail(store, 3)
    assert 90 < await check_due_in(database) <= 100
    await connections.record_result(NAMESPACE, NAME, "uid", 1, CheckResult(False, None, "x", "x"))
    assert 90 < await check_due_in(database) <= 100
    await store.reset(NAMESPACE, NAME)
    assert await check_due_in(database) <= 0
    await connections.record_result(NAMESPACE, NAME, "uid", 1, CheckResult(True, True, "x", "x"))
    assert await check_due_in(database) > 200


async def test_a_changed_connection_may_be_probed_at_once(database: Database) -> None:
    store, connections = BreakerStore(database), ConnectionStore(database)
    await connections.request_check(NAMESPACE, NAME, "uid", 1)
    await fail(store, 3)
    await connections.request_check(NAMESPACE, NAME, "uid", 1)
    assert not (await store.enter(NAMESPACE, NAME, holder="one", lease_seconds=30)).is_probe
    await connections.request_check(NAMESPACE, NAME, "uid", 2)
    assert (await store.enter(NAMESPACE, NAME, holder="one", lease_seconds=30)).is_probe


async def test_a_breaker_opened_by_hand_is_probed_by_nobody(database: Database) -> None:
    store = BreakerStore(database)
    await JobStore(database).record([request("job-1")])
    await store.open_by_hand(NAMESPACE, NAME, by="ada", reason="r" * 1000)
    known = (await store.read_many(NAMESPACE, [NAME]))[NAME]
    assert (known.state, known.forced_by, len(known.forced_reason or "")) == (BreakerState.OPEN, "ada", 500)
    assert (await store.enter(NAMESPACE, NAME, holder="one", lease_seconds=30)).wait_seconds
    await store.succeeded(NAMESPACE, NAME, holder=None)
    await fail(store)
    assert (await store.read_many(NAMESPACE, [NAME]))[NAME] == known
