"""Claims: leases, fencing, and every way out of IN_PROGRESS."""

import asyncio
from typing import Any

import pytest

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite
from import_core.adapters.postgres.claims import ClaimStore, lock_claim
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.domain.errors import ClaimLostError
from import_core.domain.jobs import (
    CHECKPOINT_VERSION,
    Checkpoint,
    Claim,
    ItemsPlace,
    JobState,
    Message,
    Progress,
)


async def job_columns(database: Database, job_id: str, columns: str) -> tuple[Any, ...]:
    async with database.connection() as connection:
        cursor = await connection.execute(
            f'SELECT {columns} FROM "ProductImportJob" WHERE id = %s', (job_id,)
        )
        row = await cursor.fetchone()
        assert row is not None
        return row


async def count_claims(database: Database) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute("SELECT count(*) FROM imports.claim")).fetchone()
        assert row is not None
        return int(row[0])


async def expire(database: Database, claim: Claim) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE imports.claim SET expires_at = clock_timestamp() - interval '1 ms' WHERE job_id = %s",
            (claim.job.id,),
        )


async def test_a_claim_tells_all_that_the_row_holds(database: Database, dispatched: Any) -> None:
    message = await dispatched("job-1")
    claim = await ClaimStore(database).claim(message, worker_id="worker-1")
    assert claim is not None
    assert (claim.job.id, claim.job.company_id, claim.job.provider) == ("job-1", "acme", "acme-shopify")
    assert claim.job.state is JobState.IN_PROGRESS
    assert claim.job.started_at is not None
    assert claim.job.claimed_by == "worker-1"
    assert claim.job.spec == {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}
    assert claim.job.origin is not None
    assert claim.job.origin.name == "object-job-1"
    assert (claim.checkpoint, claim.suspected) == (None, False)


async def test_of_two_workers_with_one_message_one_gets_the_job(database: Database, dispatched: Any) -> None:
    message = await dispatched("job-1")
    store = ClaimStore(database)
    claims = await asyncio.gather(*(store.claim(message, worker_id=f"worker-{n}") for n in range(8)))
    assert sum(claim is not None for claim in claims) == 1


@pytest.mark.parametrize(
    "change",
    [
        "dispatch = dispatch + 1",
        '"dispatchedAt" = NULL',
        "status = 'CANCELLED'",
        "suspended = true",
    ],
)
async def test_an_outdated_message_claims_nothing(database: Database, dispatched: Any, change: str) -> None:
    message = await dispatched("job-1")
    async with database.connection() as connection:
        await connection.execute(f'UPDATE "ProductImportJob" SET {change}')
    assert await ClaimStore(database).claim(message, worker_id="worker-1") is None
    assert await count_claims(database) == 0


async def test_a_message_for_no_row_claims_nothing(database: Database) -> None:
    assert await ClaimStore(database).claim(Message("nobody", 1), worker_id="worker-1") is None


