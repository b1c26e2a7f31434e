"""Dead letters are read by index and in bounded numbers, whatever is chosen, among 120,000 and 20,000 imports."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from filled_databases import filled_database, nodes

from import_core.adapters.dead_letters import DeadLetters
from import_core.adapters.kube.resources import Kind
from import_core.adapters.postgres import Database, dead_letters, failed_items
from import_core.adapters.postgres.dead_letter_choice import OF_ANY_COMPANY, OF_COMPANY, choice_of
from import_core.adapters.postgres.dead_letters import NEWEST, DeadLetterStore, statement_of
from import_core.adapters.postgres.failed_item_choice import EXAMINED, LATER, items_choice
from import_core.adapters.postgres.failed_items import NEWEST_ITEM, FailedItemStore
from import_core.domain.dead_letters import DeadFilter, DeadStep
from import_local.parts.postgres import PostgresServer

DEAD = 120_000
COMPANIES = 200
OF_A_COMPANY = DEAD // COMPANIES
JOBS = 20_000
OF_A_JOB = DEAD // 1_000
ITEMS = 3 * JOBS // 10
FILL = f"""
INSERT INTO imports.product_step
    (product_id, step, company_id, job_id, content_hash, state, attempts, retryable, reason, message, updated_at)
SELECT 'p' || n, 'generate-embedding', 'company-' || n % {COMPANIES}, 'job-' || n % 1000, 'h',
    CASE WHEN n <= {DEAD} THEN 'Dead' ELSE 'Done' END, 4, true,
    CASE WHEN n = {DEAD} THEN 'Rare' WHEN n % 2 = 0 THEN 'Timeout' ELSE 'NothingToEmbed' END, 'm',
    now() - n * interval '1 second'
FROM generate_series(1, {2 * DEAD}) n;
INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, connection)
SELECT 'p' || n, 'company-' || n % {COMPANIES}, 'x' || n, 'shopify', 'Tea', 'shop' FROM generate_series(1, {DEAD}) n;
INSERT INTO "ProductImportJob"
    (id, "companyId", provider, status, namespace, "createdAt", "updatedAt", "completedAt")
SELECT 'job-' || n, 'company-' || n % {COMPANIES}, 'shop-' || n, CASE WHEN n % 7 = 0 THEN 'FAILED' ELSE 'COMPLETED' END,
    'imports', now() - n * interval '1 minute', now() - n * interval '1 minute', now() - n * interval '1 minute'
FROM generate_series(1, {JOBS}) n;
INSERT INTO imports.item_error (job_id, external_id, stage, url, reason, message)
SELECT 'job-' || 10 * n, 'item-' || i, CASE WHEN i <= 3 THEN 'map' ELSE 'image' END,
    CASE WHEN i <= 3 THEN '' ELSE 'https://a.example/' || i END, 'InvalidField', 'm'
