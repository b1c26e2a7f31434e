"""Queue health, intake, pauses and job starts as PostgreSQL keeps them, and what the dispatcher makes of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from postgres_rows import execute, request

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.evidence import EvidenceStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications import QUEUE_CHANNEL, listen
from import_core.adapters.postgres.queue_state import COMPANY, PROVIDER, QueueState, QueueStateStore
from import_core.adapters.tasks import end_tasks
from import_core.domain.backpressure import HealthLevel, Intake, IntakeState, QueueHealth, Thresholds
from import_core.domain.emergency import Emergency, EmergencyPhase
from import_core.domain.jobs import Message, Tier

QUEUE = "product-imports"
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@asynccontextmanager
async def told(database: Database) -> AsyncIterator["asyncio.Queue[str]"]:
    """What is heard on the queue's channel from now on."""
    payloads: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.Event()

    async def hear() -> None:
        async for notification in listen(database, [QUEUE_CHANNEL]):
            if notification.channel is None:
                listening.set()
            else:
                payloads.put_nowait(notification.payload)

    task = asyncio.create_task(hear())
    await asyncio.wait_for(listening.wait(), 10)
    try:
        yield payloads
    finally:
        await end_tasks([task])


async def save(database: Database, state: QueueState, *, tell: bool = False) -> None:
    async with QueueStateStore(database).locked(QUEUE) as locked:
        await locked.save(state, tell=tell)


async def set_level(database: Database, level: HealthLevel, thresholds: Thresholds | None = None) -> None:
    health = QueueHealth(level, NOW, 1, NOW)
    await save(database, QueueState(intake=IntakeState(health, Intake(), thresholds or Thresholds())))


async def heads(database: Database, *, basic_delay_seconds: float = 0.0) -> set[str]:
    async with DispatchStore(database).transaction() as hand_over:
        found = await hand_over.heads(QUEUE, basic_delay_seconds=basic_delay_seconds)
        return {candidate.job_id for candidate in found}


async def test_all_that_the_guard_decides_is_kept(database: Database) -> None:
    store = QueueStateStore(database)
    assert await store.health(QUEUE) == QueueState()
    state = QueueState(
        intake=IntakeState(
            QueueHealth(HealthLevel.OVERLOAD, NOW, 12_000, NOW + timedelta(seconds=1)),
            Intake(True, None, "full", NOW, NOW + timedelta(seconds=2)),
            Thresholds(1, 2, 3, 4.5, 6.0),
        ),
        starts_per_minute=93.0,
        emergency=Emergency(EmergencyPhase.TRYING, "why", NOW, NOW - timedelta(seconds=3)),
    )
    async with told(database) as payloads:
        await save(database, state)
        await save(database, state, tell=True)
        assert await asyncio.wait_for(payloads.get(), 10) == QUEUE
        assert payloads.empty(), "told only where asked"
    kept = await store.health(QUEUE)
    assert replace(kept, changed_at=None) == state


async def test_a_persons_pause_is_not_overwritten_by_the_guard(database: Database) -> None:
    store = QueueStateStore(database)
    async with store.locked(QUEUE) as locked:
        await locked.save(replace(locked.state, starts_per_minute=5.0), tell=False)
    await store.set_paused(QUEUE, True, reason="r", changed_by="ada")
    await save(database, QueueState(starts_per_minute=6.0))
    state = await store.health(QUEUE)
    assert (state.paused, state.reason, state.starts_per_minute) == (True, "r", 6.0)


async def test_intake_by_hand_is_told(database: Database) -> None:
    store = QueueStateStore(database)
    async with told(database) as payloads:
        await store.set_intake(QUEUE, stopped=True, reason="moving", changed_by="ada")
        assert await asyncio.wait_for(payloads.get(), 10) == QUEUE
    intake = (await store.health(QUEUE)).intake.intake
    assert (intake.stopped, intake.by, intake.reason) == (True, "ada", "moving")
    await store.set_intake(QUEUE, stopped=False, reason=None, changed_by="bob")
    assert (await store.health(QUEUE)).intake.intake.opened_by_hand


