"""`kubectl imports` as a person on call uses it."""

from __future__ import annotations

import asyncio
import json

from e2e.test_refusals import connect
from e2e.world import KUBECTL_IMPORTS, World, job
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.reopening import RETRY_ANNOTATION


async def test_watch_follows_a_job_to_its_end(world: World) -> None:
    await connect(world, "watched", shop="generated-6-1")
    await world.apply(job("watched", company="watched", provider_name="watched"))
    outcome = await world.imports("watch", "watched", "--timeout", "100")
    assert outcome.code == 0, outcome.err
    assert "100%" in outcome.out
    assert "6/6 products" in outcome.out
    assert "watched: Succeeded" in outcome.out


async def test_watch_of_a_failing_job_ends_with_1_and_its_message(world: World) -> None:
    await connect(world, "watched-failing", token="shpat_mistyped")
    await world.apply(job("watched-failing", company="watched-failing", provider_name="watched-failing"))
    outcome = await world.imports("watch", "watched-failing", "--timeout", "100")
    assert outcome.code == 1
    assert "Failed" in outcome.out
    assert "token" in outcome.out.lower()


async def test_a_job_that_is_not_there_is_named(world: World) -> None:
    for command in ("watch", "errors"):
        outcome = await world.imports(command, "no-such-job")
        assert outcome.code == 2
        assert "no-such-job" in outcome.err


async def test_status_shows_depth_workers_providers_and_errors(world: World) -> None:
    await connect(world, "shown", token="shpat_mistyped")
    await world.apply(job("shown", company="shown", provider_name="shown"))
    await world.finished("shown")
    outcome = await world.imports("status", "-o", "json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert isinstance(report["depth"], int)
    assert report["pools"][0]["name"] == "product-imports"
    assert report["pools"][0]["ready"] >= 2
    assert "shown" in {provider["name"] for provider in report["providers"]}
    assert "shown" in {error["job"] for error in report["lastErrors"]}
    text = await world.imports("status")
    assert text.code == 0
    assert "product-imports" in text.out


async def test_without_a_database_errors_says_what_to_set(world: World) -> None:
    outcome = await world.run(KUBECTL_IMPORTS, "errors", "shown", environment={"DATABASE_URL": ""})
    assert outcome.code == 2
    assert "DATABASE_URL" in outcome.err


async def test_printer_columns_answer_the_first_question(world: World) -> None:
    await connect(world, "printed", shop="tiny-2-1")
    await world.apply(job("printed", company="printed", provider_name="printed"))
    await world.finished("printed")
    outcome = await world.kubectl("-n", "imports", "get", "importjob", "printed")
    assert "Succeeded" in outcome.out
    assert "100" in outcome.out


async def test_what_failed_for_one_cause_runs_again_in_one_call(world: World) -> None:
    await connect(world, "again", shop="tiny-2-1", token="shpat_mistyped")
    await world.apply(job("again", company="again", provider_name="again"))
    await world.sql(
        'INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES (%s, %s, %s)',
        "again-row",
        *["again"] * 2,
    )
    assert (await world.finished("again"))["phase"] == "Failed"
    await ended(world, "again-row", "FAILED")
    await connect(world, "again", shop="tiny-2-1")
    command = ("retry-failed", "--company", "again", "--reason", "InvalidCredentials", "--since", "1h")
    dry = await world.imports(*command, "--dry-run")
    assert dry.code == 0, dry.err
    assert dry.out.startswith("Would retry 2 failed jobs: 1 by their ImportJob, 1 without an object\n")
    assert await state_of(world, "again-row") == "FAILED"
    outcome = await world.imports(*command, "-o", "json")
    assert outcome.code == 0, outcome.err
    done = json.loads(outcome.out)
    assert (done["annotated"], done["reopened"], done["objectGone"]) == (1, 1, 0)
    version = await world.until(
        IMPORT_JOB, "again", lambda found: (found.get("status") or {}).get("phase") == "Succeeded"
    )
    assert version["metadata"]["annotations"][RETRY_ANNOTATION] == done["token"]
    await ended(world, "again-row", "COMPLETED")
    assert json.loads((await world.imports(*command, "-o", "json")).out)["jobs"] == 0


async def test_a_drained_queue_starts_nothing_until_it_is_resumed(world: World) -> None:
    await connect(world, "held", shop="tiny-2-1")
    try:
        drained = await world.imports("drain", "--reason", "a test", "--wait", "--timeout", "60")
        assert drained.code == 0, drained.err
        assert "product-imports is drained: no job is under way" in drained.out
        await world.apply(job("held", company="held", provider_name="held"))
        await world.until(
            IMPORT_JOB, "held", lambda found: (found.get("status") or {}).get("waitingReason") == "Paused"
        )
        assert "(a test): kubectl imports resume product-imports" in (await world.imports("status")).out
        started = await world.sql('SELECT "startedAt" FROM "ProductImportJob" WHERE "companyId" = %s', "held")
        assert started == [(None,)]
    finally:
        resumed = await world.imports("resume")
    assert resumed.code == 0, resumed.err
    assert resumed.out.startswith("Resumed product-imports, paused since")
    assert (await world.finished("held"))["phase"] == "Succeeded"


async def state_of(world: World, row_id: str) -> str:
    rows = await world.sql('SELECT status FROM "ProductImportJob" WHERE id = %s', row_id)
    return str(rows[0][0])


async def ended(world: World, row_id: str, state: str) -> None:
    """Wait until a row without an object is in a state."""
    async with asyncio.timeout(90):
        while await state_of(world, row_id) != state:  # noqa: ASYNC110 - the row has no object to be watched
            await asyncio.sleep(0.2)