FROM generate_series(1, {JOBS // 10}) n, generate_series(1, 23) i;
"""
TABLES = {"product_step", "Product", "ProductImportJob", "item_error"}

# What is chosen, and how many dead steps a page of 50 and the reasons may read of it.
STEPS = {
    "all": (DeadFilter(), 100, DEAD),
    "a namespace's": (DeadFilter(namespace="imports"), 100, DEAD),
    "a company's": (DeadFilter(company="company-7"), 100, OF_A_COMPANY),
    "a company's, of a rare reason": (DeadFilter(company="company-7", reason="Rare"), 100, OF_A_COMPANY),
    "of a reason": (DeadFilter(reason="Timeout", namespace="imports"), 100, DEAD),
    "a job's": (DeadFilter(job="job-9", namespace="imports"), OF_A_JOB, OF_A_JOB),
    "a product's, by its row": (DeadFilter(product="p9"), 1, 1),
    "a product's, by its source": (DeadFilter(product="x9", namespace="imports"), 1, 1),
    "a product's of a company": (DeadFilter(product="x9", company="company-9"), 1, 1),
    "of another step": (DeadFilter(step=DeadStep.INDEX), 100, DEAD),
}
IMPORTS = {
    "all": DeadFilter(),
    "a namespace's": DeadFilter(namespace="imports"),
    "a company's": DeadFilter(company="company-10", reason="InvalidField"),
    "a job's": DeadFilter(job="job-10"),
    "a product's": DeadFilter(product="item-1"),
    "a product's, by its row": DeadFilter(product="p10"),
}


class NoKube:
    """Nothing is asked of the API server by who only looks."""

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        raise AssertionError(name)

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None], *, uid: str
    ) -> None:
        raise AssertionError(name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def many(postgres_server: PostgresServer, migrated_template: str) -> AsyncIterator[Database]:
    """A database with very many dead letters, analysed."""
    async with filled_database(postgres_server, migrated_template, FILL) as database:
        yield database


async def explain(
    database: Database, statement: str, values: Mapping[str, Any], options: str
) -> list[Mapping[str, Any]]:
    """How the tables, and indexes ahead of them, are read."""
    async with database.connection() as connection:
        cursor = await connection.execute(f"EXPLAIN ({options}, FORMAT JSON) {statement}", values)
        row = await cursor.fetchone()
    assert row is not None
    return [
        node
        for node in nodes(row[0][0]["Plan"])
        if node.get("Relation Name") in TABLES or node["Node Type"] == "Bitmap Index Scan"
    ]


async def check(database: Database, statement: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Rows read of each table and, ahead of it, of an index, whether the server knows the parameters or not."""
    numbers: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        return f"${numbers.setdefault(match.group(1), len(numbers) + 1)}"

    generic = await explain(database, re.sub(r"%\((\w+)\)s", numbered, statement), {}, "GENERIC_PLAN")
    scans = await explain(database, statement, values, "ANALYZE, TIMING OFF")
    for node in (*generic, *scans):
        assert node["Node Type"] != "Seq Scan", (node["Relation Name"], statement)
    read: dict[str, float] = {}
    for node in scans:
        rows = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        name = node.get("Relation Name") or node["Index Name"]
        read[name] = read.get(name, 0) + rows
    return read


@pytest.mark.parametrize("name", STEPS)
async def test_dead_steps_are_read_by_index_and_no_further_than_needed(many: Database, name: str) -> None:
    wanted, of_page, of_reasons = STEPS[name]
    async with many.connection() as connection:
        choice = await choice_of(connection, wanted)
    place = {"at": NEWEST.died_at, "product_after": "", "step_after": ""}
    values = {**choice.values, **place, "examined": 50, "limit": 50}
    assert (await check(many, statement_of(dead_letters.DEAD, choice), values))["product_step"] <= of_page
    most = {"examined": dead_letters.COUNTED, "shown": 50}
    values = {**choice.values, **place, **most}
    read = (await check(many, statement_of(dead_letters.REASONS, choice), values))["product_step"]
    assert read <= min(of_reasons, dead_letters.COUNTED)


async def test_a_product_is_looked_up_by_its_id_company_by_company(many: Database) -> None:
    values = {"product": "x9", "company": "company-9"}
    assert await check(many, OF_COMPANY, values) == {"Product": 1}
    read = await check(many, OF_ANY_COMPANY, values)
    assert read["Product"] <= 2
    assert read["product_step"] <= 2 * COMPANIES


@pytest.mark.parametrize("name", IMPORTS)
async def test_what_imports_gave_up_is_read_import_by_import(many: Database, name: str) -> None:
    async with many.connection() as connection:
        choice = await items_choice(connection, IMPORTS[name])
    place = {"before": NEWEST_ITEM.created_at, "before_id": "", "examined": EXAMINED}
    read = (await check(many, choice.imports, {**choice.values, **place}))["ProductImportJob"]
    assert read <= EXAMINED * (LATER + 3)
    jobs = [f"job-{number}" for number in range(1, EXAMINED + 1)]
    same = {"companies": ["company-1"] * len(jobs), "providers": ["shop"] * len(jobs)}
    values = {**choice.values, **same, "jobs": jobs, "afters": [None] * len(jobs), "limit": 50}
    read = (await check(many, choice.items, values))["item_error"]
    assert read <= 23 * len(jobs) / 10
    values |= {"ends": [NEWEST_ITEM.created_at] * len(jobs), "most": dead_letters.COUNTED}
    read = (await check(many, choice.count, values))["item_error"]
    assert read <= 23 * len(jobs) / 10


async def test_a_rare_one_is_found_in_bounded_steps(many: Database) -> None:
    store = DeadLetterStore(many)
    wanted = DeadFilter(reason="Rare", namespace="imports")
    letters, after = await store.page(wanted, limit=50)
    assert letters == []
    assert after is not None
    letters, after = await store.page(wanted, after=after, limit=50)
    assert [letter.product_id for letter in letters] == [f"p{DEAD}"]
    assert after is None


async def test_reasons_say_whether_all_were_counted(many: Database) -> None:
    store = DeadLetterStore(many)
    found = await store.reasons(DeadFilter())
    assert (found.total, found.counted_all, found.more_reasons) == (dead_letters.COUNTED, False, False)
    of_company = await store.reasons(DeadFilter(company="company-7"))
    assert (of_company.total, of_company.counted_all) == (OF_A_COMPANY, True)
    of_imports = await FailedItemStore(many).reasons(DeadFilter(namespace="imports"))
    newest = EXAMINED * failed_items.MOST_STATEMENTS
    assert (of_imports.total, of_imports.counted_all) == (3 * newest // 10, False)
    (reason,) = of_imports.reasons
    assert (reason.reason, reason.retryable) == ("InvalidField", False)
    one = await FailedItemStore(many).reasons(DeadFilter(job="job-10"))
    assert (one.total, one.counted_all) == (3, True)


async def test_the_pages_meet_each_dead_letter_once(many: Database) -> None:
    letters = DeadLetters(many, NoKube, namespace="imports")
    company = DeadFilter(company="company-10")
    pages = [page async for page in letters.pages(company)]
    ids = [letter.id for page in pages for letter in page]
    of_imports = 3 * JOBS // COMPANIES
    assert len(ids) == len(set(ids)) == OF_A_COMPANY + of_imports
    steps = [letter.step for page in pages for letter in page]
    assert steps == [DeadStep.EMBEDDING] * OF_A_COMPANY + [DeadStep.IMPORT] * of_imports
    times = [letter.died_at for page in pages for letter in page]
    assert times[:OF_A_COMPANY] == sorted(times[:OF_A_COMPANY], reverse=True)
    assert times[OF_A_COMPANY:] == sorted(times[OF_A_COMPANY:], reverse=True)
    imports = [letter.id async for page in letters.pages(DeadFilter(step=DeadStep.IMPORT)) for letter in page]
    assert len(imports) == len(set(imports)) == ITEMS
    small, after = await letters.page(DeadFilter(step=DeadStep.IMPORT), limit=2)
    rest, _ = await letters.page(DeadFilter(step=DeadStep.IMPORT), after=after, limit=2)
    assert [letter.external_id for letter in (*small, *rest)] == ["item-1", "item-2", "item-3", "item-1"]
