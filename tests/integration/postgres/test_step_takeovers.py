"""Two imports that ask for steps of the same products: each gets its own, and is told of it, whoever's batch it was."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from eventually import eventually
from postgres_rows import NAMESPACE, execute
from step_products import CHECK, EMBED, INDEX, claim_batch, commit, importing, page, states, take, waiting

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.dead_letters import DeadFilter, DeadLetterStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.adapters.postgres.step_control import StepControl, suspend_steps
from import_core.adapters.postgres.steps import StepStore
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.domain.jobs import JobState
from import_core.domain.notifications import Endpoint
from import_core.domain.steps import STEPS_IN_ORDER, StepDone, StepFailed, StepKind, StepOutcome, StepState


async def test_a_step_of_an_earlier_import_is_taken_with_the_content_of_a_later_one(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed, embedding=True), page("a"))
    second = await importing(database, claimed, "job-2", qualityControl=True, index=True)
    await commit(database, second, page("a", title="Coffee"))
    for kind in STEPS_IN_ORDER:
        assert await take(database, kind) == [JobState.COMPLETED]
    assert set((await states(database)).values()) == {"Done"}
    hashes = await execute(database, "SELECT DISTINCT content_hash = done_hash FROM imports.product_step")
    assert hashes == [(True,)]


async def test_cancelling_an_import_leaves_the_steps_of_another_that_has_taken_them_over(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed), page("a", "b"))
    second = await importing(database, claimed, "job-2", embedding=True, index=True)
    await commit(database, second, page("a"))
    (first,) = await waiting(database, EMBED)
    await JobStore(database).cancel(["job-1"], message="deleted")
    found = await states(database)
    assert [found["a", kind.value] for kind in STEPS_IN_ORDER] == ["Due", "Cancelled", "Waiting"]
    assert {found["b", kind.value] for kind in STEPS_IN_ORDER} == {"Cancelled"}
    (again,) = await waiting(database, EMBED)
    assert again != first
    assert await execute(
        database, """SELECT "parentId" FROM "ProductImportJob" WHERE id = %s""", (again,)
    ) == [("job-2",)]
    await take(database, EMBED)
    await take(database, INDEX)
    found = await states(database)
    assert [found["a", kind.value] for kind in STEPS_IN_ORDER] == ["Done", "Cancelled", "Done"]


async def test_a_step_that_waited_for_a_cancelled_one_of_another_import_goes_on(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed, embedding=True, qualityControl=True), page("a"))
    await commit(database, await importing(database, claimed, "job-2", index=True), page("a"))
    await take(database, EMBED)
    assert await waiting(database, INDEX) == []
    await JobStore(database).cancel(["job-1"], message="deleted")
    assert await take(database, INDEX) == [JobState.COMPLETED]
    assert await states(database) == {
        ("a", EMBED.value): "Done",
        ("a", CHECK.value): "Cancelled",
        ("a", INDEX.value): "Done",
    }


@pytest.mark.parametrize("fails", [False, True])
async def test_a_batch_whose_import_is_cancelled_meanwhile_keeps_what_others_ask_for(
    database: Database, claimed: Any, fails: bool
) -> None:
    await commit(database, await importing(database, claimed), page("a", "b"))
    await commit(database, await importing(database, claimed, "job-2", embedding=True, index=True), page("a"))
    await execute(database, """UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = 'job-1'""")

    def judge(product_id: str) -> StepOutcome:
        return StepFailed(product_id, "Away", "no answer") if fails else StepDone(product_id)

    await take(database, EMBED, judge)
    if fails:
        (job_id,) = await waiting(database, EMBED)
        assert len((await StepStore(database).read(job_id, EMBED)).rows) == 1
        await take(database, EMBED)
    await take(database, INDEX)
    found = await states(database)
    assert [found["a", kind.value] for kind in STEPS_IN_ORDER] == ["Done", "Cancelled", "Done"]
    assert found["b", CHECK.value] == found["b", INDEX.value] == "Cancelled"
    assert [await waiting(database, kind) for kind in STEPS_IN_ORDER] == [[], [], []]


WAITING_FOR_A_LOCK = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def suspend(database: Database, job_id: str = "job-1") -> None:
    """As a person does; the ImportJob itself has ended."""
    await execute(database, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id = %s""", (job_id,))
    await StepControl(database).hold({job_id: True})


