"""Breakers in PostgreSQL: exact over all workers, and dispatch holds the jobs of those that are not closed."""

import asyncio
from contextlib import aclosing

from postgres_rows import NAMESPACE, execute, request

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.connections import CheckResult, ConnectionStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications import BREAKER_CHANNEL, listen
from import_core.domain.breaker import CLOSED, BreakerPolicy
from import_core.domain.jobs import DEFAULT_QUEUE as QUEUE
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


async def hand_over(database: Database, *, limit: int = 10) -> list[str]:
    """What a dispatch round hands over that knows `limit` rows of each connection."""
    async with DispatchStore(database).transaction() as transaction:
        heads = await transaction.heads(QUEUE)
        more = await transaction.more(QUEUE, [head.company_id for head in heads], limit=limit)
        chosen = dict.fromkeys(candidate.job_id for candidate in [*heads, *more])
        return [message.job_id for message in await transaction.hand_over(list(chosen))]


async def test_a_failing_connections_jobs_are_passed_over_and_stay_due(database: Database) -> None:
    store, jobs = BreakerStore(database), JobStore(database)
    await jobs.record([request(f"job-{n}") for n in range(3)])
    await jobs.record([request("elsewhere", namespace="other"), request("another", provider="another")])
    await execute(
        database,
        f"""INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('bare', 'b', '{NAME}')""",
    )
    await fail(store, 3)
    assert sorted(await hand_over(database)) == ["another", "elsewhere"]
    assert (await jobs.depth([QUEUE]))[QUEUE].total == 6
    held = {row.id for row in (await jobs.read(["job-0", "bare", "elsewhere"])).values() if row.breaker_open}
    assert held == {"job-0", "bare"}
    await store.reset(NAMESPACE, NAME)
    assert sorted(await hand_over(database)) == ["bare", "job-0", "job-1", "job-2"]


async def test_one_job_goes_for_each_probe(database: Database) -> None:
    store = BreakerStore(database)
    await JobStore(database).record([request(f"job-{n}") for n in range(9)])
    await fail(store, 3)
    await let_probe(database)
    assert len(await hand_over(database)) == 1
    assert await hand_over(database) == [], "the first is on its way"
    await store.enter(NAMESPACE, NAME, holder="one", lease_seconds=30)
    assert await hand_over(database) == [], "it probes"
    await store.failed(NAMESPACE, NAME, holder="one", policy=POLICY)
    assert await hand_over(database) == [], "it failed"
    await let_probe(database)
    assert len(await hand_over(database)) == 1
    await execute(database, "UPDATE imports.breaker SET handed_over_at = now() - interval '1 minute'")
    await execute(database, "UPDATE imports.breaker SET probe_at = now() - interval '2 minutes'")
    assert len(await hand_over(database)) == 1, "the one before never asked"
    await store.enter(NAMESPACE, NAME, holder="dead", lease_seconds=0)
    assert len(await hand_over(database)) == 1, "the prober died"
    await store.open_by_hand(NAMESPACE, NAME, by="ada", reason=None)
    await execute(database, "UPDATE imports.breaker SET handed_over_at = NULL")
    assert await hand_over(database) == []


async def test_what_was_chosen_before_the_breaker_opened_is_held_too(database: Database) -> None:
    store = BreakerStore(database)
    await JobStore(database).record([request("job-1"), request("job-2"), request("fine", provider="fine")])
    async with DispatchStore(database).transaction() as transaction:
        await fail(store, 3)
        given = await transaction.hand_over(["job-1", "fine", "job-2"])
    assert [message.job_id for message in given] == ["fine"]
    async with DispatchStore(database).transaction() as transaction:
        await let_probe(database)
        given = await transaction.hand_over(["job-1", "job-2"])
    assert given == [], "a probe that was not due when the round began"
    async with DispatchStore(database).transaction() as transaction:
        given = await transaction.hand_over(["job-1", "job-2"])
    assert [message.job_id for message in given] == ["job-1"]


async def test_a_connection_that_is_gone_leaves_no_breaker_and_holds_nobody(database: Database) -> None:
    store = BreakerStore(database)
    await JobStore(database).record([request("job-1")])
    await fail(store, 3)
    await store.forget(NAMESPACE, NAME)
    assert await execute(database, "SELECT * FROM imports.breaker") == []
    assert await hand_over(database) == ["job-1"]


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


async def test_a_probe_that_says_nothing_makes_no_check_due_at_once(database: Database) -> None:
    store, connections = BreakerStore(database), ConnectionStore(database)
    await connections.request_check(NAMESPACE, NAME, "uid", 1)
    await fail(store, 3)
    await let_probe(database)
    assert (await store.enter(NAMESPACE, NAME, holder="one", lease_seconds=30)).is_probe
    await store.abandoned(NAMESPACE, NAME, holder="one", policy=POLICY)
    assert 90 < await check_due_in(database) <= 100
    await connections.record_result(NAMESPACE, NAME, "uid", 1, CheckResult(None, None, "x", "x"))
    assert 90 < await check_due_in(database) <= 100


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
