"""`kubectl imports pause`, `resume`, `stop-intake`, `resume-intake` and `cancel` against real servers."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

from cli_world import CliWorld

from import_core.adapters.postgres.notifications import PROGRESS_CHANNEL, listen
from import_core.adapters.postgres.queue_state import COMPANY, PROVIDER, QueueStateStore
from import_core.domain.backpressure import HealthLevel, Intake, IntakeState, QueueHealth
from import_core.domain.emergency import Emergency, EmergencyPhase
from import_core.domain.jobs import DEFAULT_QUEUE, JobState

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


async def test_a_company_and_a_provider_are_paused_and_go_on(cli: CliWorld) -> None:
    store = QueueStateStore(cli.database)
    await cli.provider("acme-shopify")
    await cli.row("job")
    dry = await cli.invoke("pause", "--company", "acme", "--dry-run")
    assert dry.stdout == "Would pause imports of company acme. Jobs under way go on, no other one starts\n"
    assert await store.pauses() == []
    paused = await cli.invoke("pause", "--company", "acme", "--reason", "floods")
    assert paused.exit_code == 0, paused.output
    assert f"kubectl imports resume --company acme -n {cli.namespace}" in paused.stdout
    assert (await cli.invoke("pause", "--provider", "acme-shopify", "-o", "json")).exit_code == 0
    assert [(each.scope, each.namespace, each.name, each.reason) for each in await store.pauses()] == [
        (COMPANY, "", "acme", "floods"),
        (PROVIDER, cli.namespace, "acme-shopify", None),
    ]
    shown = (await cli.invoke("status")).stdout
    assert "Imports of company acme are paused since" in shown
    assert "(floods)" in shown
    document = json.loads((await cli.invoke("status", "-o", "json")).stdout)
    assert [each["name"] for each in document["pauses"]] == ["acme", "acme-shopify"]
    assert (await cli.invoke("resume", "--company", "acme", "--dry-run")).stdout.startswith("Would resume")
    assert (await cli.invoke("resume", "--company", "acme")).stdout == "Resumed imports of company acme\n"
    assert (await cli.invoke("resume", "--company", "acme")).stdout.endswith("not paused: nothing to do\n")
    assert json.loads((await cli.invoke("resume", "--provider", "acme-shopify", "-o", "json")).stdout) == {
        "scope": "provider",
        "name": "acme-shopify",
        "dryRun": False,
        "wasPaused": True,
        "paused": False,
    }
    assert await store.pauses() == []


async def test_a_pause_of_nobody_is_refused_or_says_so(cli: CliWorld) -> None:
    store = QueueStateStore(cli.database)
    for name in ("acme-shopfy", "No Name"):
        refused = await cli.invoke("pause", "--provider", name)
        assert refused.exit_code == 2
        assert f"There is no ImportProvider {name}" in refused.stderr
    assert await store.pauses() == []
    warned = await cli.invoke("pause", "--company", "acm")
    assert warned.exit_code == 0
    assert warned.stdout.startswith("No job of a company acm is known: check the ID\nPaused imports")
    assert not json.loads((await cli.invoke("pause", "--company", "acm", "-o", "json")).stdout)["known"]
    assert [each.name for each in await store.pauses()] == ["acm"]
    # What a provider that is gone by now was paused with can be ended.
    assert (await cli.invoke("resume", "--provider", "acme-shopfy")).exit_code == 0


async def test_pause_without_an_option_is_the_queues(cli: CliWorld) -> None:
    assert (await cli.invoke("pause", "--reason", "r")).stdout.startswith("Paused product-imports: ")
    assert (await QueueStateStore(cli.database).health(DEFAULT_QUEUE)).paused
    assert (await cli.invoke("resume", "--queue", DEFAULT_QUEUE)).exit_code == 0
    assert not (await QueueStateStore(cli.database).health(DEFAULT_QUEUE)).paused


async def test_several_scopes_at_once_are_refused(cli: CliWorld) -> None:
    for command in ("pause", "resume"):
        result = await cli.invoke(command, "--company", "acme", "--provider", "acme-shopify")
        assert result.exit_code == 2
        assert "not several of them" in result.stderr
        two = await cli.invoke(command, DEFAULT_QUEUE, "--queue", "other")
        assert (two.exit_code, "not several of them" in two.stderr) == (2, True)


async def test_intake_is_stopped_and_resumed(cli: CliWorld) -> None:
    store = QueueStateStore(cli.database)
    dry = await cli.invoke("stop-intake", "--dry-run")
    assert dry.stdout.startswith("New imports would be refused")
    assert not (await store.health(DEFAULT_QUEUE)).intake.intake.stopped
    assert (await cli.invoke("stop-intake", "--reason", "moving")).exit_code == 0
    intake = (await store.health(DEFAULT_QUEUE)).intake.intake
    assert (intake.stopped, intake.reason) == (True, "moving")
    assert intake.by
    shown = (await cli.invoke("status")).stdout
    assert "Intake of product-imports is stopped since" in shown
    assert "kubectl imports resume-intake product-imports" in shown
    again = json.loads((await cli.invoke("resume-intake", "-o", "json")).stdout)
    assert (again["wasStopped"], again["stopped"]) == (True, False)
    assert (await store.health(DEFAULT_QUEUE)).intake.intake.opened_by_hand


async def test_status_shows_health_and_an_emergency_which_resume_ends(cli: CliWorld) -> None:
    store = QueueStateStore(cli.database)
    async with store.locked(DEFAULT_QUEUE) as locked:
        health = QueueHealth(HealthLevel.OVERLOAD, NOON, 12_000, NOON)
        intake = Intake(True, None, "more than 10,000 jobs wait or run", NOON)
        emergency = Emergency(EmergencyPhase.PAUSED, "only 3 of the last 50 jobs succeeded", NOON, NOON)
        state = replace(
            locked.state,
            intake=IntakeState(health, intake),
            starts_per_minute=93.0,
            emergency=emergency,
        )
        await locked.save(state, tell=False)
    shown = (await cli.invoke("status")).stdout
    assert "Health of product-imports: Overload, 93 starts a minute" in shown
    assert "Emergency: product-imports is paused since 2026-11-27T12:00:00Z (only 3 of" in shown
    (queue,) = json.loads((await cli.invoke("status", "-o", "json")).stdout)["queues"]
    assert (queue["health"], queue["intakeStopped"], queue["emergency"]) == ("Overload", True, "Paused")
    assert "paused in an emergency (only 3 of" in (await cli.invoke("resume")).stdout
    assert (await store.health(DEFAULT_QUEUE)).emergency.phase is EmergencyPhase.NONE


async def test_jobs_are_cancelled_and_the_operator_is_told(cli: CliWorld) -> None:
    for job_id in ("waits", "other", "done"):
        await cli.row(job_id)
    await cli.finish("done", "COMPLETED")
    dry = await cli.invoke("cancel", "waits", "done", "--dry-run")
    assert dry.stdout == "Would cancel 1 job: waits\nAlready finished: done\n"
    assert (await cli.jobs.read(["waits"]))["waits"].state is JobState.PENDING
    heard = listen(cli.database, [PROGRESS_CHANNEL])
    assert (await anext(heard)).channel is None
    result = await cli.invoke("cancel", "waits", "done", "waits")
    assert result.exit_code == 0, result.output
    async with asyncio.timeout(10):
        assert (await anext(heard)).payload == "waits"
    await heard.aclose()  # type: ignore[attr-defined]
    rows = await cli.jobs.read(["waits", "other", "done"])
    assert {job_id: row.state for job_id, row in rows.items()} == {
        "waits": JobState.CANCELLED,
        "other": JobState.PENDING,
        "done": JobState.COMPLETED,
    }
    assert str(rows["waits"].message).startswith("Cancelled by ")


async def test_nothing_is_cancelled_where_one_of_the_jobs_is_wrong(cli: CliWorld) -> None:
    await cli.row("waits")
    assert (await cli.invoke("cancel", "waits", "nobody")).exit_code == 2
    await cli.job("held")
    held = await cli.invoke("cancel", "waits", "held")
    assert held.exit_code == 2
    assert f"kubectl delete importjob held -n {cli.namespace}" in held.stderr
    assert (await cli.jobs.read(["waits"]))["waits"].state is JobState.PENDING