async def batches(database: Database, kind: StepKind = EMBED) -> list[tuple[Any, ...]]:
    """Products, owner and suspension of each open batch."""
    return await execute(
        database,
        """SELECT array_agg(p."externalId" ORDER BY p."externalId"), b."parentId", b.suspended
        FROM imports.product_step s JOIN "Product" p ON p.id = s.product_id
        JOIN "ProductImportJob" b ON b.id = s.batch_id
        WHERE s.step = %s AND b.status = 'PENDING' GROUP BY b.id, b."parentId", b.suspended ORDER BY 1""",
        (kind.value,),
    )


async def test_suspending_an_import_frees_what_another_asks_for(database: Database, claimed: Any) -> None:
    await commit(database, await importing(database, claimed), page("a", "b"))
    await commit(database, await importing(database, claimed, "job-2", embedding=True), page("a"))
    assert await batches(database) == [(["a", "b"], "job-1", False)]
    await suspend(database)
    assert await batches(database) == [(["a"], "job-2", False), (["b"], "job-1", True)]
    await StepControl(database).hold({"job-1": False})
    for kind in STEPS_IN_ORDER:
        await take(database, kind)
    assert set((await states(database)).values()) == {"Done"}


async def test_what_is_asked_for_while_another_import_is_suspended_does_not_wait_for_it(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed), page("a", "b"))
    await suspend(database)
    await commit(database, await importing(database, claimed, "job-2", embedding=True), page("a"))
    assert await batches(database) == [(["a"], "job-2", False), (["b"], "job-1", True)]


async def test_what_two_suspended_imports_ask_for_is_held_for_the_later_one(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed, embedding=True), page("a", "b"))
    await commit(database, await importing(database, claimed, "job-2", embedding=True), page("a"))
    await suspend(database, "job-2")
    assert await batches(database) == [(["a", "b"], "job-1", False)]
    await suspend(database)
    assert await batches(database) == [(["a"], "job-2", True), (["b"], "job-1", True)]
    await StepControl(database).hold({"job-2": False})
    assert await batches(database) == [(["a"], "job-2", False), (["b"], "job-1", True)]


async def test_who_asks_for_a_product_while_its_batch_is_being_suspended_gets_it(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed, embedding=True), page("a", "b"))
    second = await importing(database, claimed, "job-2", embedding=True)
    asking, holding = asyncio.Event(), asyncio.Event()

    async def suspending() -> None:
        async with database.transaction() as connection:
            await suspend_steps(connection, ["job-1"])
            asking.set()
            await holding.wait()

    async def ask() -> None:
        await asking.wait()
        await commit(database, second, page("a"))

    async def let_go_once_somebody_waits() -> None:
        await eventually(
            lambda: execute(database, WAITING_FOR_A_LOCK),
            seconds=10,
            what="the page waits for the suspension",
        )
        holding.set()

    async with asyncio.TaskGroup() as group:
        for act in (suspending, ask, let_go_once_somebody_waits):
            group.create_task(act())
    assert await batches(database) == [(["a"], "job-2", False), (["b"], "job-1", True)]


async def test_a_deleted_import_is_found_though_its_products_are_in_another_one_s_batches_alone(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed, embedding=True), page("a", "b"))
    await commit(database, await importing(database, claimed, "job-2", embedding=True, index=True), page("a"))
    await execute(
        database, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id IN ('job-1', 'job-2')"""
    )
    origins = OriginStore(database)

    async def unfinished(namespace: str = NAMESPACE) -> list[str]:
        pages = origins.unfinished(namespace, recorded_before=await origins.now())
        return [job_id async for page in pages for job_id in page]

    assert await unfinished() == ["job-1", "job-2"]
    assert await unfinished("another") == []
    await JobStore(database).cancel(["job-2"], message="deleted while no operator ran")
    assert await unfinished() == ["job-1"]
    await take(database, EMBED)
    assert await waiting(database, INDEX) == []
    assert await states(database) == {
        ("a", EMBED.value): "Cancelled",
        ("a", INDEX.value): "Cancelled",
        ("b", EMBED.value): "Done",
    }
    assert await unfinished() == []


async def test_imports_with_products_in_many_batches_of_others_are_told_once_each(
    database: Database, claimed: Any
) -> None:
    names = [f"p{number:02}" for number in range(12)]
    await commit(database, await importing(database, claimed, embedding=True), page(*names))
    for job_id, taken in (("job-2", names[::2]), ("job-3", names[1:8:2])):
        claim = await importing(database, claimed, job_id, embedding=True)
        await commit(database, claim, page(*taken))
    assert len(await batches(database)) == 6, "two products in each, all of them asked for by others since"
    await execute(database, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id LIKE 'job-%'""")
    origins = OriginStore(database)
    for page_size in (1, 2, 4, 100):
        pages = origins.unfinished(NAMESPACE, recorded_before=await origins.now(), page_size=page_size)
        found = [job_id async for page in pages for job_id in page]
        assert sorted(found) == ["job-1", "job-2", "job-3"], page_size