async def test_a_row_set_back_by_hand_is_taken_over(database: Database, claimed: Any) -> None:
    first = await claimed("job-1", worker_id="worker-1")
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET status = 'PENDING', dispatch = dispatch + 1, "dispatchedAt" = now()"""
        )
    store = ClaimStore(database)
    second = await store.claim(Message("job-1", first.job.dispatch + 1), worker_id="worker-2")
    assert second is not None
    with pytest.raises(ClaimLostError):
        await store.finish(first, JobState.COMPLETED, reason=None, message=None)
    await store.finish(second, JobState.COMPLETED, reason=None, message=None)


async def test_renewal_prolongs_and_carries_the_live_counters(database: Database, claimed: Any) -> None:
    claim = await claimed("job-1", lease_seconds=30)
    store = ClaimStore(database)
    live = Progress(products_total=9, images_imported=4)
    assert (await store.renew([("job-1", claim.claim_id, live)])).confirmed == {claim.claim_id}
    assert (await JobStore(database).read(["job-1"]))["job-1"].progress == live
    async with database.connection() as connection:
        row = await (
            await connection.execute(
                "SELECT expires_at > clock_timestamp() + interval '50 s' FROM imports.claim"
            )
        ).fetchone()
    assert row == (True,)


async def test_an_expired_claim_is_never_revived(database: Database, claimed: Any) -> None:
    claim = await claimed("job-1")
    other = await claimed("job-2")
    await expire(database, claim)
    store = ClaimStore(database)
    renewed = await store.renew([(c.job.id, c.claim_id, Progress()) for c in (claim, other)])
    assert renewed.confirmed == {other.claim_id}
    assert not renewed.busy


async def test_a_page_in_its_transaction_holds_up_no_other_renewal(database: Database, claimed: Any) -> None:
    claim, other = await claimed("job-1"), await claimed("job-2")
    async with database.transaction() as page:
        await lock_claim(page, claim)
        async with asyncio.timeout(5):
            renewed = await ClaimStore(database).renew(
                [(c.job.id, c.claim_id, Progress()) for c in (claim, other)]
            )
    assert renewed.confirmed == {other.claim_id}
    assert renewed.busy == {claim.claim_id}


async def test_a_lease_that_ran_out_in_an_outage_is_no_death(database: Database, claimed: Any) -> None:
    await expire(database, await claimed("job-1"))
    ended = await ClaimStore(database).end_expired(count_deaths=False)
    assert [claim.job_id for claim in ended] == ["job-1"]
    row = (await JobStore(database).read(["job-1"]))["job-1"]
    assert (row.state, row.deaths, row.dispatched_at) == (JobState.PENDING, 0, None)


async def test_counters_of_an_older_renewal_do_not_hide_the_checkpoint(
    database: Database, claimed: Any
) -> None:
    claim = await claimed("job-1")
    await ClaimStore(database).renew([("job-1", claim.claim_id, Progress(images_imported=3))])
    committed = Progress(products_imported=5, images_imported=4)
    page = PageWrite("shopify", [], [], [], [], Checkpoint(cursor={"after": 1}, progress=committed, pages=1))
    await CatalogueStore(database).commit_page(claim, page)
    assert (await JobStore(database).read(["job-1"]))["job-1"].progress == committed


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED])
async def test_finishing_ends_the_claim_and_outdates_the_message(
    database: Database, claimed: Any, state: JobState
) -> None:
    claim = await claimed("job-1")
    await ClaimStore(database).finish(claim, state, reason="Why", message="because")
    row = await job_columns(
        database,
        "job-1",
        'status, "failureReason", "errorMessage", "dispatchedAt", dispatch, "completedAt" IS NOT NULL',
    )
    assert row == (state.value, "Why", "because", None, claim.job.dispatch + 1, True)
    assert await count_claims(database) == 0


@pytest.mark.parametrize("how", ["expired", "gone", "stolen"])
async def test_a_lost_claim_writes_nothing(database: Database, claimed: Any, how: str) -> None:
    claim = await claimed("job-1")
    async with database.connection() as connection:
        if how == "expired":
            await expire(database, claim)
        elif how == "gone":
            await connection.execute("DELETE FROM imports.claim")
        else:
            await connection.execute("UPDATE imports.claim SET claim_id = gen_random_uuid()")
    before = await job_columns(database, "job-1", "*")
    store = ClaimStore(database)
    with pytest.raises(ClaimLostError):
        await store.finish(claim, JobState.COMPLETED, reason=None, message=None)
    with pytest.raises(ClaimLostError):
        await store.release(claim, delay_seconds=0, tries=1, waiting_reason=None, message="x")
    with pytest.raises(ClaimLostError):
        await store.mark_alone(claim)
    assert await job_columns(database, "job-1", "*") == before


async def test_release_keeps_the_checkpoint_and_counts_tries(database: Database, claimed: Any) -> None:
    claim = await claimed("job-1")
    checkpoint = Checkpoint(cursor={"after": "x"}, progress=Progress(products_imported=7), pages=2)
    await CatalogueStore(database).commit_page(claim, PageWrite("shopify", [], [], [], [], checkpoint))
    store = ClaimStore(database)
    await store.release(claim, delay_seconds=30, tries=1, waiting_reason="Retry", message="later")
    row = await job_columns(
        database,
        "job-1",
        """status, attempt, "waitingReason", "errorMessage", "dispatchedAt",
        "notBefore" BETWEEN now() + interval '20 s' AND now() + interval '40 s'""",
    )
    assert row == ("PENDING", 1, "Retry", "later", None, True)
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET dispatch = dispatch + 1, "dispatchedAt" = now()"""
        )
    again = await store.claim(Message("job-1", claim.job.dispatch + 2), worker_id="worker-2")
    assert again is not None
    assert again.checkpoint == checkpoint
    assert checkpoint.version == CHECKPOINT_VERSION == 1
    assert again.job.attempt == 1


