"""The rules of the hand-over on the worker's side: claims, leases, tries, stopping, running alone."""

import asyncio
from contextlib import aclosing

import pytest

from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, listen
from import_core.adapters.redis.queue import MESSAGE_OPTIONS
from import_core.domain.jobs import JobState, Message, Progress
from import_core.observability.metrics import WorkerMetrics
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.faults import FaultAction, FaultSettings
from import_worker.leases import LeaseKeeper
from import_worker.pipeline.pages import CatalogueImport
from import_worker.runner import StopSignal, Worker


def value(worker: Worker, name: str, **labels: str) -> float:
    return worker.metrics.registry.get_sample_value(name, labels) or 0.0


def slow_images(stage, catalogue: str, seconds: float, kind: str = "shopify") -> None:
    order = FaultOrder(images=FaultSettings(latency_seconds=seconds))
    set_faults(stage.samples.account(kind, catalogue), order)


async def emptied(stage) -> None:
    async with asyncio.timeout(20):
        while any((await stage.queue.counts()).values()):  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(0.05)


async def test_a_stale_message_is_dropped_and_acknowledged(stage) -> None:
    message = await stage.submit("job-1", stage.connect("shopify", "tiny-1-0"))
    await stage.rows('UPDATE "ProductImportJob" SET dispatch = dispatch + 1')
    async with stage.worker() as worker:
        await emptied(stage)
        assert value(worker, "imports_messages_dropped_total", reason="stale") == 1
    job = await stage.job("job-1")
    assert (job.state, job.dispatch, job.attempt) == (JobState.PENDING, message.dispatch + 1, 0)


async def test_an_unreadable_message_is_dropped_and_acknowledged(stage) -> None:
    await stage.queue._queue.add("import", {"version": 99}, {**MESSAGE_OPTIONS, "jobId": "odd-1"})
    async with stage.worker() as worker:
        await emptied(stage)
        assert value(worker, "imports_messages_dropped_total", reason="unreadable") == 1


async def test_two_workers_with_the_same_message_run_the_job_once(stage) -> None:
    slow_images(stage, "tiny-10-1", 0.05)
    message = await stage.submit("job-1", stage.connect("shopify", "tiny-10-1"))
    for number in range(6):
        options = {**MESSAGE_OPTIONS, "jobId": f"copy-{number}"}
        await stage.queue._queue.add("import", message.to_data(), options)
    async with stage.worker() as first, stage.worker() as second:
        job = await stage.finished("job-1")
        await emptied(stage)
        runs = [
            value(w, "imports_jobs_total", outcome="completed", provider="shopify", tier="BASIC")
            for w in (first, second)
        ]
        dropped = [value(w, "imports_messages_dropped_total", reason="stale") for w in (first, second)]
    assert sorted(runs) == [0, 1]
    assert sum(dropped) == 6
    assert job.progress.products_imported == 10
    assert stage.samples.account("shopify", "tiny-10-1").counters.image_requests == 10


@pytest.mark.parametrize(
    "how",
    [
        "UPDATE imports.claim SET claim_id = gen_random_uuid()",
        "UPDATE imports.claim SET expires_at = now()",
        "DELETE FROM imports.claim",
    ],
)
async def test_a_worker_that_lost_its_claim_writes_nothing(stage, images_may_come, how: str) -> None:
    await stage.submit("job-1", stage.connect("shopify", "tiny-10-1"))
    async with stage.worker() as worker:
        await stage.until("job-1", lambda job: job.state is JobState.IN_PROGRESS)
        await stage.rows(how)
        before = await stage.job("job-1")
        images_may_come.set()
        await emptied(stage)
        assert value(worker, "imports_jobs_total", outcome="lost", provider="shopify", tier="BASIC") == 1
    assert await stage.job("job-1") == before
    for table in ('"Product"', '"ProductImage"', "imports.checkpoint"):
        assert await stage.rows(f"SELECT 1 FROM {table}") == []