async def test_a_dead_letter_that_a_person_retried_is_not_missed_with_its_import_s_object(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed, embedding=True), page("a"))
    await take(database, EMBED, lambda product: StepFailed(product, "NoImage", "none", retryable=False))
    await execute(database, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id = 'job-1'""")
    letters = DeadLetterStore(database)
    found, _ = await letters.page(DeadFilter())
    assert await letters.change(found, StepState.DUE) == 1
    origins = OriginStore(database)
    pages = origins.unfinished(NAMESPACE, recorded_before=await origins.now())
    assert [page async for page in pages] == []
    assert await take(database, EMBED) == [JobState.COMPLETED]


EVENTS = ["product.dead_lettered", "catalogue.live"]
TOLD = "SELECT job_id, event FROM imports.notification WHERE event = ANY(%s) ORDER BY id"


async def told(database: Database) -> list[tuple[Any, ...]]:
    return await execute(database, TOLD, (EVENTS,))


async def two_imports(database: Database, claimed: Any) -> None:
    """Both have ended; the second one's product is in a batch of the first, with one that is the first's alone."""
    endpoint = Endpoint("acme-shopify", "u", "acme", "https://a.example", "hooks", EVENTS)
    await WebhookStore(database, namespace=NAMESPACE).put(endpoint)
    for job_id, names in (("job-1", ("a", "b")), ("job-2", ("a",))):
        claim = await importing(database, claimed, job_id, embedding=True)
        await commit(database, claim, page(*names))
        await ClaimStore(database).finish(claim, JobState.COMPLETED, reason=None, message=None)


async def heard(database_url: str, act: Callable[[], Awaitable[Any]]) -> set[str]:
    """Ids of jobs whose progress is told while something is done."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute(f"LISTEN {PROGRESS_CHANNEL}".encode())
        await act()
        await listener.execute("SELECT 1")
        found = [notice async for notice in listener.notifies(timeout=0.1)]
    return {job_id for notice in found for job_id in notice.payload.split(",")}


async def test_an_import_is_told_of_its_products_in_another_one_s_batch(
    database: Database, database_url: str, claimed: Any
) -> None:
    await two_imports(database, claimed)
    assert await told(database) == []
    assert await heard(database_url, lambda: take(database, EMBED)) == {"job-1", "job-2"}
    assert sorted(await told(database)) == [("job-1", "catalogue.live"), ("job-2", "catalogue.live")]


async def test_an_import_is_told_of_its_dead_products_in_another_one_s_batch(
    database: Database, claimed: Any
) -> None:
    await two_imports(database, claimed)
    await take(database, EMBED, lambda product: StepFailed(product, "NoImage", "none", retryable=False))
    events = [("job-1", event) for event in EVENTS] + [("job-2", event) for event in EVENTS]
    assert sorted(await told(database)) == sorted(events)


async def test_imports_are_told_of_products_whose_batch_the_operator_fails(
    database: Database, database_url: str, claimed: Any
) -> None:
    await two_imports(database, claimed)
    (job_id,) = await waiting(database, EMBED)
    await execute(database, """UPDATE "ProductImportJob" SET deaths = 3 WHERE id = %s""", (job_id,))
    claim = await claim_batch(database, job_id)
    await ClaimStore(database).mark_alone(claim)
    ended = await heard(database_url, lambda: ClaimStore(database).end_of_workers([claim.worker_id]))
    assert ended >= {"job-1", "job-2"}
    events = [("job-1", event) for event in EVENTS] + [("job-2", event) for event in EVENTS]
    assert sorted(await told(database)) == sorted(events)


async def test_an_import_has_open_steps_while_its_products_are_in_another_one_s_batch(
    database: Database, claimed: Any
) -> None:
    await two_imports(database, claimed)
    store = ReopeningStore(database)
    for is_open in (True, False):
        found = await store.honoured(["job-1", "job-2"])
        assert {job_id: row.has_open_steps for job_id, row in found.items()} == {
            "job-1": is_open,
            "job-2": is_open,
        }
        await take(database, EMBED)
