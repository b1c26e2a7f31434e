"""Incremental re-imports: what an unchanged catalogue costs, and what must never be missed for it."""

from dataclasses import dataclass

import pytest

from import_core.domain.jobs import JobState
from import_local.samples.control import FaultOrder, ProductOrder, change_product, set_faults
from import_local.samples.faults import FaultAction, FaultSettings

INCREMENTAL = {"mode": "Incremental"}
VERSIONS = """SELECT p.id, p.xmin::text, i.id, i.xmin::text FROM "Product" p
    LEFT JOIN "ProductImage" i ON i."productId" = p.id ORDER BY p.id, i.position"""
ROWS = """SELECT (SELECT count(*) FROM "Product" WHERE xmin::text::bigint >= %s)
    + (SELECT count(*) FROM "ProductImage" WHERE xmin::text::bigint >= %s)"""
MARK = "SELECT listed_at, full_at, incrementals, job_id FROM imports.reimport_mark"
LISTED = (
    "SELECT reimport ->> 'since' IS NOT NULL, reimport ->> 'full' FROM imports.checkpoint WHERE job_id = %s"
)


@dataclass
class Cost:
    """What one run asked of the source and wrote, as counts."""

    requests: int
    bytes: int
    rows: int
    puts: int


async def run(stage, job_id: str, provider: str, *, reimport=INCREMENTAL, **spec):
    await stage.submit(job_id, provider, reimport=reimport, **spec)
    async with stage.worker():
        return await stage.finished(job_id)


async def measured(stage, job_id: str, provider: str, catalogue: str, **spec) -> Cost:
    """One run, and the difference that it made to all counters."""
    counters = stage.samples.account("shopify", catalogue).counters
    before = (counters.api_calls + counters.image_requests, counters.api_bytes + counters.image_bytes)
    objects = {info.key: (info.etag, info.last_modified) async for info in stage.store.list()}
    ((transaction,),) = await stage.rows("SELECT pg_current_xact_id()::text::bigint")
    job = await run(stage, job_id, provider, **spec)
    assert job.state is JobState.COMPLETED
    ((rows,),) = await stage.rows(ROWS, transaction, transaction)
    after = {info.key: (info.etag, info.last_modified) async for info in stage.store.list()}
    return Cost(
        counters.api_calls + counters.image_requests - before[0],
        counters.api_bytes + counters.image_bytes - before[1],
        rows,
        sum(objects.get(key) != version for key, version in after.items()),
    )


async def test_an_unchanged_catalogue_costs_a_tenth_at_most_and_writes_nothing(stage) -> None:
    provider = stage.connect("shopify", "tiny-120-1")
    first = await measured(stage, "first", provider, "tiny-120-1")
    assert (first.rows, first.puts > 0) == (240, True)
    versions = await stage.rows(VERSIONS)
    second = await measured(stage, "second", provider, "tiny-120-1")
    assert second.requests * 10 <= first.requests
    assert second.bytes * 10 <= first.bytes
    assert (second.rows, second.puts) == (0, 0)
    assert await stage.rows(VERSIONS) == versions
    assert await stage.rows(LISTED, "first") == [(False, "First")]
    assert await stage.rows(LISTED, "second") == [(True, None)]
    assert (await stage.job("second")).message.startswith("nothing changed at the source since ")
    # A full one reads every product, and still writes and downloads nothing.
    counters = stage.samples.account("shopify", "tiny-120-1").counters
    downloaded = counters.image_statuses[200]
    third = await measured(stage, "third", provider, "tiny-120-1", reimport={**INCREMENTAL, "fullEvery": 2})
    assert await stage.rows(LISTED, "third") == [(False, "Due")]
    assert (third.rows, third.puts, counters.image_statuses[200]) == (0, 0, downloaded)
    assert await stage.rows(VERSIONS) == versions


