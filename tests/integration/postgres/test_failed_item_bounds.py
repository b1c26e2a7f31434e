"""What imports gave up is looked for in bounded steps, also among very many errors that are not meant."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from filled_databases import filled_database
from test_dead_letter_plans import NoKube, check

from import_core.adapters.dead_letters import DeadLetters
from import_core.adapters.postgres import Database, failed_items
from import_core.adapters.postgres.failed_item_choice import EXAMINED, ITEMS_EXAMINED, LATER, items_choice
from import_core.adapters.postgres.failed_items import NEWEST_ITEM, FailedItemStore
from import_core.domain.dead_letters import DeadFilter, DeadStep, LetterAction
from import_local.parts.postgres import PostgresServer

BUSY = 3_000
WIDE = 3
OF_A_WIDE = 4 * ITEMS_EXAMINED
OF_A_PRODUCT = 4
SEVENS = 5_000
# A company with an import an hour, and one of another connection before them; one whose imports failed at many images
# and one product each; one import with seven errors of each product, one of them the product's own.
FILL = f"""
INSERT INTO "ProductImportJob" (id, "companyId", provider, status, namespace, "createdAt", "updatedAt", "completedAt")
SELECT 'busy-' || n, 'busy', 'hourly', 'COMPLETED', 'imports', at, at, at
FROM generate_series(1, {BUSY}) n, LATERAL (SELECT now() - n * interval '1 hour' AS at) t
UNION ALL SELECT 'rare', 'busy', 'rare', 'FAILED', 'imports', at, at, at
FROM (SELECT now() - {BUSY + 1} * interval '1 hour' AS at) t
UNION ALL SELECT 'wide-' || n, 'wide', 'shop-' || n, 'COMPLETED', 'imports', at, at, at
FROM generate_series(1, {WIDE}) n, LATERAL (SELECT now() - n * interval '1 minute' AS at) t
UNION ALL SELECT 'sevens', 'sevens', 'shop', 'COMPLETED', 'imports', now(), now(), now();
INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, connection)
SELECT 'row-' || n, 'busy', 'p' || n, 'shopify', 'Tea', 'hourly' FROM generate_series(1, 10000) n;
INSERT INTO imports.item_error (job_id, external_id, stage, url, reason, message)
SELECT 'wide-' || n, 'p' || i / {OF_A_PRODUCT}, 'image', 'https://a.example/' || i, 'NotFound', 'm'
FROM generate_series(1, {WIDE}) n, generate_series(1, {OF_A_WIDE}) i
UNION ALL SELECT 'wide-' || n, 'q', 'map', '', 'InvalidField', 'm' FROM generate_series(1, {WIDE}) n
UNION ALL SELECT 'busy-' || n, 'p' || i, 'map', '', 'InvalidField', 'm'
FROM generate_series(1, {BUSY}) n, generate_series(1, 3) i
UNION ALL SELECT 'sevens', 'p' || i, 'image', 'https://a.example/' || j, 'NotFound', 'm'
FROM generate_series(1, {SEVENS}) i, generate_series(1, 6) j
UNION ALL SELECT 'sevens', 'p' || i, 'fetch', '', 'Malformed', 'm' FROM generate_series(1, {SEVENS}) i;
"""
OF_WIDE = DeadFilter(company="wide", step=DeadStep.IMPORT)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def wide(postgres_server: PostgresServer, migrated_template: str) -> AsyncIterator[Database]:
    """A database with very many errors of items, analysed."""
    async with filled_database(postgres_server, migrated_template, FILL) as database:
        yield database


async def test_later_imports_of_a_connection_are_found_by_index_among_all_of_the_company_s(
    wide: Database,
) -> None:
    for wanted, most in ((DeadFilter(job="rare"), 2), (DeadFilter(company="busy"), EXAMINED * (LATER + 1))):
        async with wide.connection() as connection:
            choice = await items_choice(connection, wanted)
        place = {"before": NEWEST_ITEM.created_at, "before_id": "", "examined": EXAMINED}
        read = await check(wide, choice.imports, {**choice.values, **place})
        assert read["ProductImportJob"] <= most


async def test_a_statement_looks_at_a_bounded_number_of_errors(wide: Database) -> None:
    async with wide.connection() as connection:
        choice = await items_choice(connection, OF_WIDE)
    jobs = [f"wide-{number}" for number in range(1, WIDE + 1)]
    same = {"companies": ["wide"] * WIDE, "providers": ["shop"] * WIDE, "afters": [None] * WIDE}
    values = {**choice.values, "jobs": jobs, **same, "limit": 50}
    for after in (None, "p10", "p7777"):
        read = await check(wide, choice.items, {**values, "afters": [after, *[None] * (WIDE - 1)]})
        assert read["item_error"] <= ITEMS_EXAMINED + OF_A_PRODUCT
        assert "item_error_job" not in read
    values = {**choice.values, "jobs": jobs, "ends": [NEWEST_ITEM.created_at] * WIDE, "most": 1_000}
    read = await check(wide, choice.count, values)
    assert read["item_error"] <= 1_000
    assert "item_error_job" not in read


async def test_a_page_is_short_where_enough_was_looked_at_and_the_next_goes_on(
    wide: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_items, "MOST_STATEMENTS", 1)
    store = FailedItemStore(wide)
    letters, after = await store.page(OF_WIDE, limit=50)
    assert letters == []
    found, pages = [], 1
    while after is not None:
        letters, after = await store.page(OF_WIDE, after=after, limit=50)
        found += letters
        pages += 1
    assert [(each.job_id, each.external_id) for each in found] == [
        (f"wide-{number}", "q") for number in range(1, WIDE + 1)
    ]
    assert pages >= WIDE * OF_A_WIDE / ITEMS_EXAMINED


async def test_each_product_is_met_once_also_where_a_statement_stops_among_its_errors(wide: Database) -> None:
    store = FailedItemStore(wide)
    for limit in (3 * SEVENS, 700):
        letters, after = await store.page(DeadFilter(job="sevens"), limit=limit)
        while after is not None:
            more, after = await store.page(DeadFilter(job="sevens"), after=after, limit=limit)
            letters += more
        assert len(letters) == len({each.external_id for each in letters}) == SEVENS
        assert {each.reason for each in letters} == {"Malformed"}


async def test_reasons_say_so_where_they_stop(wide: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = await FailedItemStore(wide).reasons(DeadFilter(job="sevens"))
    assert (all_of_them.total, all_of_them.counted_all) == (SEVENS, True)
    monkeypatch.setattr(failed_items, "COUNTED", OF_A_WIDE + 2)
    some = await FailedItemStore(wide).reasons(OF_WIDE)
    assert (some.total, some.counted_all) == (1, False)


async def test_an_action_ends_with_a_page_that_is_short_and_goes_on_from_there(
    wide: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_items, "MOST_STATEMENTS", 1)
    letters = DeadLetters(wide, NoKube, namespace="imports")
    wanted = DeadFilter(company="wide", step=DeadStep.IMPORT, reason="Rare")
    calls, after = 0, None
    while calls == 0 or after is not None:
        acted = await letters.act_on_all(
            LetterAction.DISCARD, wanted, by="ada", note=lambda _: None, most=1_000, after=after
        )
        assert (acted.changed, acted.skipped) == (0, 0)
        calls, after = calls + 1, acted.next
    assert calls >= 3
