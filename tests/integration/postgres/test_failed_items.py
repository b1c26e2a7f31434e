"""What finished imports have given up, as dead letters: which count, and what of them a retry leaves out."""

from typing import Any

import pytest
import pytest_asyncio
from postgres_rows import execute, request
from test_dead_letter_plans import NoKube

from import_core.adapters import dead_letters
from import_core.adapters.dead_letters import DeadLetters
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.adapters.postgres.dead_letters import BATCH
from import_core.adapters.postgres.failed_item_choice import LATER
from import_core.adapters.postgres.failed_items import FailedItemStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.dead_letters import DeadFilter, DeadStep, LetterAction
from import_core.domain.jobs import JobState

ITEM = """
INSERT INTO imports.item_error (job_id, external_id, stage, url, reason, message)
VALUES (%s, %s, %s, %s, %s, 'no number')
"""


async def record(database: Database, job_id: str, *, hours_ago: int = 0, **values: Any) -> None:
    """A finished import of so many hours ago."""
    status = values.pop("status", "COMPLETED")
    await JobStore(database).record([request(job_id, **values)])
    await execute(
        database,
        """UPDATE "ProductImportJob" SET status = %s, "createdAt" = now() - %s * interval '1 hour',
        "completedAt" = now() - %s * interval '1 hour' + interval '1 minute' WHERE id = %s""",
        (status, hours_ago, hours_ago, job_id),
    )


async def fail(database: Database, job_id: str, external_id: str, **values: str) -> None:
    """A product that the import could not import, or with `url` an image of one that it did."""
    row = {"stage": "map", "url": "", "reason": "InvalidField", **values}
    await execute(database, ITEM, (job_id, external_id, row["stage"], row["url"], row["reason"]))


@pytest_asyncio.fixture(loop_scope="session")
async def store(database: Database) -> FailedItemStore:
    return FailedItemStore(database)


async def ids(store: FailedItemStore, **wanted: Any) -> list[str | None]:
    letters, after = await store.page(DeadFilter(**wanted), limit=100)
    assert after is None
    assert all(letter.step is DeadStep.IMPORT for letter in letters)
    return [letter.external_id for letter in letters]


async def test_products_that_finished_imports_gave_up_are_dead_letters(
    database: Database, store: FailedItemStore
) -> None:
    await record(database, "done", hours_ago=2, provider="one")
    await record(database, "failed", hours_ago=1, provider="two", status="FAILED", company_id="bean")
    await fail(database, "done", "a")
    await fail(database, "done", "b", stage="fetch", reason="ProviderUnavailable")
    await fail(database, "done", "c", stage="image", url="https://a.example/c.jpg", reason="NotFound")
    await fail(database, "failed", "d")
    for job, status in (("waits", "PENDING"), ("runs", "IN_PROGRESS"), ("cancelled", "CANCELLED")):
        await record(database, job, provider=job, status=status)
        await fail(database, job, job)
    await execute(
        database,
        """INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, connection)
        VALUES ('row-b', 'acme', 'b', 'shopify', 'Tea', 'one'), ('row-a', 'acme', 'a', 'roastify', 'Pot', 'other')""",
    )
    assert await ids(store) == ["d", "a", "b"]
    letters, _ = await store.page(DeadFilter(job="done"), limit=100)
    assert [(each.product_id, each.title, each.retryable, each.reason) for each in letters] == [
        (None, None, False, "InvalidField"),
        ("row-b", "Tea", True, "ProviderUnavailable"),
    ]
    assert await ids(store, company="bean") == ["d"]
    assert await ids(store, reason="InvalidField") == ["d", "a"]
    assert await ids(store, product="b") == await ids(store, product="row-b") == ["b"]
    assert await ids(store, product="row-b", company="bean") == []
    assert await ids(store, namespace="another") == []
    assert await ids(store, namespace="imports", job="done") == ["a", "b"]
    (letter,) = [each for each in letters if each.external_id == "a"]
    assert await ids(store, until=letter.died_at) == ["a", "b"]
    assert await store.of_jobs(["done", "failed", "runs"]) == {"done": 2, "failed": 1}
    reasons = await store.reasons(DeadFilter())
    assert [(row.reason, row.count, row.retryable) for row in reasons.reasons] == [
        ("InvalidField", 2, False),
        ("ProviderUnavailable", 1, True),
    ]


@pytest.mark.parametrize(
    ("later", "stays"),
    [
        ({}, False),
        ({"status": "FAILED"}, True),
        ({"status": "IN_PROGRESS"}, True),
        ({"provider": "another"}, True),
        ({"spec": {"filter": {"status": "active"}}}, True),
        ({"namespace": "another", "origin": None}, True),
    ],
)
async def test_what_a_later_import_has_read_anew_is_that_one_s(
    database: Database, store: FailedItemStore, later: dict[str, Any], stays: bool
) -> None:
    await record(database, "first", hours_ago=2)
    await fail(database, "first", "a")
    await record(database, "second", hours_ago=1, **later)
    assert await ids(store) == (["a"] if stays else [])
    found = await store.read("first", "a")
    assert found is not None
    assert found[1].is_old is not stays
    assert (await store.of_jobs(["first"]))["first"] == int(stays)


