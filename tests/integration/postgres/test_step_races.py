"""Pages, ends of batches, a person's retries and suspensions at the same time: nobody waits for ever, none is lost."""

import asyncio
import contextlib
import random
from typing import Any

import pytest
from postgres_rows import execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite, ProductWrite
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.dead_letters import DeadLetterStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.postgres.step_control import StepControl
from import_core.adapters.postgres.steps import StepStore
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.domain.dead_letters import DeadFilter
from import_core.domain.errors import ClaimLostError
from import_core.domain.jobs import Checkpoint, Claim, JobState, Message, Progress
from import_core.domain.notifications import Endpoint
from import_core.domain.products import MappedProduct, content_hash
from import_core.domain.steps import (
    STEPS_IN_ORDER,
    StepDone,
    StepFailed,
    StepKind,
    StepOutcome,
    StepState,
    end_batch,
)

PRODUCTS = [f"p-{number}" for number in range(12)]
SIZES = dict.fromkeys(StepKind, 4)
HAND_OVER = """
UPDATE "ProductImportJob" SET dispatch = dispatch + 1, "dispatchedAt" = now(), "notBefore" = NULL
WHERE id = (
    SELECT id FROM "ProductImportJob"
    WHERE "parentId" IS NOT NULL AND status = 'PENDING' AND "dispatchedAt" IS NULL AND suspended IS NOT TRUE
    ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, dispatch, queue
"""
OPEN = "SELECT count(*) FROM imports.product_step WHERE state IN ('Due', 'Waiting', 'Dead', 'Halted')"

CANCELLED_OF_OTHERS = """
SELECT product_id, step, job_id FROM imports.product_step WHERE state = 'Cancelled' AND job_id <> 'job-0'
"""


async def commit(database: Database, claim: Claim, chance: random.Random, title: str) -> None:
    names = chance.sample(PRODUCTS, 6)
    products = [MappedProduct(external_id=name, title=title) for name in names]
    page = PageWrite(
        *(
            "shopify",
            names,
            [ProductWrite(product, content_hash(product, ())) for product in products],
            [],
            [],
        ),
        checkpoint=Checkpoint(None, Progress(), 1),
    )
    await CatalogueStore(database, batch_sizes=SIZES).commit_page(claim, page)


async def take_one(database: Database, chance: random.Random, *, failing: float) -> bool:
    """Take one batch of any step, with some failures; False where none waits."""
    rows = await execute(database, HAND_OVER)
    if not rows:
        return False
    ((job_id, dispatch, queue),) = rows
    claim = await ClaimStore(database).claim(Message(job_id, dispatch), worker_id="worker")
    if claim is None:
        return True  # cancelled or suspended since
    store, kind = StepStore(database, sizes=SIZES), StepKind(queue)
    batch = await store.read(job_id, kind)
    outcomes: list[StepOutcome] = []
    for product in batch.products:
        if chance.random() < failing:
            retryable = chance.random() < 0.5
            outcomes.append(StepFailed(product.product_id, "Unlucky", "bad luck", retryable=retryable))
        else:
            outcomes.append(StepDone(product.product_id))
    done = [outcome.product_id for outcome in outcomes if isinstance(outcome, StepDone)]

    async def write(connection: Connection) -> None:
        # As quality control may: the product's own row.
        await connection.execute("""UPDATE "Product" SET vendor = %s WHERE id = ANY(%s)""", (queue, done))

    await asyncio.sleep(chance.random() * 0.01)
    # Its import may have been cancelled or suspended meanwhile.
    with contextlib.suppress(ClaimLostError):
        await store.end(claim, batch, end_batch(batch.rows, outcomes, spread=0.5), write=write)
    return True


async def retry_all(database: Database) -> None:
    letters = DeadLetterStore(database)
    found, _ = await letters.page(DeadFilter())
    await letters.change(found, StepState.DUE)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_product_is_done_in_its_last_state(database: Database, claimed: Any, seed: int) -> None:
    chance = random.Random(seed)
    enrich = {"embedding": True, "qualityControl": True, "index": True}
    spec = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}, "enrich": enrich}
    # Whoever is told of ends takes locks, too.
    endpoint = Endpoint("acme-shopify", "u", "acme", "https://a.example", "hooks", ["catalogue.live"])
    await WebhookStore(database, namespace="imports").put(endpoint)
    imports = [await claimed(f"job-{number}", spec=spec) for number in range(2)]
    # One that has ended is suspended and goes on again, while the others ask for its products.
    held = await claimed("job-held", spec=spec)
    await commit(database, held, chance, "held")
    await ClaimStore(database).finish(held, JobState.COMPLETED, reason=None, message=None)
    ended = asyncio.Event()

    async def importer(claim: Claim, name: str) -> None:
        for number in range(12):
            await commit(database, claim, chance, f"{name} {number}")
            await asyncio.sleep(0)

    async def taker() -> None:
        while not ended.is_set():
            if not await take_one(database, chance, failing=0.3):
                await asyncio.sleep(0.005)

    async def person() -> None:
        while not ended.is_set():
            await retry_all(database)
            await asyncio.sleep(0.02)

    async def holder() -> None:
        control, suspended = StepControl(database), False
        while suspended or not all(task.done() for task in importers):
            suspended = not suspended
            await control.hold({"job-held": suspended})
            await asyncio.sleep(0.01)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(taker())
        group.create_task(person())
        importers = [group.create_task(importer(claim, claim.job.id)) for claim in imports]
        holding = group.create_task(holder())
        await asyncio.wait([*importers, holding])
        # An import that is cancelled in the middle takes only its own steps with it.
        await JobStore(database).cancel(["job-0"], message="cancelled")
        ended.set()
    assert await execute(database, CANCELLED_OF_OTHERS) == []
    again = imports[1]
    everything = [MappedProduct(external_id=name, title="The last") for name in PRODUCTS]
    page = PageWrite(
        *(
            "shopify",
            PRODUCTS,
            [ProductWrite(product, content_hash(product, ())) for product in everything],
            [],
            [],
        ),
        checkpoint=Checkpoint(None, Progress(), 1),
    )
    await CatalogueStore(database, batch_sizes=SIZES).commit_page(again, page)
    async with asyncio.timeout(60):
        while (await execute(database, OPEN)) != [(0,)]:
            await retry_all(database)
            while await take_one(database, chance, failing=0.0):
                pass
    states = await execute(
        database,
        """SELECT step, state, content_hash = done_hash, batch_id, count(*) FROM imports.product_step
        GROUP BY 1, 2, 3, 4""",
    )
    assert sorted(states) == sorted(
        (kind.value, "Done", True, None, len(PRODUCTS)) for kind in STEPS_IN_ORDER
    )
    left = await execute(
        database,
        """SELECT count(*) FROM "ProductImportJob"
        WHERE "parentId" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')""",
    )
    assert left == [(0,)]
