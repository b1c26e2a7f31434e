"""Products that are gone from the source: archived, brought back, asked about, and never half forgotten."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from psycopg.types.json import Jsonb

from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.removals import Owner, RemovalStore
from import_core.domain.errors import ClaimLostError
from import_core.domain.jobs import CHECKPOINT_VERSION, Checkpoint, JobState
from import_local.samples.catalogue import expected_products
from import_local.samples.control import ProductOrder, change_product
from import_worker.providers.shopify import ShopifyProvider

ARCHIVE = {"action": "Archive"}
VERSIONS = 'SELECT id, xmin::text FROM "Product" ORDER BY id'
SEEN = "SELECT count(*) FROM imports.seen_product"
FIRST_PAGE = PageWrite("shopify", [], [], [], [], Checkpoint())
PROGRESS = "SELECT (progress ->> 'products_archived')::integer FROM imports.checkpoint WHERE job_id = %s"


async def run(stage, job_id: str, provider: str, *, company: str = "acme", removed=None, **spec):
    """One job from its submission to its end."""
    if removed is not None:
        spec["removed"] = removed
    await stage.submit(job_id, provider, company=company, **spec)
    async with stage.worker():
        return await stage.finished(job_id)


async def confirm(stage, job_id: str, generation: int = 1):
    """What the operator does with the annotation, and the run that follows."""
    await stage.rows(
        """UPDATE "ProductImportJob" SET status = 'PENDING', "confirmedRemovals" = %s, "startedAt" = NULL,
        "completedAt" = NULL, "failureReason" = NULL, "errorMessage" = NULL WHERE id = %s""",
        generation,
        job_id,
    )
    await stage.dispatch(job_id)
    async with stage.worker():
        return await stage.until(job_id, lambda job: job.state.is_final)


def remove(stage, kind: str, catalogue: str, *indexes: int, removed: bool = True) -> None:
    for index in indexes:
        change_product(stage.samples.account(kind, catalogue), index, ProductOrder(removed=removed))


def ids(stage, kind: str, catalogue: str) -> list[str]:
    """External ids in the order of the catalogue, of what it has now."""
    account = stage.samples.account(kind, catalogue)
    return [product.id for product in expected_products(account.catalogue, kind, stage.samples.base_url)]


async def archived(stage) -> set[str]:
    return {
        row[0] for row in await stage.rows("""SELECT "externalId" FROM "Product" WHERE status = 'archived'""")
    }


@pytest.mark.parametrize("kind", ["shopify", "roastify"])
async def test_what_is_gone_is_archived_and_comes_back(stage, kind) -> None:
    provider = stage.connect(kind, "tiny-20-0")
    every = ids(stage, kind, "tiny-20-0")
    await run(stage, "first", provider)
    before = await stage.rows('SELECT "externalId", status FROM "Product" ORDER BY 1')
    remove(stage, kind, "tiny-20-0", 3, 7, 19)
    job = await run(stage, "second", provider, removed=ARCHIVE)
    assert (job.state, job.message) == (
        JobState.COMPLETED,
        "0 products imported, 17 unchanged; 3 products archived, gone from the source",
    )
    assert await archived(stage) == {every[3], every[7], every[19]}
    # They are written once: archived ones count neither as present nor as missing.
    versions = await stage.rows(VERSIONS)
    again = await run(stage, "third", provider, removed={"action": "Archive", "maxPercent": 0})
    assert (again.state, again.message) == (JobState.COMPLETED, None)
    assert await stage.rows(VERSIONS) == versions
    remove(stage, kind, "tiny-20-0", 3, 7, removed=False)
    back = await run(stage, "fourth", provider)
    assert (back.progress.products_imported, back.progress.products_unchanged) == (2, 17)
    assert await archived(stage) == {every[19]}
    after = await stage.rows('SELECT "externalId", status FROM "Product" ORDER BY 1')
    assert [row for row in after if row[0] != every[19]] == [row for row in before if row[0] != every[19]]
    assert await stage.rows(SEEN) == [(0,)]


async def test_a_job_that_keeps_changes_nothing_and_remembers_nothing(stage) -> None:
    provider = stage.connect("shopify", "tiny-20-0")
    await run(stage, "first", provider)
    versions = await stage.rows(VERSIONS)
    remove(stage, "shopify", "tiny-20-0", 0)
    job = await run(stage, "second", provider)
    assert (job.state, job.message) == (JobState.COMPLETED, None)
    assert await stage.rows(VERSIONS) == versions
    assert await archived(stage) == set()


async def test_a_row_without_a_connection_is_written_once_and_never_guessed(stage) -> None:
    """Rows from before connections were kept: the ones that are seen get theirs, the others stay as they are."""
    provider = stage.connect("shopify", "tiny-20-0")
    every = ids(stage, "shopify", "tiny-20-0")
    await run(stage, "first", provider)
    connections = 'SELECT "externalId" FROM "Product" WHERE connection = %s'
    assert {row[0] for row in await stage.rows(connections, provider)} == set(every)
    await stage.rows('UPDATE "Product" SET connection = NULL')
    versions = dict(await stage.rows('SELECT "externalId", xmin::text FROM "Product"'))
    remove(stage, "shopify", "tiny-20-0", 5)
    job = await run(stage, "second", provider, removed=ARCHIVE)
    assert (job.state, job.message, await archived(stage)) == (JobState.COMPLETED, None, set())
    assert {row[0] for row in await stage.rows(connections, provider)} == set(every) - {every[5]}
    written = dict(await stage.rows('SELECT "externalId", xmin::text FROM "Product"'))
    assert {key for key, version in written.items() if version == versions[key]} == {every[5]}
    await run(stage, "third", provider, removed=ARCHIVE)
    assert dict(await stage.rows('SELECT "externalId", xmin::text FROM "Product"')) == written


async def test_another_connection_of_the_company_is_never_touched(stage) -> None:
    first, second = stage.connect("shopify", "tiny-10-0"), stage.connect("shopify", "tiny-20-0")
    other_company = stage.connect("shopify", "tiny-10-0", company="bolt")
    await run(stage, "job-1", first)
    await run(stage, "job-2", second)
    await run(stage, "job-3", other_company, company="bolt")
    remove(stage, "shopify", "tiny-10-0", 2)
    remove(stage, "shopify", "tiny-20-0", 4, 5)
    gone = set(ids_of_removed(stage, "tiny-10-0", 2))
    job = await run(stage, "job-4", first, removed=ARCHIVE)
    assert job.message.endswith("1 product archived, gone from the source")
    rows = await stage.rows("""SELECT "companyId", "externalId" FROM "Product" WHERE status = 'archived'""")
    assert set(rows) == {("acme", external_id) for external_id in gone}


def ids_of_removed(stage, catalogue: str, *indexes: int) -> list[str]:
    account = stage.samples.account("shopify", catalogue)
    base = [account.catalogue.base.product(index) for index in indexes]
    return [f"gid://shopify/Product/{product.number}" for product in base]


async def test_too_many_at_once_are_asked_about_and_then_archived(stage) -> None:
    provider = stage.connect("shopify", "tiny-10-0")
    await run(stage, "first", provider)
    versions = await stage.rows(VERSIONS)
    remove(stage, "shopify", "tiny-10-0", 0, 1, 2)
    job = await run(stage, "second", provider, removed=ARCHIVE)
    assert (job.state, job.failure_reason) == (JobState.FAILED, "RemovalsNotConfirmed")
    assert job.message == (
        "3 of the connection's 10 products are gone from the source, more than removed.maxPercent (20 %)"
        " allows; nothing was archived. If this is right, confirm it: kubectl annotate importjob object-second"
        " --namespace imports --overwrite imports.avnz.io/confirm-removals=1"
    )
    assert await stage.rows(VERSIONS) == versions
    assert await stage.rows(SEEN) == [(7,)]
    counters = stage.samples.account("shopify", "tiny-10-0").counters
    calls = len(counters.calls)
    job = await confirm(stage, "second")
    assert (job.state, job.failure_reason) == (JobState.COMPLETED, None)
    assert job.message == "0 products imported, 7 unchanged; 3 products archived, gone from the source"
    assert len(await archived(stage)) == 3
    assert len(counters.calls) == calls  # it went straight to the removals
    assert (job.progress.products_total, await stage.rows(SEEN)) == (7, [(0,)])


async def test_a_confirmation_keeps_what_another_job_wrote_during_the_run_that_asked(stage) -> None:
    """It was never in the number that was confirmed: it came after the listing, and before the last page."""
    provider = stage.connect("shopify", "tiny-10-0")
    await run(stage, "first", provider)
    every = ids(stage, "shopify", "tiny-10-0")
    remove(stage, "shopify", "tiny-10-0", 0, 1, 2)
    asked = await run(stage, "second", provider, removed=ARCHIVE)
    assert asked.failure_reason == "RemovalsNotConfirmed"
    await stage.rows(
        """UPDATE "Product" SET "updatedAt" = (
            SELECT j."startedAt" + (c.updated_at - j."startedAt") / 2
            FROM "ProductImportJob" j JOIN imports.checkpoint c ON c.job_id = j.id WHERE j.id = 'second')
        WHERE "externalId" = %s""",
        every[1],
    )
    job = await confirm(stage, "second")
    assert job.message.endswith("2 products archived, gone from the source")
    assert await archived(stage) == {every[0], every[2]}


async def test_a_word_for_another_generation_is_none(stage) -> None:
    provider = stage.connect("shopify", "tiny-10-0")
    await run(stage, "first", provider)
    remove(stage, "shopify", "tiny-10-0", 0, 1, 2)
    await run(stage, "second", provider, removed=ARCHIVE)
    job = await confirm(stage, "second", generation=2)
    assert (job.state, job.failure_reason) == (JobState.FAILED, "RemovalsNotConfirmed")
    assert await archived(stage) == set()


async def test_an_empty_catalogue_asks(stage) -> None:
    provider = stage.connect("shopify", "tiny-10-0")
    await run(stage, "first", provider)
    remove(stage, "shopify", "tiny-10-0", *range(10))
    job = await run(stage, "second", provider, removed={"action": "Archive", "maxPercent": 99})
    assert (job.state, job.failure_reason) == (JobState.FAILED, "RemovalsNotConfirmed")
    assert job.message.startswith("10 of the connection's 10 products")
    assert await archived(stage) == set()
    job = await confirm(stage, "second")
    assert job.message == "the catalogue is empty; 10 products archived, gone from the source"
    assert len(await archived(stage)) == 10


async def test_products_that_failed_are_at_the_source_and_stay(stage) -> None:
    provider = stage.connect("roastify", "tiny-20-0")
    every = ids(stage, "roastify", "tiny-20-0")
    await run(stage, "first", provider)
    remove(stage, "roastify", "tiny-20-0", 6)
    mapping = {"sku": f"id == '{every[9]}' && `5` || variants[0].sku"}
    job = await run(stage, "second", provider, removed=ARCHIVE, fieldMapping=mapping)
    assert job.message == (
        "1 of 19 products could not be imported; see the item errors; 1 product archived, gone from the source"
    )
    assert await archived(stage) == {every[6]}


async def test_a_catalogue_of_failures_archives_nothing(stage) -> None:
    provider = stage.connect("roastify", "tiny-20-0")
    await run(stage, "first", provider)
    versions = await stage.rows(VERSIONS)
    remove(stage, "roastify", "tiny-20-0", 6)
    job = await run(stage, "second", provider, removed=ARCHIVE, fieldMapping={"sku": "`5`"})
    assert (job.state, job.failure_reason) == (JobState.FAILED, "EveryProductFailed")
    assert (await stage.rows(VERSIONS), await stage.rows(SEEN)) == (versions, [(0,)])


@pytest.mark.parametrize(
    ("kept", "counted", "words"),
    [
        (8, 8, "2 products not seen at the source are kept: 1 product of the source could"),
        (0, 8, "10 products not seen at the source are kept: 9 products of the source could"),
        (0, 0, "10 products not seen at the source are kept: 9 products of the source could"),
    ],
    ids=["one-page", "ids-lost", "no-page"],
)
async def test_pages_that_kept_no_ids_keep_every_product(stage, kept, counted, words) -> None:
    """A job that was told to archive only after its first pages can't know what they showed."""
    provider = stage.connect("shopify", "tiny-10-0")
    await run(stage, "first", provider)
    remove(stage, "shopify", "tiny-10-0", 9)
    message = await stage.submit("second", provider, removed={"action": "Archive", "maxPercent": 100})
    await stage.rows(
        """INSERT INTO imports.checkpoint (job_id, version, cursor, progress, pages, started_at)
        VALUES (%s, %s, %s, %s, 1, now())""",
        message.job_id,
        CHECKPOINT_VERSION,
        Jsonb(None),
        Jsonb({"products_total": 9, "products_unchanged": 9, "products_seen": counted}),
    )
    await stage.rows(
        """INSERT INTO imports.seen_product
        SELECT %s, "externalId" FROM "Product" ORDER BY "externalId" LIMIT %s""",
        message.job_id,
        kept,
    )
    async with stage.worker():
        job = await stage.finished("second")
    assert (job.state, await archived(stage)) == (JobState.COMPLETED, set())
    assert words in job.message


