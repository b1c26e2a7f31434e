"""Steps in PostgreSQL: recorded with the page, ended behind the claim, cancelled and suspended with their ImportJob."""

from dataclasses import replace
from typing import Any

import pytest
from postgres_rows import NAMESPACE, execute, request
from step_products import (
    CHECK,
    EMBED,
    INDEX,
    SIZES,
    claim_batch,
    commit,
    image,
    importing,
    page,
    states,
    take,
    waiting,
)

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.postgres.standings import StandingStore
from import_core.adapters.postgres.step_control import START, StepControl
from import_core.adapters.postgres.steps import StepStore, judge_steps
from import_core.adapters.postgres.views import JobViews
from import_core.domain.errors import ClaimLostError
from import_core.domain.jobs import JobState, WaitingReason
from import_core.domain.steps import (
    BATCH_SIZES,
    STEPS_IN_ORDER,
    StepCounts,
    StepDone,
    StepFailed,
    StepOutcome,
    StepPostponed,
    end_batch,
)


async def test_a_page_records_its_steps_and_their_first_batches(database: Database, claimed: Any) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a", "b", "c"))
    assert await states(database) == {
        **{(name, EMBED.value): "Due" for name in "abc"},
        **{(name, kind.value): "Waiting" for name in "abc" for kind in (CHECK, INDEX)},
    }
    jobs = await execute(
        database,
        """SELECT "companyId", provider, namespace, "parentId", "correlationId" FROM "ProductImportJob"
        WHERE queue = %s""",
        (EMBED.value,),
    )
    assert jobs == [("acme", EMBED.value, NAMESPACE, "job-1", "job-1")] * 2


async def test_a_lost_claim_records_nothing(database: Database, claimed: Any) -> None:
    claim = await importing(database, claimed)
    await execute(database, "DELETE FROM imports.claim")
    with pytest.raises(ClaimLostError):
        await commit(database, claim, page("a"))
    assert await states(database) == {}


async def test_a_job_that_asks_for_nothing_records_nothing(database: Database, claimed: Any) -> None:
    claim = await importing(database, claimed, embedding=False)
    await commit(database, claim, page("a"))
    assert await states(database) == {}