async def test_an_interrupted_job_repeats_at_most_its_page_in_hand(stage) -> None:
    slow_images(stage, "tiny-120-1", 0.1)
    await stage.submit("job-1", stage.connect("shopify", "tiny-120-1"))
    async with stage.worker(concurrency=1):
        await stage.until("job-1", lambda job: job.progress.products_imported >= 50)
    job = await stage.job("job-1")
    assert (job.state, job.attempt, job.deaths, job.claimed_by) == (JobState.PENDING, 0, 0, None)
    assert (job.not_before, job.waiting_reason) == (None, None)
    done = job.progress.products_imported
    assert 50 <= done < 120
    rows = dict(await stage.rows('SELECT id, xmin::text FROM "Product"'))
    slow_images(stage, "tiny-120-1", 0)
    counters = stage.samples.account("shopify", "tiny-120-1").counters
    fetched = await stage.rows('SELECT "sourceUrl" FROM "ProductImage"')
    await stage.dispatch("job-1")
    async with stage.worker():
        job = await stage.finished("job-1")
    assert (job.state, job.progress.products_imported) == (JobState.COMPLETED, 120)
    assert job.progress.images_imported == 120
    assert len(fetched) == done
    assert {counters.image_paths[url.removeprefix(stage.samples.base_url)] for (url,) in fetched} == {1}
    after = dict(await stage.rows('SELECT id, xmin::text FROM "Product"'))
    assert len(after) == 120
    assert {key: after[key] for key in rows} == rows


async def test_a_crash_between_objects_and_rows_leaves_nothing_doubled(stage, monkeypatch) -> None:
    provider = stage.connect("shopify", "tiny-8-1")
    await stage.submit("job-1", provider)
    commit = CatalogueImport._commit

    async def crash(self: CatalogueImport, write) -> None:
        raise RuntimeError("the process dies here")

    monkeypatch.setattr(CatalogueImport, "_commit", crash)
    async with stage.worker():
        job = await stage.until("job-1", lambda job: job.attempt == 1)
    assert (job.state, job.message) == (JobState.PENDING, "RuntimeError: the process dies here")
    assert await stage.rows('SELECT 1 FROM "Product"') == []
    objects = {info.key: info.last_modified async for info in stage.store.list()}
    assert len(objects) == 24
    monkeypatch.setattr(CatalogueImport, "_commit", commit)
    await stage.dispatch("job-1")
    async with stage.worker():
        job = await stage.finished("job-1")
    assert (job.state, job.progress.images_imported) == (JobState.COMPLETED, 8)
    assert {info.key: info.last_modified async for info in stage.store.list()} == objects


async def test_a_passing_failure_counts_a_try_and_waits(stage) -> None:
    account = stage.samples.account("shopify", "tiny-2-0")
    set_faults(account, FaultOrder(api=FaultSettings(outage=True)))
    await stage.submit("job-1", stage.connect("shopify", "tiny-2-0"))
    async with stage.worker():
        job = await stage.until("job-1", lambda job: job.attempt == 1)
    assert (job.state, job.waiting_reason, job.dispatched_at) == (JobState.PENDING, "Retry", None)
    assert job.not_before is not None
    assert "server error" in job.message


async def test_the_last_try_fails_the_job(stage) -> None:
    account = stage.samples.account("shopify", "tiny-2-0")
    set_faults(account, FaultOrder(api=FaultSettings(outage=True)))
    await stage.submit("job-1", stage.connect("shopify", "tiny-2-0"))
    await stage.rows('UPDATE "ProductImportJob" SET attempt = 3')
    async with stage.worker():
        job = await stage.finished("job-1")
    assert (job.state, job.failure_reason) == (JobState.FAILED, "ProviderUnavailable")
    assert job.message.endswith("(after 4 tries)")