async def test_resuming_by_hand_ends_an_emergency_and_its_evidence(database: Database) -> None:
    await save(database, QueueState(emergency=Emergency(EmergencyPhase.PAUSED, "r", NOW, NOW)))
    await QueueStateStore(database).set_paused(QUEUE, False, reason=None, changed_by="ada")
    emergency = (await QueueStateStore(database).health(QUEUE)).emergency
    assert emergency.phase is EmergencyPhase.NONE
    assert emergency.counted_from is not None
    assert emergency.counted_from > NOW


async def test_tiers(database: Database) -> None:
    await execute(database, """INSERT INTO "Company" (id, tier) VALUES ('l', 'ENTERPRISE'), ('o', 'ODD')""")
    store = QueueStateStore(database)
    assert await store.tiers(["l", "o", "x"]) == {"l": Tier.ENTERPRISE, "o": Tier.BASIC, "x": Tier.BASIC}
    assert await store.tier("l") is Tier.ENTERPRISE


async def test_paused_companies_and_connections_are_passed_over(database: Database) -> None:
    jobs, store = JobStore(database), QueueStateStore(database)
    await jobs.record(
        [
            request("a-one", company_id="a", provider="one"),
            request("a-two", company_id="a", provider="two"),
            request("b-one", company_id="b", provider="one", namespace="elsewhere"),
            request("c", company_id="c", provider="c"),
        ]
    )
    await execute(
        database, """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('bare', 'd', 'one')"""
    )
    async with told(database) as payloads:
        await store.pause(PROVIDER, "one", namespace="imports", reason="r", changed_by="ada")
        assert await asyncio.wait_for(payloads.get(), 10) == PROVIDER
    assert await heads(database) == {"a-two", "b-one", "c"}
    await store.pause(COMPANY, "c", reason=None, changed_by="ada")
    assert await heads(database) == {"a-two", "b-one"}
    paused = {
        row.id for row in (await jobs.read(["a-one", "a-two", "bare", "c"])).values() if row.connection_paused
    }
    assert paused == {"a-one", "bare", "c"}
    assert (await jobs.depth([QUEUE]))[QUEUE].total == 5, "they stay due"
    assert [(each.scope, each.name, each.paused_by) for each in await store.pauses()] == [
        (COMPANY, "c", "ada"),
        (PROVIDER, "one", "ada"),
    ]
    assert await store.resume(PROVIDER, "one", namespace="imports")
    assert not await store.resume(PROVIDER, "one", namespace="imports")
    assert await store.resume(COMPANY, "c")
    assert await heads(database) == {"a-one", "b-one", "bare", "c"}


async def test_hand_overs_of_a_paused_company_are_taken_back(database: Database, dispatched: Any) -> None:
    message = await dispatched("held", company_id="held")
    await dispatched("free")
    async with DispatchStore(database).transaction() as hand_over:
        assert await hand_over.take_back_paused(QUEUE) == []
    await QueueStateStore(database).pause(COMPANY, "held", reason=None, changed_by="ada")
    async with DispatchStore(database).transaction() as hand_over:
        assert await hand_over.take_back_paused(QUEUE) == ["held"]
    assert await ClaimStore(database).claim(message, worker_id="w") is None


async def test_rows_of_a_company_are_in_order_over_its_connections(database: Database) -> None:
    for number, provider in enumerate(["one", "two", "two", "one", "one"]):
        await JobStore(database).record([request(f"job-{number}", provider=provider)])
    async with DispatchStore(database).transaction() as hand_over:
        assert [each.job_id for each in await hand_over.heads(QUEUE)] == ["job-0"]
        more = await hand_over.more(QUEUE, ["acme", "nobody"], limit=4)
    assert sorted(each.job_id for each in more) == ["job-0", "job-1", "job-2", "job-3"]