async def test_steps_are_taken_in_order_and_an_unchanged_product_takes_none(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a", "b", "c"))
    for kind in STEPS_IN_ORDER:
        assert set(await take(database, kind)) == {JobState.COMPLETED}
    assert set((await states(database)).values()) == {"Done"}
    (kept,) = await execute(
        database,
        "SELECT count(*) FROM imports.product_step WHERE done_hash = content_hash AND done_at IS NOT NULL",
    )
    assert kept == (9,)
    await commit(database, claim, page("a", "b", "c"))
    assert [await waiting(database, kind) for kind in STEPS_IN_ORDER] == [[], [], []]
    await commit(database, claim, page("a", title="Coffee"))
    assert len(await waiting(database, EMBED)) == 1
    assert (await states(database))["b", EMBED.value] == "Done"


async def test_another_image_is_another_state_of_the_product(database: Database, claimed: Any) -> None:
    claim = await importing(database, claimed, embedding=True)
    await commit(database, claim, page("a", images=[image("a", "1" * 64)]))
    (job_id,) = await waiting(database, EMBED)
    (product,) = (await StepStore(database).read(job_id, EMBED)).products
    assert [found.sha256 for found in product.images] == ["1" * 64]
    await take(database, EMBED)
    await commit(database, claim, page("a"))
    assert await waiting(database, EMBED) == []
    await commit(database, claim, page("a", images=[image("a", "2" * 64)]))
    assert len(await waiting(database, EMBED)) == 1


async def test_failed_products_are_tried_again_in_a_batch_of_their_own_and_are_dead_after_four_tries(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a", "b"))
    (bad,) = await execute(database, """SELECT id FROM "Product" WHERE "externalId" = 'b'""")

    def judge(product_id: str) -> StepOutcome:
        return StepFailed(product_id, "Away", "no answer") if product_id == bad[0] else StepDone(product_id)

    assert await take(database, EMBED, judge) == [JobState.COMPLETED]
    (delay,) = await execute(
        database,
        """SELECT extract(epoch FROM "notBefore" - "createdAt")::float8 FROM "ProductImportJob"
        WHERE queue = %s AND status = 'PENDING'""",
        (EMBED.value,),
    )
    assert delay[0] == pytest.approx(2.0, abs=0.5)
    assert [await take(database, EMBED, judge) for _ in range(3)] == [[None], [None], [JobState.FAILED]]
    found = await states(database)
    assert [found["b", kind.value] for kind in STEPS_IN_ORDER] == ["Dead", "Halted", "Halted"]
    assert found["a", CHECK.value] == "Due"
    (dead,) = await execute(
        database, "SELECT attempts, reason, message, batch_id FROM imports.product_step WHERE state = 'Dead'"
    )
    assert dead == (4, "Away", "no answer", None)


async def test_postponed_products_wait_in_a_batch_of_their_own_and_use_no_try_up(
    database: Database, claimed: Any
) -> None:
    await CatalogueStore(database).commit_page(
        await importing(database, claimed, embedding=True), page("a", "b", "c")
    )
    names = dict(await execute(database, """SELECT id, "externalId" FROM "Product" """))

    def judge(product_id: str) -> StepOutcome:
        if names[product_id] == "a":
            return StepPostponed(product_id, 3600.0, WaitingReason.PROVIDER_LIMIT, "used up")
        if names[product_id] == "b":
            return StepFailed(product_id, "Away", "no answer")
        return StepDone(product_id)

    assert await take(database, EMBED, judge, sizes=BATCH_SIZES) == [JobState.COMPLETED]
    found = await execute(
        database,
        """SELECT p."externalId", s.attempts, s.reason, s.message, j."waitingReason",
            round(extract(epoch FROM j."notBefore" - j."createdAt") / 10) * 10
        FROM imports.product_step s JOIN "Product" p ON p.id = s.product_id
        JOIN "ProductImportJob" j ON j.id = s.batch_id ORDER BY 1""",
    )
    assert found == [
        ("a", 0, "ProviderLimit", "used up", "ProviderLimit", 3600),
        ("b", 1, "Away", "no answer", "Retry", 0),
    ]


async def test_a_claim_that_was_lost_changes_nothing(database: Database, claimed: Any) -> None:
    await commit(database, await importing(database, claimed), page("a"))
    (job_id,) = await waiting(database, EMBED)
    claim = await claim_batch(database, job_id)
    store = StepStore(database)
    batch = await store.read(job_id, EMBED)
    before = await states(database)
    await execute(database, "UPDATE imports.claim SET expires_at = now() WHERE job_id = %s", (job_id,))

    async def write(connection: Connection) -> None:
        pytest.fail("a worker without its claim writes")

    end = end_batch(batch.rows, [StepDone(batch.rows[0].product_id)], spread=0.5)
    with pytest.raises(ClaimLostError):
        await store.end(claim, batch, end, write=write)
    assert await states(database) == before


async def test_what_the_step_keeps_is_written_with_the_end_or_not_at_all(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed), page("a"))

    async def write(connection: Connection) -> None:
        await connection.execute("""UPDATE "Product" SET vendor = 'kept'""")

    await take(database, EMBED, write=write)
    assert await execute(database, """SELECT vendor FROM "Product" """) == [("kept",)]
    assert (await states(database))["a", CHECK.value] == "Due"


async def test_a_product_that_changes_meanwhile_is_due_again_and_never_in_two_batches(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed, embedding=True)
    await commit(database, claim, page("a", "b"))
    (job_id,) = await waiting(database, EMBED)
    step_claim = await claim_batch(database, job_id)
    store = StepStore(database, sizes=SIZES)
    batch = await store.read(job_id, EMBED)
    await commit(database, claim, page("a", title="Coffee"))
    assert await waiting(database, EMBED) == []
    end = end_batch(batch.rows, [StepDone(row.product_id) for row in batch.rows], spread=0.5)
    await store.end(step_claim, batch, end)
    assert await states(database) == {("a", EMBED.value): "Due", ("b", EMBED.value): "Done"}
    (again,) = await waiting(database, EMBED)
    assert [product.title for product in (await store.read(again, EMBED)).products] == ["Coffee"]


async def test_a_product_that_is_gone_is_forgotten(database: Database, claimed: Any) -> None:
    await commit(database, await importing(database, claimed), page("a", "b"))
    await execute(database, """DELETE FROM "Product" WHERE "externalId" = 'a'""")
    await take(database, EMBED)
    (left,) = await execute(database, "SELECT count(DISTINCT product_id) FROM imports.product_step")
    assert left == (1,)


async def test_a_product_that_is_not_let_through_takes_no_further_step(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed), page("a"))
    await take(database, EMBED)
    await take(database, CHECK, lambda product: StepDone(product, {"decision": "rejected"}, halts=True))
    assert (await states(database))["a", INDEX.value] == "Halted"
    assert await waiting(database, INDEX) == []


