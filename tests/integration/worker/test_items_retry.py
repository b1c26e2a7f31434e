"""A job's failed items imported again: those alone, under the claim, once in each retry, counted where they belong."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.jobs import JobRow, JobState
from import_local.samples.catalogue.live import ProductChange
from import_local.samples.control import FaultOrder, set_faults
from import_local.samples.faults import FaultAction, FaultSettings
from import_worker.pipeline.pages import CatalogueImport

ERRORS = """
SELECT external_id, stage, reason, url <> '' AS is_image, document FROM imports.item_error
ORDER BY external_id, url
"""


def order(stage, kind: str, catalogue: str, **faults: FaultSettings) -> None:
    set_faults(stage.samples.account(kind, catalogue), FaultOrder(**faults))


async def import_with(stage, kind: str, catalogue: str, *, faults: dict[str, Any], **spec: Any) -> JobRow:
    """Import while there are faults, and take these back."""
    order(stage, kind, catalogue, **faults)
    await stage.submit("job-1", stage.connect(kind, catalogue), **spec)
    async with stage.worker():
        job = await stage.finished("job-1")
    order(stage, kind, catalogue)
    stage.samples.account(kind, catalogue).reset_counters()
    return job


async def reopen(stage, word: str = "retry-1") -> None:
    assert await ReopeningStore(stage.database).retry_items({"job-1": word}) == ["job-1"]
    await stage.dispatch("job-1")


async def retry_items(stage, word: str = "retry-1") -> JobRow:
    await reopen(stage, word)
    async with stage.worker():
        job = await stage.finished("job-1")
    assert not job.items_only
    return job


def failing_details(count: int, *, after: int = 1) -> FaultSettings:
    """Refuse `count` calls that come after the first ones."""
    unharmed = FaultAction(kind="slow", seconds=0, times=after)
    return FaultSettings(next=[unharmed, FaultAction(status=422, times=count)])


async def test_failed_products_alone_are_fetched_and_move_to_imported(stage) -> None:
    first = await import_with(stage, "roastify", "tiny-9-1", faults={"api": failing_details(3)})
    assert (first.progress.products_imported, first.progress.products_failed) == (6, 3)
    failed = {row[0] for row in await stage.rows(ERRORS)}
    rows = dict(await stage.rows('SELECT id, xmin::text FROM "Product"'))
    job = await retry_items(stage)
    counters = stage.samples.account("roastify", "tiny-9-1").counters
    assert {call.what.rpartition("/")[2] for call in counters.calls} == failed
    assert counters.api_calls == 3
    assert (job.state, job.message, job.attempt) == (JobState.COMPLETED, None, 0)
    assert (job.progress.products_total, job.progress.products_imported, job.progress.products_failed) == (
        9,
        9,
        0,
    )
    assert (job.progress.images_total, job.progress.images_imported) == (9, 9)
    assert await stage.rows(ERRORS) == []
    after = dict(await stage.rows('SELECT id, xmin::text FROM "Product"'))
    assert len(after) == 9
    assert {key: after[key] for key in rows} == rows


async def test_failed_images_are_fetched_again_and_counted_once(stage) -> None:
    faults = {"images": FaultSettings(next=[FaultAction(status=404, times=2)])}
    first = await import_with(stage, "shopify", "tiny-5-2", faults=faults)
    assert (first.progress.images_total, first.progress.images_failed) == (10, 2)
    errors = await stage.rows(ERRORS)
    assert all(document["url"].startswith("http") for *_, document in errors)
    job = await retry_items(stage)
    assert (job.state, job.message) == (JobState.COMPLETED, None)
    assert job.progress == replace(first.progress, images_imported=10, images_failed=0)
    assert await stage.rows('SELECT count(*) FROM "ProductImage"') == [(10,)]
    counters = stage.samples.account("shopify", "tiny-5-2").counters
    assert counters.api_calls == 1
    # Each product's other image is asked for conditionally.
    affected = len({row[0] for row in errors})
    assert (counters.image_statuses[200], counters.image_statuses[304]) == (2, 2 * affected - 2)


async def test_what_fails_again_is_tried_once_and_stays(stage) -> None:
    always = {"images": FaultSettings(error_rate=1, error_status=404)}
    first = await import_with(stage, "shopify", "tiny-3-1", faults=always)
    errors = await stage.rows(ERRORS)
    order(stage, "shopify", "tiny-3-1", **always)
    job = await retry_items(stage)
    assert (job.state, job.progress) == (JobState.COMPLETED, first.progress)
    assert job.message == "3 of 3 images could not be imported; see the item errors"
    assert await stage.rows(ERRORS) == errors
    assert stage.samples.account("shopify", "tiny-3-1").counters.api_calls == 1


async def test_a_product_that_is_gone_is_said_so_with_what_it_was(stage) -> None:
    faults = {"images": FaultSettings(next=[FaultAction(status=404, times=1)])}
    first = await import_with(stage, "shopify", "tiny-3-1", faults=faults)
    ((external_id, *_, document),) = await stage.rows(ERRORS)
    products = [row[0] for row in await stage.rows('SELECT "externalId" FROM "Product" ORDER BY 1')]
    stage.samples.account("shopify", "tiny-3-1").catalogue.change(
        products.index(external_id), ProductChange(removed=True)
    )
    job = await retry_items(stage)
    assert (job.state, job.progress) == (JobState.COMPLETED, first.progress)
    assert "1 failed product is gone from the source" in job.message
    assert await stage.rows(ERRORS) == [(external_id, "download", "GoneFromSource", True, document)]
    assert await stage.rows('SELECT count(*) FROM "Product"') == [(3,)]


async def test_a_job_of_which_every_product_failed_is_completed_by_a_better_mapping(stage) -> None:
    mapping = {"price": "variants[0].title"}
    first = await import_with(stage, "shopify", "tiny-4-1", faults={}, fieldMapping=mapping)
    assert (first.state, first.failure_reason) == (JobState.FAILED, "EveryProductFailed")
    documents = [row[-1] for row in await stage.rows(ERRORS)]
    assert all(document["variants"][0]["price"] for document in documents)
    job = await retry_items(stage)
    assert (job.state, job.failure_reason) == (JobState.FAILED, "EveryProductFailed")
    await stage.rows("""UPDATE "ProductImportJob" SET spec = spec - 'fieldMapping'""")
    job = await retry_items(stage, "retry-2")
    assert (job.state, job.failure_reason, job.message) == (JobState.COMPLETED, None, None)
    assert (job.progress.products_imported, job.progress.products_failed) == (4, 0)
    assert (job.progress.images_total, job.progress.images_imported) == (4, 4)


async def test_items_without_an_id_are_left_and_said_so(stage) -> None:
    await import_with(stage, "shopify", "tiny-2-0", faults={})
    await stage.rows(
        """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message)
        VALUES ('job-1', 'cursor', 'fetch', 'NoExternalId', 'no id')"""
    )
    job = await retry_items(stage)
    assert job.state is JobState.COMPLETED
    assert "1 can't be retried by itself" in job.message
    assert stage.samples.account("shopify", "tiny-2-0").counters.api_calls == 0


async def test_a_job_that_failed_in_the_middle_does_not_complete_by_its_items(stage) -> None:
    await import_with(
        stage,
        "roastify",
        "tiny-30-0",
        faults={"api": failing_details(5)},
    )
    cursor = {"version": 1, "pending": [], "after": "x", "more": True, "seen": 30}
    await stage.rows("UPDATE imports.checkpoint SET cursor = %s", Jsonb(cursor))
    failed = await stage.rows("SELECT count(*) FROM imports.item_error")
    assert failed[0][0] > 0
    job = await retry_items(stage)
    assert (job.state, job.failure_reason) == (JobState.FAILED, "CatalogueIncomplete")
    assert job.progress.products_imported == 30
    # A later run from the checkpoint goes on where the catalogue was left.
    await stage.rows("""UPDATE "ProductImportJob" SET status = 'PENDING', "completedAt" = NULL""")
    claim = await ClaimStore(stage.database).claim(await stage.dispatch("job-1"), worker_id="w")
    assert claim.checkpoint.cursor == cursor


async def all_but_one_fail(stage) -> None:
    """A Roastify job of 45 products, all but one of which are refused now and later."""
    await import_with(stage, "roastify", "tiny-45-0", faults={"api": failing_details(44)})
    order(stage, "roastify", "tiny-45-0", api=FaultSettings(error_rate=1, error_status=422))


async def test_a_crash_in_the_middle_repeats_at_most_the_page_in_hand(stage, monkeypatch) -> None:
    await all_but_one_fail(stage)
    commit, commits = CatalogueImport._commit, 0

    async def crash_at_the_second(self: CatalogueImport, write) -> None:
        nonlocal commits
        commits += 1
        if commits == 2:
            raise RuntimeError("the process dies here")
        await commit(self, write)

    monkeypatch.setattr(CatalogueImport, "_commit", crash_at_the_second)
    await reopen(stage)
    async with stage.worker():
        await stage.until("job-1", lambda job: job.attempt == 1)
        assert (await stage.job("job-1")).items_only
        await stage.dispatch("job-1")
        job = await stage.finished("job-1")
    assert (job.state, job.progress.products_failed) == (JobState.COMPLETED, 44)
    asked = [
        call.what.rpartition("/")[2] for call in stage.samples.account("roastify", "tiny-45-0").counters.calls
    ]
    times = {external_id: asked.count(external_id) for external_id in asked}
    failed = [row[0] for row in await stage.rows(ERRORS)]
    assert [times[external_id] for external_id in failed] == [1] * 20 + [2] * 20 + [1] * 4


async def test_another_retry_tries_what_the_last_one_left(stage) -> None:
    await all_but_one_fail(stage)
    counters = stage.samples.account("roastify", "tiny-45-0").counters
    await retry_items(stage)
    assert counters.api_calls == 44
    await retry_items(stage, "retry-2")
    assert counters.api_calls == 88
    order(stage, "roastify", "tiny-45-0")
    job = await retry_items(stage, "retry-3")
    assert (job.progress.products_imported, job.progress.products_failed, job.message) == (45, 0, None)
    assert await ReopeningStore(stage.database).retry_items({"job-1": "retry-4"}) == []


@pytest.mark.parametrize("kind", ["shopify", "roastify"])
async def test_a_used_up_call_limit_costs_no_try_and_no_item(stage, kind: str) -> None:
    catalogue = "tiny-30-1"
    first = await import_with(
        stage, kind, catalogue, faults={"images": FaultSettings(error_rate=1, error_status=404)}
    )
    assert first.progress.images_failed == 30
    # A connection of another name, as its limiter knows of no calls yet.
    found = stage.directory.providers[stage.connect(kind, catalogue)]
    limit = {"requests": {"shopify": 2, "roastify": 12}[kind], "perSeconds": 600}
    other = {
        "metadata": {**found["metadata"], "name": "other"},
        "spec": {**found["spec"], "rateLimit": limit},
    }
    stage.directory.providers["other"] = other
    await stage.rows(
        """UPDATE "ProductImportJob" SET spec = jsonb_set(spec, '{providerRef,name}', '"other"')"""
    )
    await reopen(stage)
    async with stage.worker(provider_wait_seconds=0):
        job = await stage.until("job-1", lambda job: job.waiting_reason is not None)
    assert (job.waiting_reason, job.attempt, job.items_only) == ("ProviderLimit", 0, True)
    assert 0 < job.progress.images_imported < 30
    other["spec"]["rateLimit"] = found["spec"]["rateLimit"]
    await stage.dispatch("job-1")
    async with stage.worker():
        job = await stage.finished("job-1")
    assert stage.samples.account(kind, catalogue).counters.api_calls == {"shopify": 3, "roastify": 30}[kind]
    assert (job.state, job.attempt) == (JobState.COMPLETED, 0)
    assert (job.progress.images_imported, job.progress.images_failed) == (30, 0)
    assert job.progress.products_done == 30


async def test_a_worker_that_lost_its_claim_corrects_nothing(stage, monkeypatch) -> None:
    first = await import_with(stage, "roastify", "tiny-9-1", faults={"api": failing_details(3)})
    errors = await stage.rows(ERRORS)
    commit = CatalogueImport._commit

    async def commit_too_late(self: CatalogueImport, write) -> None:
        await stage.rows("UPDATE imports.claim SET claim_id = gen_random_uuid()")
        await commit(self, write)

    monkeypatch.setattr(CatalogueImport, "_commit", commit_too_late)
    await reopen(stage)
    async with stage.worker() as worker:
        await stage.until("job-1", lambda job: job.state is JobState.IN_PROGRESS)
        lost = "imports_jobs_total", {"outcome": "lost", "provider": "roastify", "tier": "BASIC"}
        async with asyncio.timeout(20):
            while not worker.metrics.registry.get_sample_value(*lost):  # noqa: ASYNC110 - looks from outside
                await asyncio.sleep(0.05)
    assert await stage.rows(ERRORS) == errors
    assert await stage.rows('SELECT count(*) FROM "Product"') == [(6,)]
    assert (await stage.job("job-1")).progress == first.progress