async def test_a_providers_cursor_is_its_own_whatever_its_shape(database: Database, claimed: Any) -> None:
    claim = await claimed("job-1")
    checkpoint = Checkpoint(cursor={"catalogue": 1, "items": 2}, pages=1)
    await CatalogueStore(database).commit_page(claim, PageWrite("shopify", [], [], [], [], checkpoint))
    store = ClaimStore(database)
    await store.release(claim, delay_seconds=0, tries=0, waiting_reason=None, message=None)
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET dispatch = dispatch + 1, "dispatchedAt" = now()"""
        )
    again = await store.claim(Message("job-1", claim.job.dispatch + 2), worker_id="worker-2")
    assert again is not None
    assert again.checkpoint == checkpoint


@pytest.mark.parametrize("cursor", [None, {"after": "x"}])
async def test_a_place_among_failed_items_comes_back_beside_the_cursor(
    database: Database, claimed: Any, cursor: Any
) -> None:
    claim = await claimed("job-1")
    checkpoint = Checkpoint(cursor=cursor, pages=2, items=ItemsPlace("run", "gid://1", ("gid://3",)))
    await CatalogueStore(database).commit_page(claim, PageWrite("shopify", [], [], [], [], checkpoint))
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET "itemsOnly" = true, "itemsRetryToken" = 'run'"""
        )
    store = ClaimStore(database)
    await store.release(claim, delay_seconds=0, tries=0, waiting_reason=None, message=None)
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET dispatch = dispatch + 1, "dispatchedAt" = now()"""
        )
    again = await store.claim(Message("job-1", claim.job.dispatch + 2), worker_id="worker-2")
    assert again is not None
    assert again.checkpoint == checkpoint
    # A worker from before the retry of items knows version 1 alone: it must not read this as a provider's cursor.
    async with database.connection() as connection:
        written = await connection.execute("SELECT version FROM imports.checkpoint")
        assert await written.fetchall() == [(2,)]
    assert (again.job.items_only, again.job.items_run) == (True, "run")
    await store.finish(again, JobState.COMPLETED, reason=None, message=None)
    assert await job_columns(database, "job-1", '"itemsOnly"') == (None,)


async def test_a_job_that_lost_its_worker_keeps_its_place_until_it_runs_again(
    database: Database, claimed: Any
) -> None:
    store = ClaimStore(database)
    stopped, failed = await claimed("job-0"), await claimed("job-2")
    await claimed("job-1", worker_id="dying")
    await store.release(stopped, delay_seconds=0, tries=0, waiting_reason=None, message=None)
    await store.end_of_workers(["dying"])
    await store.release(failed, delay_seconds=5, tries=1, waiting_reason="Retry", message="it failed")
    async with DispatchStore(database).transaction() as hand_over:
        heads = await hand_over.more("product-imports", ["acme"], limit=10)
        assert {head.job_id: head.interrupted for head in heads} == {"job-0": True, "job-1": True}
        messages = await hand_over.hand_over(["job-0"])
    again = await store.claim(messages[0], worker_id="another")
    assert again is not None
    await store.release(again, delay_seconds=1, tries=0, waiting_reason="BreakerOpen", message=None)
    assert await job_columns(database, "job-0", "interrupted") == (None,)


async def test_a_hand_back_is_due_at_once(database: Database, claimed: Any) -> None:
    claim = await claimed("job-1")
    await ClaimStore(database).release(claim, delay_seconds=0, tries=0, waiting_reason=None, message=None)
    assert await job_columns(database, "job-1", 'attempt, "notBefore"') == (0, None)


async def test_the_reaper_makes_jobs_of_expired_claims_due_again(database: Database, claimed: Any) -> None:
    expired, alive = await claimed("job-1"), await claimed("job-2")
    await expire(database, expired)
    ended = await ClaimStore(database).end_expired()
    assert [(claim.job_id, claim.worker_id) for claim in ended] == [("job-1", "worker-1")]
    assert await job_columns(database, "job-1", 'status, deaths, attempt, dispatch, "dispatchedAt"') == (
        "PENDING",
        1,
        0,
        expired.job.dispatch + 1,
        None,
    )
    assert await job_columns(database, "job-2", "status, deaths") == ("IN_PROGRESS", 0)
    assert alive.job.id == "job-2"


async def test_the_end_of_a_process_ends_its_claims_only(database: Database, claimed: Any) -> None:
    await claimed("job-1", worker_id="worker-1")
    await claimed("job-2", worker_id="worker-2")
    ended = await ClaimStore(database).end_of_workers(["worker-1"])
    assert [claim.job_id for claim in ended] == ["job-1"]
    assert await count_claims(database) == 1


async def test_what_a_job_saw_goes_when_it_is_blamed_for_its_workers_death(
    database: Database, claimed: Any
) -> None:
    for job_id in ("blamed", "again"):
        await claimed(job_id)
        async with database.connection() as connection:
            await connection.execute("INSERT INTO imports.seen_product VALUES (%s, '1')", (job_id,))
    async with database.connection() as connection:
        await connection.execute("UPDATE imports.claim SET suspected = true WHERE job_id = 'blamed'")
    assert len(await ClaimStore(database).end_of_workers(["worker-1"])) == 2
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT job_id FROM imports.seen_product")
        assert await cursor.fetchall() == [("again",)]


async def test_a_suspected_job_fails_only_when_it_ran_alone(database: Database, claimed: Any) -> None:
    store = ClaimStore(database)
    claims = {}
    for job_id in ("waits", "alone"):
        message = Message(job_id, (await claimed(job_id)).job.dispatch + 2)
        await store.end_of_workers(["worker-1"])
        async with database.connection() as connection:
            await connection.execute(
                """UPDATE "ProductImportJob" SET deaths = 3, dispatch = dispatch + 1, "dispatchedAt" = now()
                WHERE id = %s""",
                (job_id,),
            )
        claims[job_id] = await store.claim(message, worker_id="worker-2")
        assert claims[job_id].suspected
    await store.mark_alone(claims["alone"])
    await store.end_of_workers(["worker-2"])
    assert await job_columns(database, "waits", 'status, deaths, "failureReason"') == ("PENDING", 4, None)
    assert await job_columns(database, "alone", 'status, deaths, "failureReason"') == (
        "FAILED",
        4,
        "WorkerKilled",
    )


async def test_a_worker_that_claims_while_the_job_is_cancelled_gets_no_lasting_claim(
    database: Database, dispatched: Any
) -> None:
    message = await dispatched("job-1")
    store, jobs = ClaimStore(database), JobStore(database)
    async with database.transaction() as connection:
        # Holds the row so that both wait here, the claim first: it commits between the two statements of cancel.
        await connection.execute("""SELECT 1 FROM "ProductImportJob" FOR UPDATE""")
        claiming = asyncio.create_task(store.claim(message, worker_id="worker-1"))
        await _waiting_for_locks(database, 1)
        cancelling = asyncio.create_task(jobs.cancel(["job-1"], message="deleted"))
        await _waiting_for_locks(database, 2)
    await claiming
    assert await cancelling == ["job-1"]
    assert await job_columns(database, "job-1", "status") == ("CANCELLED",)
    assert await count_claims(database) == 0


async def _waiting_for_locks(database: Database, count: int) -> None:
    async with asyncio.timeout(10):
        while True:
            async with database.connection() as connection:
                row = await (
                    await connection.execute(
                        """SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND wait_event_type = 'Lock'"""
                    )
                ).fetchone()
            if row == (count,):
                return
            await asyncio.sleep(0.01)


async def test_a_workers_first_claim_is_dated(database: Database, dispatched: Any) -> None:
    await WorkerStore(database).register(
        WorkerProcess("worker-1", "product-imports", "imports", "pod", "uid", 5)
    )
    await ClaimStore(database).claim(await dispatched("job-1"), worker_id="worker-1")
    async with database.connection() as connection:
        row = await (
            await connection.execute("SELECT first_job_at IS NOT NULL FROM imports.worker")
        ).fetchone()
    assert row == (True,)
