"""The drain handshake as it is written: who is asked, who has drained, who may go, who comes back."""

from typing import Any

from postgres_rows import execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.draining import DrainStore, RosterEntry
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.domain.jobs import JobState

POD = "uid-1"


async def enter(database: Database, worker_id: str, pod: str = POD) -> None:
    await WorkerStore(database).register(
        WorkerProcess(worker_id, "product-imports", "imports", f"pod-{pod}", pod, 5)
    )


async def entry(database: Database, pod: str = POD) -> RosterEntry:
    return (await DrainStore(database).roster([pod]))[pod]


async def test_a_worker_drains_goes_and_is_not_taken_back_while_it_goes(
    database: Database, claimed: Any
) -> None:
    store = DrainStore(database)
    await enter(database, "worker-1")
    claim = await claimed()
    assert await entry(database) == RosterEntry(POD, True, False, False, False, 1, 20_000)
    assert await store.ask("imports", [POD]) == [POD]
    assert await store.ask("imports", [POD]) == [], "asking twice is asking once"
    request = await store.request_of(POD)
    assert request is not None
    assert not await store.drained("worker-1", request), "it holds a job"
    assert await store.let_go([POD]) == []
    await ClaimStore(database).finish(claim, JobState.COMPLETED, reason=None, message=None)
    assert await store.let_go([POD]) == [], "idle is not drained"
    assert not await store.drained("worker-1", request + 1), "an answer to another request"
    assert await store.drained("worker-1", request)
    assert await entry(database) == RosterEntry(POD, True, True, True, False, 0, 0)
    assert await store.let_go([POD]) == [POD]
    assert (await entry(database)).going
    assert await store.take_back([POD]) == []
    assert await store.let_go([POD]) == [POD], "an operator that follows finishes what another began"
    await execute(database, "UPDATE imports.drain SET going_at = now() - interval '1 minute'")
    assert await store.take_back([POD]) == [POD]
    assert await store.request_of(POD) is None


async def test_an_answer_to_an_earlier_request_counts_no_more(database: Database) -> None:
    store = DrainStore(database)
    await enter(database, "worker-1")
    await store.ask("imports", [POD])
    first = await store.request_of(POD)
    assert first is not None
    assert await store.drained("worker-1", first)
    await store.take_back([POD])
    await store.ask("imports", [POD])
    assert not (await entry(database)).drained
    assert await store.let_go([POD]) == []
    assert not await store.drained("worker-1", first)


async def test_a_request_binds_the_pod_and_not_the_process_that_died(database: Database) -> None:
    store = DrainStore(database)
    await store.ask("imports", [POD])
    assert await entry(database) == RosterEntry(POD, False, True, True, False, 0, 0)
    assert await store.let_go([POD]) == [POD], "no process can take anything before it reads the request"
    await enter(database, "worker-1")
    request = await store.request_of(POD)
    assert request is not None
    assert await store.let_go([POD]) == []
    assert await store.drained("worker-1", request)
    await execute(database, "UPDATE imports.worker SET started_at = started_at - interval '1 second'")
    await enter(database, "worker-2")
    assert not (await entry(database)).drained, "the container has started anew"
    assert await store.let_go([POD]) == []


async def test_work_to_lose_is_what_is_left_of_the_jobs(database: Database, claimed: Any) -> None:
    await enter(database, "worker-1")
    for job_id in ("job-1", "job-2"):
        await claimed(job_id)
    await execute(
        database,
        """UPDATE imports.claim SET live_progress = '{"products_total": 50, "products_imported": 30,
        "products_unchanged": 5, "products_failed": 1}'""",
    )
    found = await entry(database)
    assert (found.jobs, found.products) == (2, 28)


async def test_requests_of_pods_that_are_gone_are_forgotten(database: Database) -> None:
    store = DrainStore(database)
    await enter(database, "worker-1", "there")
    await store.ask("imports", ["there", "gone", "just-gone"])
    await execute(
        database,
        "UPDATE imports.drain SET asked_at = now() - interval '2 hours' WHERE pod_uid <> 'just-gone'",
    )
    await WorkerStore(database).sweep()
    assert await execute(database, "SELECT pod_uid FROM imports.drain ORDER BY 1") == [
        ("just-gone",),
        ("there",),
    ]
