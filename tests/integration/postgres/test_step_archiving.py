"""Archived products and their steps: they are taken out of the index, and take no other step."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from postgres_rows import execute
from step_products import CHECK, EMBED, INDEX, SIZES, commit, importing, page, states, take, waiting

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import PageWrite
from import_core.adapters.postgres.removals import Owner, RemovalStore
from import_core.adapters.postgres.steps import StepStore
from import_core.domain.jobs import Claim, JobState
from import_core.domain.steps import STEPS_IN_ORDER, StepDone


def of_connection(*names: str) -> PageWrite:
    return replace(page(*names), connection="acme-shopify")


async def archive(database: Database, claim: Claim) -> None:
    """Archive all products of the connection."""
    since, owner = datetime.now(UTC) + timedelta(hours=1), Owner("acme", "shopify", "acme-shopify")
    await RemovalStore(database, batch_sizes=SIZES).archive(claim, owner, since=since, after="", limit=10)


async def test_an_archived_product_is_taken_out_by_the_index_s_step_and_takes_no_other(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, of_connection("done"))
    for kind in STEPS_IN_ORDER:
        await take(database, kind)
    await commit(database, claim, of_connection("under way"))
    await archive(database, claim)
    found = await states(database)
    # Its vectors go, too, and first.
    assert [found["done", kind.value] for kind in STEPS_IN_ORDER] == ["Due", "Done", "Waiting"]
    # It may just be put into the indexes, by a batch that is overtaken.
    assert [found["under way", kind.value] for kind in STEPS_IN_ORDER] == ["Due", "Cancelled", "Waiting"]
    await take(database, EMBED)
    store = StepStore(database, sizes=SIZES)
    batches = [await store.read(job_id, INDEX) for job_id in await waiting(database, INDEX)]
    assert [each.status for batch in batches for each in batch.products] == ["archived"] * 2
    assert set(await take(database, INDEX)) == {JobState.COMPLETED}
    await take(database, EMBED)
    assert await waiting(database, CHECK) == await waiting(database, INDEX) == []


async def test_a_step_that_waits_does_not_keep_an_archived_product_in_the_index(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, of_connection("a"))
    for kind in STEPS_IN_ORDER:
        await take(database, kind)
    await commit(database, claim, replace(page("a", title="Coffee"), connection="acme-shopify"))
    await archive(database, claim)
    await take(database, EMBED)
    assert await take(database, INDEX) == [JobState.COMPLETED]
    found = await states(database)
    assert [found["a", kind.value] for kind in STEPS_IN_ORDER] == ["Done", "Cancelled", "Done"]


async def test_a_product_that_was_never_let_through_is_not_taken_out(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, of_connection("a"))
    await take(database, EMBED)
    await take(database, CHECK, lambda product: StepDone(product, halts=True))
    await archive(database, claim)
    assert await waiting(database, INDEX) == []


async def test_a_product_that_comes_back_takes_its_steps_again(database: Database, claimed: Any) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, of_connection("a"))
    await archive(database, claim)
    await take(database, EMBED)
    await take(database, INDEX)
    await execute(database, """UPDATE "Product" SET status = NULL""")
    await commit(database, claim, of_connection("a"))
    for kind in STEPS_IN_ORDER:
        assert JobState.COMPLETED in await take(database, kind)
    assert set((await states(database)).values()) == {"Done"}
    hashes = await execute(database, "SELECT DISTINCT content_hash = done_hash FROM imports.product_step")
    assert hashes == [(True,)]