async def test_a_listing_shorter_than_the_shops_own_count_archives_nothing(stage, monkeypatch) -> None:
    provider = stage.connect("shopify", "tiny-10-0")
    await run(stage, "first", provider)
    remove(stage, "shopify", "tiny-10-0", 4)

    async def count(_: object) -> tuple[int, bool]:
        return 11, True

    monkeypatch.setattr(ShopifyProvider, "_count", count)
    job = await run(stage, "second", provider, removed={"action": "Archive", "maxPercent": 100})
    assert (job.state, job.progress.products_total, await archived(stage)) == (JobState.COMPLETED, 9, set())
    assert job.message.endswith(
        "1 product not seen at the source is kept: it counts 2 products that it did not list"
    )


SECOND_BATCH = """SELECT 1 FROM "Product" WHERE "externalId" = 'old-00777' FOR UPDATE"""
END_OF_JOB = """SELECT 1 FROM "ProductImportJob" WHERE id = 'second' FOR UPDATE"""
# A statement that waits for a lock would be carried out for a client that is dead already.
END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name LIKE 'import-worker%' AND datname = current_database()
"""


@asynccontextmanager
async def locked(stage, statement: str):
    """Hold what `statement` locks, so that a worker waits where the test wants it."""
    connection = await stage.database.dedicated()
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield
    finally:
        await connection.close()


async def until_archived(stage, job_id: str, products: int) -> None:
    async with asyncio.timeout(30):
        while await stage.rows(PROGRESS, job_id) != [(products,)]:  # noqa: ASYNC110 - looks from outside
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("gone", "before_death"), [(1_100, 500), (300, 300)])
async def test_a_death_in_the_middle_costs_nothing(
    stage, start_process, calls_may_be_answered, gone, before_death
) -> None:
    """Killed between two batches, and between the last one and the job's end."""
    provider = stage.connect("shopify", "tiny-10-0")
    calls_may_be_answered.set()
    await run(stage, "first", provider)
    await stage.rows(
        """INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, connection,
            "contentHash", "createdAt", "updatedAt")
        SELECT 'old-' || n, 'acme', 'old-' || lpad(n::text, 5, '0'), 'shopify', 'Old', %s, 'hash', now(), now()
        FROM generate_series(1, %s) n""",
        provider,
        gone,
    )
    # It reads nothing until the lock is there.
    calls_may_be_answered.clear()
    await stage.submit("second", provider, removed={"action": "Archive", "maxPercent": 100})
    worker = await start_process()
    job = await stage.until("second", lambda job: job.state is JobState.IN_PROGRESS)
    async with locked(stage, SECOND_BATCH if gone > before_death else END_OF_JOB):
        calls_may_be_answered.set()
        await until_archived(stage, "second", before_death)
        worker.process.kill()
        await worker.ended()
        await stage.rows(END_SESSIONS)
    assert len(await archived(stage)) == before_death
    versions = dict(await stage.rows("""SELECT id, xmin::text FROM "Product" WHERE status = 'archived'"""))
    ended = await ClaimStore(stage.database).end_of_workers([job.claimed_by])
    assert [claim.job_id for claim in ended] == ["second"]
    calls = len(stage.samples.account("shopify", "tiny-10-0").counters.calls)
    await stage.dispatch("second")
    async with stage.worker():
        job = await stage.finished("second")
    assert (job.state, job.deaths) == (JobState.COMPLETED, 1)
    assert job.message.endswith(f"{gone:,} products archived, gone from the source")
    assert len(stage.samples.account("shopify", "tiny-10-0").counters.calls) == calls
    assert await archived(stage) == {f"old-{number:05}" for number in range(1, gone + 1)}
    rows = dict(await stage.rows("""SELECT id, xmin::text FROM "Product" WHERE status = 'archived'"""))
    assert rows.items() >= versions.items()
    assert await stage.rows(SEEN) == [(0,)]