async def test_a_person_may_let_it_go_on(database: Database, claimed: Any) -> None:
    await commit(database, await importing(database, claimed), page("a"))
    await take(database, EMBED)
    await take(database, CHECK, lambda product: StepDone(product, {"decision": "flagged"}, halts=True))
    products = [row[0] for row in await execute(database, """SELECT id FROM "Product" """)]
    for halts, found in ((True, []), (False, products), (False, [])):
        async with database.transaction() as connection:
            assert await judge_steps(connection, products, CHECK, halts=halts) == found
    assert await take(database, INDEX) == [JobState.COMPLETED]
    (kept,) = await execute(
        database, "SELECT result, halts FROM imports.product_step WHERE step = %s", (CHECK.value,)
    )
    assert kept == ({"decision": "flagged"}, False)


async def test_steps_of_products_that_are_gone_are_forgotten_in_pages(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed, embedding=True), page("a", "b", "c"))
    await take(database, EMBED)
    await execute(database, """DELETE FROM "Product" WHERE "externalId" <> 'a'""")
    control, place = StepControl(database), START
    for _ in range(2):
        place = await control.forget_gone(place, limit=2)
    assert place == START
    assert await execute(database, "SELECT count(*) FROM imports.product_step") == [(1,)]


async def test_cancelling_an_import_cancels_its_steps_also_those_under_way(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a", "b", "c"))
    await ClaimStore(database).finish(claim, JobState.COMPLETED, reason=None, message=None)
    first, _ = await waiting(database, EMBED)
    step_claim = await claim_batch(database, first)
    store = StepStore(database)
    batch = await store.read(first, EMBED)
    assert await JobStore(database).cancel(["job-1"], message="deleted") == ["job-1"]
    assert set((await states(database)).values()) == {"Cancelled"}
    with pytest.raises(ClaimLostError):
        await store.end(step_claim, batch, end_batch(batch.rows, [], spread=0.5))
    assert await JobStore(database).cancel(["job-1"], message="deleted") == []
    (held,) = await execute(database, "SELECT count(*) FROM imports.product_step WHERE batch_id IS NOT NULL")
    assert held == (0,)
    again = await importing(database, claimed, "job-2")
    await commit(database, again, page("a"))
    assert (await states(database))["a", EMBED.value] == "Due"


async def test_steps_whose_import_is_cancelled_meanwhile_make_no_next_ones(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a"))
    await execute(database, """UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = 'job-1'""")
    await take(database, EMBED)
    assert [await waiting(database, kind) for kind in STEPS_IN_ORDER] == [[], [], []]
    assert (await states(database))["a", CHECK.value] == "Cancelled"


async def test_what_is_left_of_a_cancelled_import_is_cancelled_later(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed), page("a"))
    await execute(database, """UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = 'job-1'""")
    assert not await StepControl(database).cancel_leftovers(message="cancelled")
    assert set((await states(database)).values()) == {"Cancelled"}
    assert await waiting(database, EMBED) == []


async def test_suspending_an_import_holds_its_steps_and_the_next_ones(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a", "b", "c"))
    first, second = await waiting(database, EMBED)
    await claim_batch(database, first)
    suspended = replace(request("job-1", generation=2), spec=claim.job.spec, suspended=True)
    await JobStore(database).record([suspended])
    held = await execute(
        database, """SELECT id FROM "ProductImportJob" WHERE suspended AND status = 'PENDING' ORDER BY id"""
    )
    assert [row[0] for row in held] == sorted([first, second, "job-1"])
    assert await execute(database, "SELECT FROM imports.claim") == []
    await JobStore(database).record([replace(suspended, generation=3, suspended=False)])
    assert await execute(database, """SELECT id FROM "ProductImportJob" WHERE suspended""") == []


async def test_steps_of_a_finished_import_are_suspended_too_and_so_are_those_that_follow(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a"))
    await ClaimStore(database).finish(claim, JobState.COMPLETED, reason=None, message=None)
    control = StepControl(database)
    held = """SELECT queue FROM "ProductImportJob" WHERE suspended AND status = 'PENDING'"""
    await control.hold({"job-1": True})
    assert await execute(database, held) == [(EMBED.value,)]
    await control.hold({"job-1": False})
    assert await execute(database, held) == []
    await execute(database, """UPDATE "ProductImportJob" SET suspended = true WHERE id = 'job-1'""")
    assert await take(database, EMBED) == [JobState.COMPLETED]
    assert await execute(database, held) == [(CHECK.value,)]


async def test_batches_that_others_ended_let_go_of_their_products(database: Database, claimed: Any) -> None:
    await commit(database, await importing(database, claimed), page("a"))
    (job_id,) = await waiting(database, EMBED)
    await execute(
        database,
        """UPDATE "ProductImportJob" SET deaths = 3 WHERE id = %s""",
        (job_id,),
    )
    claim = await claim_batch(database, job_id)
    await ClaimStore(database).mark_alone(claim)
    await ClaimStore(database).end_of_workers(["worker-1"])
    found = await states(database)
    assert [found["a", kind.value] for kind in STEPS_IN_ORDER] == ["Dead", "Halted", "Halted"]
    (dead,) = await execute(database, "SELECT reason FROM imports.product_step WHERE state = 'Dead'")
    assert dead == ("WorkerKilled",)


async def test_finished_step_jobs_are_swept_and_what_they_held_is_due_again(
    database: Database, claimed: Any
) -> None:
    await commit(database, await importing(database, claimed), page("a", "b", "c"))
    first, second = await waiting(database, EMBED)
    await execute(
        database,
        """UPDATE "ProductImportJob" SET status = 'COMPLETED', "completedAt" = now() - interval '2 hours'
        WHERE id = %s""",
        (first,),
    )
    assert await StepControl(database).sweep() == 1
    left = await waiting(database, EMBED)
    assert second in left
    assert len(left) == 2


async def test_an_import_with_open_steps_is_unfinished_for_the_comparison_with_the_objects(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed)
    await commit(database, claim, page("a"))
    await ClaimStore(database).finish(claim, JobState.COMPLETED, reason=None, message=None)
    origins = OriginStore(database)

    async def unfinished() -> list[str]:
        pages = origins.unfinished(NAMESPACE, recorded_before=await origins.now())
        return [job_id async for page in pages for job_id in page]

    assert await unfinished() == ["job-1"]
    for kind in STEPS_IN_ORDER:
        await take(database, kind)
    assert await unfinished() == []


async def test_people_are_shown_imports_and_no_step_jobs(database: Database, claimed: Any) -> None:
    await commit(database, await importing(database, claimed), page("a", "b", "c"))
    views = JobViews(database)
    for company in (None, "acme"):
        shown = await views.page(
            namespace=NAMESPACE, states=list(JobState), company=company, limit=10, after=None
        )
        assert [job.id for job in shown.jobs] == ["job-1"]
    assert await views.waiting(NAMESPACE, limit=10) == []
    assert (await StandingStore(database).read("acme", limit=10)).unfinished == 1
    counts = await StepControl(database).counts(["job-1"])
    assert counts["job-1"][EMBED] == StepCounts(due=3)