async def test_basic_companies_wait_while_the_queue_is_degraded(database: Database) -> None:
    await execute(
        database,
        """INSERT INTO "Company" (id, tier) VALUES ('pro', 'PRO'), ('large', 'ENTERPRISE'), ('low', 'BASIC')""",
    )
    companies = ["pro", "large", "low", "unknown"]
    await JobStore(database).record([request(company, company_id=company) for company in companies])
    assert await heads(database) == set(companies)
    assert await heads(database, basic_delay_seconds=3000) == {"pro", "large"}
    await execute(database, """UPDATE "ProductImportJob" SET "createdAt" = now() - interval '2980 s'""")
    assert await heads(database, basic_delay_seconds=3000) == {"pro", "large"}
    await execute(database, """UPDATE "ProductImportJob" SET "createdAt" = now() - interval '3000 s'""")
    assert await heads(database, basic_delay_seconds=3000) == set(companies)


async def test_rows_say_until_when_they_are_delayed(database: Database) -> None:
    await execute(database, """INSERT INTO "Company" (id, tier) VALUES ('pro', 'PRO')""")
    jobs = JobStore(database)
    await jobs.record([request("basic", company_id="x"), request("pro", company_id="pro")])
    await set_level(database, HealthLevel.HEALTHY)
    assert {row.delayed_until for row in (await jobs.read(["basic", "pro"])).values()} == {None}
    await set_level(database, HealthLevel.DEGRADED, Thresholds(basic_delay_seconds=60))
    rows = await jobs.read(["basic", "pro"])
    assert rows["pro"].delayed_until is None
    assert rows["basic"].delayed_until == rows["basic"].queued_at + timedelta(seconds=60)


async def test_every_claim_counts_as_a_start(database: Database, claimed: Any) -> None:
    evidence = EvidenceStore(database)
    assert await evidence.starts_per_minute(QUEUE) == 0
    for number in range(3):
        await claimed(f"job-{number}")
    assert await ClaimStore(database).claim(Message("job-0", 7), worker_id="w") is None
    assert await evidence.starts_per_minute(QUEUE) == 3
    async with DispatchStore(database).transaction() as hand_over:
        assert await hand_over.started(QUEUE, seconds=60, limit=10) == 3
        assert await hand_over.started(QUEUE, seconds=60, limit=2) == 2
        assert await hand_over.started(QUEUE, since=datetime.now(UTC) + timedelta(seconds=9), limit=10) == 0
        assert await hand_over.started("other", seconds=60, limit=10) == 0
        assert (await hand_over.shares(QUEUE))["acme"] == 6, "running, and started lately"
    await execute(database, "UPDATE imports.job_start SET started_at = started_at - interval '2 hours'")
    await evidence.prune(QUEUE)
    assert await execute(database, "SELECT count(*) FROM imports.job_start") == [(0,)]


async def test_evidence_is_of_the_newest_ends_and_of_no_company_alone(database: Database) -> None:
    insert = """INSERT INTO "ProductImportJob" (id, "companyId", provider, status, "failureReason", "completedAt")
        SELECT %s || n, %s, 'p', %s, %s, %s - n * interval '1 s' FROM generate_series(1, %s) n"""
    now = datetime.now(UTC)
    await execute(database, insert, ("own", "a", "FAILED", "InvalidCredentials", now, 100))
    await execute(database, insert, ("bad", "b", "FAILED", "UnexpectedError", now, 100))
    await execute(database, insert, ("good", "c", "COMPLETED", None, now, 10))
    evidence = EvidenceStore(database)
    assert await evidence.finished(QUEUE, since=None) == (10, 25)
    assert await evidence.finished(QUEUE, since=now - timedelta(seconds=4.5)) == (4, 4)
    await execute(database, """UPDATE "ProductImportJob" SET "completedAt" = now() - interval '2 h'""")
    assert await evidence.finished(QUEUE, since=None) == (0, 0)


async def test_a_company_is_known_by_its_tier_or_its_jobs(database: Database) -> None:
    store = QueueStateStore(database)
    await execute(database, """INSERT INTO "Company" (id, tier) VALUES ('told', 'PRO')""")
    await JobStore(database).record([request("job-1", company_id="seen")])
    assert [await store.knows_company(name) for name in ("told", "seen", "nobody")] == [True, True, False]
