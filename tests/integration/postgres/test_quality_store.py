"""Decisions in PostgreSQL: a person's word stays, the queue of flagged products, and the day's budget."""

import asyncio
from typing import Any

import pytest

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.quality import (
    DayBudget,
    Decided,
    FlaggedFilter,
    QualityStore,
    ReviewItem,
    write_decisions,
)
from import_core.domain.errors import HandBackError
from import_core.domain.quality import DecidedBy, Decision, Reason, Verdict

APPROVED = Decision(Verdict.APPROVED, DecidedBy.MODEL)
REJECTED = Decision(Verdict.REJECTED, DecidedBy.RULES, (Reason("TitleMissing", "The title is missing."),))
FLAGGED = Decision(Verdict.FLAGGED, DecidedBy.MODEL, (Reason("Spam", "No product."),))


async def sql(database: Database, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    async with database.connection() as connection:
        cursor = await connection.execute(statement, parameters or None)
        return await cursor.fetchall() if cursor.description else []


async def products(database: Database, *ids: str, company: str = "acme") -> None:
    for product_id in ids:
        await sql(
            database,
            """INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title)
            VALUES (%s, %s, %s, 'shopify', %s)""",
            *(product_id, company, product_id, f"The {product_id}"),
        )


async def write(database: Database, *decided: tuple[str, str, Decision], company: str = "acme") -> None:
    async with database.transaction() as connection:
        await write_decisions(
            connection, [Decided(one, company, state, what) for one, state, what in decided]
        )


async def one(database: Database, product_id: str) -> ReviewItem:
    (item,) = await QualityStore(database).find([product_id])
    return item


async def test_each_state_has_one_decision_and_the_newest_counts(database: Database) -> None:
    await products(database, "a", "b")
    await write(database, ("b", "h1", FLAGGED), ("a", "h1", APPROVED))
    assert (await one(database, "a")).verdict is Verdict.APPROVED
    flagged_at = (await one(database, "b")).flagged_at
    # Flagged again, in another state: it still waits since the first time.
    await write(database, ("b", "h2", FLAGGED))
    assert (await one(database, "b")).flagged_at == flagged_at
    await write(database, ("b", "h3", REJECTED))
    found = await one(database, "b")
    assert (found.verdict, found.flagged_at, found.reasons) == (Verdict.REJECTED, None, REJECTED.reasons)


async def test_a_persons_word_on_a_state_stays_and_holds_again_when_it_comes_back(database: Database) -> None:
    store = QualityStore(database)
    await products(database, "a")
    await write(database, ("a", "h1", FLAGGED))
    (change,) = await store.decide([("a", "h1")], verdict=Verdict.APPROVED, person="ada", note="fine")
    assert (change.before, change.after, change.company_id) == (Verdict.FLAGGED, Verdict.APPROVED, "acme")
    # A worker that began before the person decided ends after it.
    with pytest.raises(HandBackError):
        await write(database, ("a", "h1", REJECTED))
    await write(database, ("a", "h1", APPROVED))
    found = await one(database, "a")
    assert (found.verdict, found.person, found.note) == (Verdict.APPROVED, "ada", "fine")
    # Another state is another question, and the old state the old answer.
    assert await store.by_people([("a", "h2")]) == {}
    await write(database, ("a", "h2", REJECTED))
    assert (await one(database, "a")).verdict is Verdict.REJECTED
    word = (await store.by_people([("a", "h1"), ("other", "h1")]))["a"]
    assert (word.decision.verdict, word.person, word.note) == (Verdict.APPROVED, "ada", "fine")


async def test_a_person_decides_only_on_what_was_seen(database: Database) -> None:
    store = QualityStore(database)
    await products(database, "a", "b")
    await write(database, ("a", "h2", FLAGGED), ("b", "h1", FLAGGED))
    changes = await store.decide(
        [("a", "h1"), ("b", "h1"), ("unknown", "h1")], verdict=Verdict.REJECTED, person="ada"
    )
    assert [change.product_id for change in changes] == ["b"]
    assert (await one(database, "a")).verdict is Verdict.FLAGGED
    assert await store.decide([("b", "h1")], verdict=Verdict.REJECTED, person="bob") == []
    assert (await one(database, "b")).person == "ada"
    with pytest.raises(ValueError):
        await store.decide([("b", "h1")], verdict=Verdict.FLAGGED, person="bob")


async def test_flagged_products_come_in_the_order_of_waiting_page_by_page(database: Database) -> None:
    store = QualityStore(database)
    names = [f"p{number}" for number in range(5)]
    await products(database, *names)
    await products(database, "theirs", company="theirs")
    await write(database, *((name, "h", FLAGGED) for name in names))
    await write(database, ("theirs", "h", REJECTED), company="theirs")
    await sql(
        database,
        "UPDATE imports.quality_decision SET flagged_at = now() - interval '1 h' WHERE product_id = 'p3'",
    )
    # The platform deleted one meanwhile.
    await sql(database, """DELETE FROM "Product" WHERE id = 'p1'""")
    wanted, seen, last = FlaggedFilter(await store.now()), [], None
    while page := await store.flagged(wanted, after=last, limit=2):
        seen += [item.product_id for item in page]
        last = page[-1]
    assert seen == ["p3", "p0", "p2", "p4"]
    assert [
        item.product_id for item in await store.flagged(FlaggedFilter(wanted.before, reason="Spam"))
    ] == seen
    assert await store.flagged(FlaggedFilter(wanted.before, reason="Other")) == []
    assert await store.flagged(FlaggedFilter(wanted.before, company="theirs")) == []


async def test_the_queue_of_a_person_is_read_by_its_index(database: Database) -> None:
    await sql(
        database,
        """INSERT INTO imports.quality_decision (product_id, company_id, content_hash, decision, decided_by, flagged_at)
        SELECT 'p' || n, 'c' || n % 100, 'h', CASE WHEN n % 50 = 0 THEN 'flagged' ELSE 'approved' END, 'rules',
            CASE WHEN n % 50 = 0 THEN now() END FROM generate_series(1, 20000) n""",
    )
    await sql(database, "ANALYZE imports.quality_decision")
    for extra in ("", "AND d.company_id = 'c50'"):
        plan = await sql(
            database,
            f"""EXPLAIN SELECT product_id FROM imports.quality_decision d WHERE d.decision = 'flagged' {extra}
            AND (d.flagged_at, d.product_id) > ('-infinity', '') ORDER BY d.flagged_at, d.product_id LIMIT 100""",
        )
        text = "\n".join(row[0] for row in plan)
        assert "quality_decision_flagged" in text, text
        assert "Sort" not in text, text


async def test_a_days_budget_is_exact_over_all_workers_and_ends_with_the_day(database: Database) -> None:
    async def take() -> float | None:
        try:
            await DayBudget(database, purpose="tests", most=7).take()
        except HandBackError as error:
            return error.retry_after
        return None

    ends = await asyncio.gather(*(take() for _ in range(20)))
    waits = [end for end in ends if end is not None]
    assert len(waits) == 13
    assert all(0 < wait <= 86_400 for wait in waits)
    await sql(database, "UPDATE imports.model_budget SET day = day - 61")
    assert await take() is None
    assert await sql(database, "SELECT calls FROM imports.model_budget") == [(1,)]
    assert await DayBudget(database, purpose="other", most=1).take() is None