async def test_a_used_up_call_limit_gives_the_place_back_without_a_try(stage) -> None:
    provider = stage.connect("roastify", "tiny-30-0", rateLimit={"requests": 5, "perSeconds": 600})
    await stage.submit("job-1", provider)
    async with stage.worker(provider_wait_seconds=0):
        job = await stage.until("job-1", lambda job: job.waiting_reason is not None)
    assert (job.state, job.attempt, job.waiting_reason) == (JobState.PENDING, 0, "ProviderLimit")
    assert job.not_before is not None
    # One call for the list, four for products: what was fetched is kept.
    assert job.progress.products_imported == 4


@pytest.mark.parametrize(("own", "usual"), [({"activeDeadlineSeconds": 1}, None), ({}, 1.0)])
async def test_a_job_that_takes_longer_than_it_or_the_worker_says_fails(
    stage, own: dict[str, int], usual: float | None
) -> None:
    slow_images(stage, "tiny-2-1", 30)
    await stage.submit("job-1", stage.connect("shopify", "tiny-2-1"), **own)
    async with stage.worker(job_timeout=usual):
        job = await stage.finished("job-1")
    assert (job.state, job.failure_reason) == (JobState.FAILED, "DeadlineExceeded")


async def test_a_suspected_job_runs_alone(stage, monkeypatch) -> None:
    seen_at_work, commit = asyncio.Event(), CatalogueImport._commit

    async def commit_once_seen(self: CatalogueImport, write) -> None:
        if self.claim.job.id == "suspect":
            await seen_at_work.wait()
        await commit(self, write)

    monkeypatch.setattr(CatalogueImport, "_commit", commit_once_seen)
    slow_images(stage, "tiny-3-1", 0.5)
    slow_images(stage, "tiny-4-1", 0.5)
    normal, suspect = stage.connect("shopify", "tiny-3-1"), stage.connect("shopify", "tiny-4-1")
    await stage.submit("first", normal)
    async with stage.worker():
        await stage.until("first", lambda job: job.state is JobState.IN_PROGRESS)
        await stage.record("suspect", suspect)
        await stage.rows("""UPDATE "ProductImportJob" SET deaths = 3 WHERE id = 'suspect'""")
        await stage.dispatch("suspect")
        await stage.until("suspect", lambda job: job.state is JobState.IN_PROGRESS)
        await stage.submit("last", normal)
        seen = set()
        while not (await stage.job("last")).state.is_final:
            claims = dict(await stage.rows("SELECT job_id, suspected FROM imports.claim"))
            if claims.get("suspect"):
                seen.add(frozenset(claims))
                seen_at_work.set()
            await asyncio.sleep(0.02)
        times = dict(await stage.rows('SELECT id, "completedAt" FROM "ProductImportJob"'))
    assert seen == {frozenset({"suspect"})}
    assert times["first"] <= times["suspect"] <= times["last"]
    assert (await stage.job("suspect")).state is JobState.COMPLETED


async def test_starts_and_ends_are_told_at_once(stage) -> None:
    provider = stage.connect("shopify", "tiny-1-0")
    async with stage.worker(), aclosing(listen(stage.database, [PROGRESS_CHANNEL])) as hints:
        assert (await anext(hints)).channel is None
        # How long a worker takes to start says nothing of its hints.
        async with asyncio.timeout(30):
            while not await stage.rows("SELECT 1 FROM imports.worker"):  # noqa: ASYNC110 - looks from outside
                await asyncio.sleep(0.05)
        await stage.submit("job-1", provider)
        states = []
        async with asyncio.timeout(10):
            while JobState.COMPLETED not in states:
                assert (await anext(hints)).payload.split(",") == ["job-1"]
                states.append((await stage.job("job-1")).state)


async def test_a_short_outage_of_the_database_costs_no_try(stage, postgres_server, monkeypatch) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    commit = CatalogueImport._commit

    async def commit_in_outage(self: CatalogueImport, write) -> None:
        reached.set()
        await go_on.wait()
        await commit(self, write)

    monkeypatch.setattr(CatalogueImport, "_commit", commit_in_outage)
    await stage.submit("job-1", stage.connect("shopify", "tiny-3-1"))
    async with stage.worker() as worker:
        await asyncio.wait_for(reached.wait(), 20)
        name = (await stage.rows("SELECT current_database()"))[0][0]
        async with await postgres_server.superuser_connection() as superuser:
            await superuser.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            go_on.set()
            await asyncio.sleep(1)
            assert value(worker, "imports_pages_total", provider="shopify") == 0
            await superuser.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        job = await stage.finished("job-1")
    assert (job.state, job.attempt, job.deaths) == (JobState.COMPLETED, 0, 0)
    assert job.progress.products_imported == 3


