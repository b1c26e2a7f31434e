"""`kubectl imports` as a person on call uses it."""

from __future__ import annotations

import json

from e2e.test_refusals import connect
from e2e.world import KUBECTL_IMPORTS, World, job


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