async def test_what_changed_is_picked_up_and_what_is_gone_waits_for_a_full_run(stage) -> None:
    provider = stage.connect("shopify", "tiny-20-1")
    archive = {"removed": {"action": "Archive"}}
    await run(stage, "first", provider, **archive)
    account = stage.samples.account("shopify", "tiny-20-1")
    change_product(account, 3, ProductOrder(title="Another name"))
    change_product(account, 7, ProductOrder(removed=True))
    second = await run(stage, "second", provider, **archive)
    assert (second.progress.products_imported, second.progress.products_done) == (1, 1)
    assert second.message.startswith("incremental: only products changed since ")
    assert await stage.rows("""SELECT count(*) FROM "Product" WHERE title = 'Another name'""") == [(1,)]
    gone = """SELECT count(*) FROM "Product" WHERE status = 'archived'"""
    assert await stage.rows(gone) == [(0,)]
    ((listed_at, full_at, incrementals, job_id),) = await stage.rows(MARK)
    assert (listed_at > full_at, incrementals, job_id) == (True, 1, "second")
    full = await run(stage, "third", provider, reimport={"mode": "Full"}, **archive)
    assert full.message.endswith("1 product archived, gone from the source")
    assert await stage.rows(gone) == [(1,)]
    ((moved, full_at, incrementals, job_id),) = await stage.rows(MARK)
    assert (moved > listed_at, moved == full_at, incrementals, job_id) == (True, True, 0, "third")


@pytest.mark.parametrize("broken", ["api", "image"])
async def test_a_run_that_failed_keeps_the_mark_and_the_next_gets_what_it_missed(stage, broken) -> None:
    provider = stage.connect("shopify", "tiny-6-1")
    await run(stage, "first", provider)
    ((mark, *_),) = await stage.rows(MARK)
    account = stage.samples.account("shopify", "tiny-6-1")
    change_product(account, 2, ProductOrder(title="Another name", image="new-address"))
    refusal = FaultSettings(next=[FaultAction(status=401)])
    set_faults(
        account,
        FaultOrder(api=refusal)
        if broken == "api"
        else FaultOrder(images=FaultSettings(next=[FaultAction(status=403)])),
    )
    second = await run(stage, "second", provider)
    assert second.state is (JobState.FAILED if broken == "api" else JobState.COMPLETED)
    assert [row[0] for row in await stage.rows(MARK)] == [mark]
    set_faults(account, FaultOrder())
    third = await run(stage, "third", provider)
    assert (third.state, third.progress.products_done) == (JobState.COMPLETED, 1)
    assert third.progress.images_imported == 1
    assert await stage.rows(LISTED, "third") == [(True, None)]
    assert (await stage.rows(MARK))[0][0] > mark


async def test_other_settings_read_everything_and_void_the_mark_of_the_old_ones(stage) -> None:
    provider = stage.connect("shopify", "tiny-6-1")
    await run(stage, "first", provider)
    mapping = {"vendor": "handle"}
    second = await run(stage, "second", provider, fieldMapping=mapping)
    assert (second.progress.products_imported, await stage.rows(LISTED, "second")) == (
        6,
        [(False, "Changed")],
    )
    # A plain job with the old mapping moves no mark; it writes the rows all the same, so the mark goes.
    plain = await run(stage, "third", provider, reimport={"mode": "Full"})
    assert (plain.progress.products_imported, await stage.rows(MARK)) == (6, [])
    await run(stage, "fourth", provider, fieldMapping=mapping)
    assert await stage.rows(LISTED, "fourth") == [(False, "First")]


async def test_two_runs_at_once_leave_the_mark_where_it_was(stage) -> None:
    provider = stage.connect("shopify", "tiny-6-1")
    await run(stage, "first", provider)
    ((mark, *_),) = await stage.rows(MARK)
    await stage.submit("other", provider)
    await stage.rows(
        """UPDATE "ProductImportJob" SET status = 'COMPLETED', "completedAt" = now() + interval '1 hour'
        WHERE id = 'other'"""
    )
    second = await run(stage, "second", provider)
    assert second.state is JobState.COMPLETED
    assert [row[0] for row in await stage.rows(MARK)] == [mark]


async def test_a_source_without_a_filter_by_time_is_read_whole_and_nothing_is_written(stage) -> None:
    provider = stage.connect("roastify", "tiny-6-1")
    await run(stage, "first", provider)
    versions = await stage.rows(VERSIONS)
    counters = stage.samples.account("roastify", "tiny-6-1").counters
    downloaded = counters.image_statuses[200]
    second = await run(stage, "second", provider)
    assert (second.progress.products_unchanged, second.message) == (6, None)
    assert await stage.rows(LISTED, "second") == [(False, "NoTimeFilter")]
    assert await stage.rows(VERSIONS) == versions
    assert (counters.image_statuses[200], counters.image_statuses[304]) == (downloaded, 6)