async def test_a_worker_that_lost_its_claim_archives_nothing(stage) -> None:
    provider = stage.connect("shopify", "tiny-10-0")
    await run(stage, "first", provider)
    message = await stage.submit("second", provider, removed={"action": "Archive", "maxPercent": 100})
    claims, store = ClaimStore(stage.database), RemovalStore(stage.database)
    claim = await claims.claim(message, worker_id="worker-1")
    owner = Owner("acme", "shopify", provider)
    assert (await store.measure(claim, owner)).missing == 0  # no page tells yet when the run began
    await CatalogueStore(stage.database).commit_page(claim, FIRST_PAGE)
    found = await store.measure(claim, owner)
    assert (found.present, found.missing, found.has_seen) == (10, 10, False)
    await claims.end_of_workers(["worker-1"])
    versions = await stage.rows(VERSIONS)
    with pytest.raises(ClaimLostError):
        await store.measure(claim, owner)
    with pytest.raises(ClaimLostError):
        await store.archive(claim, owner, since=datetime.now(UTC), after="", limit=10)
    assert await stage.rows(VERSIONS) == versions


async def test_what_another_job_wrote_meanwhile_is_there(stage) -> None:
    """A product that another job of the connection wrote after this one began is not missing."""
    provider = stage.connect("shopify", "tiny-10-0")
    await run(stage, "first", provider)
    message = await stage.submit("second", provider, removed={"action": "Archive", "maxPercent": 100})
    claim = await ClaimStore(stage.database).claim(message, worker_id="worker-1")
    await CatalogueStore(stage.database).commit_page(claim, FIRST_PAGE)
    await stage.rows('UPDATE "Product" SET "updatedAt" = now() WHERE "externalId" LIKE %s', "%1")
    ((written,),) = await stage.rows('SELECT count(*) FROM "Product" WHERE "externalId" LIKE %s', "%1")
    found = await RemovalStore(stage.database).measure(claim, Owner("acme", "shopify", provider))
    assert written > 0
    assert (found.present, found.missing) == (10, 10 - written)