async def test_the_later_one_is_found_among_many_of_the_company_s_other_connections(
    database: Database, store: FailedItemStore
) -> None:
    await record(database, "first", hours_ago=100)
    await fail(database, "first", "a")
    for hours_ago in range(30, 30 + LATER + 1):
        await record(database, f"other-{hours_ago}", hours_ago=hours_ago, provider="another")
    assert await ids(store) == ["a"]
    await record(database, "second", hours_ago=1)
    assert await ids(store) == []


async def test_an_import_of_changes_alone_or_one_that_ended_before_a_retry_does_not_count(
    database: Database, store: FailedItemStore
) -> None:
    await record(database, "first", hours_ago=2)
    await fail(database, "first", "a")
    await record(database, "second", hours_ago=1)
    await execute(
        database,
        """INSERT INTO imports.checkpoint (job_id, version, progress, pages, reimport)
        VALUES ('second', 1, '{}', 1, '{"since": "2026-01-01T00:00:00Z"}')""",
    )
    assert await ids(store) == ["a"]
    await execute(database, """UPDATE imports.checkpoint SET reimport = '{"since": null}'""")
    assert await ids(store) == []
    await execute(
        database, """UPDATE "ProductImportJob" SET "completedAt" = clock_timestamp() WHERE id = 'first'"""
    )
    assert await ids(store) == ["a"]


async def test_a_discarded_one_stays_among_the_errors_and_no_retry_asks_for_it(
    database: Database, store: FailedItemStore
) -> None:
    await record(database, "done")
    await fail(database, "done", "a")
    await fail(database, "done", "b")
    letters, _ = await store.page(DeadFilter(), limit=10)
    assert await store.discard(letters[:1], by="ada") == (1, set())
    assert await store.discard(letters[:1], by="ada") == (0, set())
    assert await ids(store) == ["b"]
    rows = await execute(
        database, "SELECT external_id, stage, message FROM imports.item_error ORDER BY external_id"
    )
    assert rows == [("a", "discarded", "no number (discarded by ada)"), ("b", "map", "no number")]
    failed = await CatalogueStore(database).failed_products("done", after="", limit=10)
    assert [each.external_id for each in failed] == ["b"]
    assert await ReopeningStore(database).retry_items({"done": "1"}) == ["done"]
    await execute(database, """UPDATE "ProductImportJob" SET status = 'COMPLETED'""")
    assert await store.discard(letters[1:], by="ada") == (1, set())
    assert await ReopeningStore(database).retry_items({"done": "2"}) == [], "there is none but discarded ones"


async def test_what_an_import_that_runs_again_has_is_not_discarded(
    database: Database, store: FailedItemStore
) -> None:
    await record(database, "done")
    await fail(database, "done", "a")
    letters, _ = await store.page(DeadFilter(), limit=10)
    await execute(database, """UPDATE "ProductImportJob" SET status = 'PENDING'""")
    assert await store.discard(letters, by="ada") == (0, {"done"})
    acted = await DeadLetters(database, NoKube, namespace="imports").act(
        LetterAction.DISCARD, letters[0], by="ada", note=lambda _: None
    )
    assert (acted.changed, acted.skipped) == (0, 1)
    assert "object-done is under way" in (acted.why or "")
    found = await store.read("done", "a", namespace="imports")
    assert found is not None
    assert found[1].state is JobState.PENDING
    assert await store.read("done", "a", namespace="another") is None
    assert await store.read("done", "b") is None


async def test_a_retry_counts_no_more_of_an_import_than_a_page_and_goes_on_behind_it(
    database: Database, store: FailedItemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "ITEMS_EXAMINED", 50)
    for hours_ago, job_id in enumerate(("large", "small")):
        await record(database, job_id, hours_ago=hours_ago, provider=job_id, origin=None)
    await fail(database, "small", "a")
    await execute(
        database,
        """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message)
        SELECT 'large', n, 'map', 'InvalidField', 'no number' FROM generate_series(1, 400) n""",
    )
    letters = DeadLetters(database, NoKube, namespace="imports")
    acted = await letters.act_on_all(
        LetterAction.RETRY, DeadFilter(step=DeadStep.IMPORT), by="ada", note=lambda _: None, most=1_000
    )
    assert (acted.changed, acted.skipped, acted.next) == (BATCH + 50 + 1, 0, None)
    assert await ids(store) == []
    rows = await execute(database, 'SELECT id, status, "itemsOnly" FROM "ProductImportJob" ORDER BY id')
    assert rows == [("large", "PENDING", True), ("small", "PENDING", True)]
