"""Whoever listens is told of products that are given up, however their batch ended, and once."""

from typing import Any

import pytest
import pytest_asyncio
from postgres_rows import NAMESPACE, execute, request
from test_step_store import CHECK, EMBED, claim_batch, commit, importing, page, take, waiting

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.dead_letters import DeadLetterStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, listen
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.step_control import StepControl
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.domain.dead_letters import DeadFilter
from import_core.domain.failures import Fail
from import_core.domain.jobs import JobState
from import_core.domain.notifications import Endpoint
from import_core.domain.steps import StepDone, StepFailed, StepOutcome, StepState


@pytest_asyncio.fixture(loop_scope="session")
async def imported(database: Database, claimed: Any) -> None:
    """Two products of a finished import whose one step, in one batch, is due; its provider names a webhook."""
    endpoint = Endpoint(
        "acme-shopify", "u", "acme", "https://a.example", "hooks", ["product.dead_lettered", "catalogue.live"]
    )
    await WebhookStore(database, namespace=NAMESPACE).put(endpoint)
    claim = await importing(database, claimed, embedding=True)
    await commit(database, claim, page("a", "b"))
    await ClaimStore(database).finish(claim, JobState.COMPLETED, reason=None, message=None)


async def told(database: Database) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Job, event, and reasons by step of the products that are named."""
    rows = await execute(database, "SELECT job_id, event, data FROM imports.notification ORDER BY id")
    return [
        (
            job,
            event,
            [(each["step"], each["reason"]) for each in data["products"]] if "lettered" in event else [],
        )
        for job, event, data in rows
    ]


def invalid(product: str) -> StepOutcome:
    return StepFailed(product, "NothingToEmbed", "no title", retryable=False)


LETTERS = ("job-1", "product.dead_lettered", [(EMBED.value, "NothingToEmbed")] * 2)
LIVE = ("job-1", "catalogue.live", [])


async def test_a_batch_that_a_worker_ends(database: Database, imported: None) -> None:
    await take(database, EMBED, invalid)
    assert await told(database) == [LETTERS, LIVE]


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED])
async def test_what_an_import_gives_up_is_told_behind_its_end_each_time(
    database: Database, claimed: Any, state: JobState
) -> None:
    events = ["import.completed", "import.failed", "product.dead_lettered"]
    endpoint = Endpoint("acme-shopify", "u", "acme", "https://a.example", "hooks", events)
    await WebhookStore(database, namespace=NAMESPACE).put(endpoint)
    claim = await claimed()
    for external_id, url, stage in (("a", "", "map"), ("b", "https://a.example/b.jpg", "download")):
        await execute(
            database,
            """INSERT INTO imports.item_error (job_id, external_id, stage, url, reason, message)
            VALUES ('job-1', %s, %s, %s, 'InvalidField', 'price: no number')""",
            (external_id, stage, url),
        )
    await ClaimStore(database).finish(claim, state, reason=None, message=None)
    word = f"import.{state.value.lower()}"
    end, letters = ("job-1", word, []), ("job-1", "product.dead_lettered", [("import", "InvalidField")])
    assert await told(database) == [end, letters]
    ((products,),) = await execute(
        database, "SELECT data -> 'products' FROM imports.notification WHERE event = 'product.dead_lettered'"
    )
    assert [each["externalId"] for each in products] == ["a"]
    assert await ReopeningStore(database).retry_items({"job-1": "1"}) == ["job-1"]
    claim = await claimed()
    await execute(database, "DELETE FROM imports.item_error WHERE external_id = 'a'")
    await ClaimStore(database).finish(claim, state, reason=None, message=None)
    assert await told(database) == [end, letters, end]


async def test_a_batch_that_the_operator_fails_is_told_as_well_and_the_catalogue_is_live(
    database: Database, imported: None
) -> None:
    (batch,) = await waiting(database, EMBED)
    await claim_batch(database, batch)
    repairs = RepairStore(database)
    stalled = await repairs.stalled(quiet_seconds=0)
    await repairs.end_stalled({each: Fail("Stalled", "no progress") for each in stalled}, quiet_seconds=0)
    assert await told(database) == [("job-1", "product.dead_lettered", [(EMBED.value, "Stalled")] * 2), LIVE]


async def test_a_batch_that_its_worker_fails_as_a_whole(database: Database, imported: None) -> None:
    (batch,) = await waiting(database, EMBED)
    claim = await claim_batch(database, batch)
    await ClaimStore(database).finish(claim, JobState.FAILED, reason="UnexpectedError", message="a defect")
    dead = [(EMBED.value, "UnexpectedError")] * 2
    assert await told(database) == [("job-1", "product.dead_lettered", dead), LIVE]


async def test_a_batch_that_the_platform_failed_is_told_once_it_is_settled(
    database: Database, imported: None
) -> None:
    (batch,) = await waiting(database, EMBED)
    await execute(
        database,
        """UPDATE "ProductImportJob" SET status = 'FAILED', "failureReason" = 'ByHand',
        "completedAt" = now() - interval '1 day' WHERE id = %s""",
        (batch,),
    )
    assert await told(database) == []
    await StepControl(database).sweep()
    assert await told(database) == [("job-1", "product.dead_lettered", [(EMBED.value, "ByHand")] * 2), LIVE]


async def test_what_a_person_retries_is_told_if_it_is_given_up_again_and_the_catalogue_is_live_once(
    database: Database, imported: None
) -> None:
    await take(database, EMBED, invalid)
    letters = DeadLetterStore(database)
    found, _ = await letters.page(DeadFilter())
    assert await letters.change(found, StepState.DUE, by="somebody") == 2
    await take(database, EMBED, invalid)
    assert await told(database) == [LETTERS, LIVE, LETTERS]
    assert await letters.change(found, StepState.DUE, by="somebody") == 2
    await take(database, EMBED)
    assert await told(database) == [LETTERS, LIVE, LETTERS]
    await letters.change(found, StepState.DUE)
    assert await waiting(database, EMBED) == []


async def test_a_retried_batch_that_the_operator_fails_is_told_for_the_import_that_asked(
    database: Database, imported: None
) -> None:
    await take(database, EMBED, invalid)
    letters = DeadLetterStore(database)
    found, _ = await letters.page(DeadFilter())
    await letters.change(found, StepState.DUE)
    (batch,) = await waiting(database, EMBED)
    await claim_batch(database, batch)
    repairs = RepairStore(database)
    stalled = await repairs.stalled(quiet_seconds=0)
    await repairs.end_stalled({each: Fail("Stalled", "no progress") for each in stalled}, quiet_seconds=0)
    again = ("job-1", "product.dead_lettered", [(EMBED.value, "Stalled")] * 2)
    assert await told(database) == [LETTERS, LIVE, again]


async def test_what_a_later_import_has_asked_for_is_told_as_that_one_s(
    database: Database, imported: None
) -> None:
    await execute(database, "UPDATE imports.product_step SET job_id = 'job-2'")
    await JobStore(database).record([request("job-2")])
    await take(database, EMBED, invalid)
    assert await told(database) == [("job-2", *LETTERS[1:])]


async def test_counts_of_imports_follow_and_listeners_hear(database: Database, imported: None) -> None:
    letters = DeadLetterStore(database)
    assert await letters.of_jobs(["job-1", "unknown"]) == {"job-1": 0, "unknown": 0}
    heard = listen(database, [PROGRESS_CHANNEL])
    assert (await anext(heard)).channel is None  # it listens now
    await take(database, EMBED, invalid)
    while "job-1" not in (await anext(heard)).payload.split(","):
        pass
    assert await letters.of_jobs(["job-1"]) == {"job-1": 2}
    assert await letters.of_jobs(["job-1"], most=1) == {"job-1": 1}
    found, _ = await letters.page(DeadFilter())
    await letters.change(found[:1], StepState.DISCARDED, by="somebody")
    assert await letters.of_jobs(["job-1"]) == {"job-1": 1}
    await letters.change(found, StepState.DUE)
    await take(database, EMBED, StepDone)
    assert await letters.of_jobs(["job-1"]) == {"job-1": 0}
    assert await waiting(database, CHECK) == []