async def test_a_broken_connection_to_redis_is_made_anew(stage, redis_url) -> None:
    provider = stage.connect("shopify", "tiny-1-0")
    async with stage.worker():
        await stage.submit("job-1", provider)
        await stage.finished("job-1")
        client = stage.queue._client
        assert await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") > 0
        await stage.submit("job-2", provider)
        assert (await stage.finished("job-2")).state is JobState.COMPLETED


async def test_a_renewal_that_misses_a_claim_stops_the_job(stage) -> None:
    message = await stage.submit("job-1", "nobody")
    claims = ClaimStore(stage.database)
    claim = await claims.claim(message, worker_id="w")
    news: list[str] = []
    keeper = LeaseKeeper(claims, WorkerMetrics(), on_news=news.append)
    lost: list[str] = []
    live = Progress(images_imported=1)
    now = asyncio.get_running_loop().time()
    with keeper.hold(claim, claimed_at=now, live=lambda: live, on_lost=lost.append):
        await keeper.renew()
        assert (lost, news) == ([], ["job-1"])
        assert (await stage.job("job-1")).progress == live
        await stage.rows("DELETE FROM imports.claim")
        await keeper.renew()
    assert lost == ["the claim has ended"]


async def test_a_lease_that_is_never_confirmed_stops_the_job(stage) -> None:
    claims = ClaimStore(stage.database)
    claim = await claims.claim(await stage.submit("job-1", "nobody"), worker_id="w")
    await stage.database.close()
    keeper = LeaseKeeper(claims, WorkerMetrics(), on_news=lambda _: None, limit_seconds=2)
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    now = asyncio.get_running_loop().time()
    with keeper.hold(claim, claimed_at=now, live=Progress, on_lost=lost.set_result):
        await keeper.renew()
        assert not lost.done()
        assert await asyncio.wait_for(lost, 20) == "the lease could not be confirmed"


async def test_the_end_of_a_side_task_stops_the_worker_and_hands_back(stage, monkeypatch) -> None:
    broken = asyncio.Event()

    async def die(*_args: object) -> None:
        await broken.wait()
        raise RuntimeError("broken")

    monkeypatch.setattr("import_worker.runner.measure_lag", die)
    slow_images(stage, "tiny-2-1", 30)
    await stage.submit("job-1", stage.connect("shopify", "tiny-2-1"))
    task = asyncio.create_task(Worker(stage.settings, stage.directory, StopSignal()).run())
    await stage.until("job-1", lambda job: job.state is JobState.IN_PROGRESS)
    broken.set()
    assert await asyncio.wait_for(task, 20) == 1
    job = await stage.job("job-1")
    assert (job.state, job.attempt, job.deaths) == (JobState.PENDING, 0, 0)
    assert await stage.rows("SELECT 1 FROM imports.worker") == []


async def test_throttled_answers_are_waited_for(stage) -> None:
    account = stage.samples.account("shopify", "tiny-3-0")
    set_faults(account, FaultOrder(api=FaultSettings(next=[FaultAction(kind="throttled", times=2)])))
    await stage.submit("job-1", stage.connect("shopify", "tiny-3-0"))
    async with stage.worker():
        job = await stage.finished("job-1")
    assert (job.state, job.attempt, job.progress.products_imported) == (JobState.COMPLETED, 0, 3)


async def test_a_message_of_no_row_is_dropped(stage) -> None:
    await stage.queue.add([Message("nobody", 1)])
    async with stage.worker() as worker:
        await emptied(stage)
        assert value(worker, "imports_messages_dropped_total", reason="stale") == 1
