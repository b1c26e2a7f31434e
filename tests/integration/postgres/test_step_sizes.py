"""Products of one step job: as many as the worker's settings say, whoever made the job."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from postgres_rows import execute
from step_products import EMBED, INDEX, SIZES, claim_batch, commit, importing, page, states, take, waiting

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.adapters.postgres.removals import Owner, RemovalStore
from import_core.adapters.postgres.steps import StepStore
from import_core.domain.jobs import JobState
from import_core.domain.steps import StepDone, StepFailed, end_batch


async def test_a_worker_takes_no_more_of_a_batch_than_it_may_and_the_rest_is_due_in_batches_of_that_size(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed, embedding=True)
    await CatalogueStore(database).commit_page(claim, page(*"abcde"))
    (job_id,) = await waiting(database, EMBED)
    step_claim = await claim_batch(database, job_id)
    store = StepStore(database, sizes=SIZES)
    batch = await store.read(job_id, EMBED)
    assert len(batch.rows) == len(batch.products) == SIZES[EMBED]
    end = end_batch(batch.rows, [StepDone(row.product_id) for row in batch.rows], spread=0.5)
    await store.end(step_claim, batch, end)
    assert sorted((await states(database)).values()) == ["Done", "Done", "Due", "Due", "Due"]
    assert [len((await store.read(job, EMBED)).rows) for job in await waiting(database, EMBED)] in (
        [1, 2],
        [2, 1],
    )
    assert await take(database, EMBED) == [JobState.COMPLETED] * 2
    assert set((await states(database)).values()) == {"Done"}


async def test_what_fails_as_a_whole_keeps_the_rest_of_a_batch_that_is_too_large(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed, embedding=True)
    await CatalogueStore(database).commit_page(claim, page(*"abc"))
    ends = [
        await take(database, EMBED, lambda product: StepFailed(product, "Away", "no answer"))
        for _ in range(3)
    ]
    assert ends[0] == [None]
    assert len(await states(database)) == 3
    while await waiting(database, EMBED):
        await take(database, EMBED)
    assert set((await states(database)).values()) == {"Done"}


async def test_archiving_makes_batches_of_the_worker_s_size(database: Database, claimed: Any) -> None:
    claim = await importing(database, claimed, index=True)
    await commit(database, claim, replace(page(*"abc"), connection="acme-shopify"))
    await take(database, INDEX)
    store = RemovalStore(database, batch_sizes={**SIZES, INDEX: 2})
    since, owner = datetime.now(UTC) + timedelta(hours=1), Owner("acme", "shopify", "acme-shopify")
    await store.archive(claim, owner, since=since, after="", limit=10)
    batches = await execute(
        database,
        "SELECT count(*) FROM imports.product_step WHERE state = 'Due' GROUP BY batch_id ORDER BY 1",
    )
    assert batches == [(1,), (2,)]
