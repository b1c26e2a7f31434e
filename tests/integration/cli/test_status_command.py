"""`kubectl imports status` against a real API server and PostgreSQL."""

import json
from typing import Any

from cli_world import CliWorld, condition, database_away

from import_cli import status_command
from import_cli.printing import printable
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_local.parts.postgres import PostgresServer


async def text_on_terminal(cli: CliWorld, *, width: int = 160) -> str:
    return await cli.on_terminal(
        lambda sources, console: status_command.run(sources, console, as_json=False), width=width
    )


async def document(cli: CliWorld, **environment: str | None) -> dict[str, Any]:
    result = await cli.invoke("status", "-o", "json", **environment)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


async def busy_world(cli: CliWorld) -> None:
    await cli.pool(
        status={
            "queueDepth": 7,
            "readyReplicas": 3,
            "busyReplicas": 2,
            "desiredReplicas": 4,
            "lastScaleReason": "7 jobs need 4 workers",
        },
        scaling={"minReplicas": 1, "maxReplicas": 9},
    )
    await cli.provider("well")
    await cli.provider("broken", message="The token is wrong", Ready="False", CredentialsValid="False")
    await cli.row("waits", "waits")
    await cli.row("old", "failed-first")
    await cli.row("new", None)
    await cli.finish("old", reason="InvalidCredentials", message="The shop refuses the token")
    await cli.finish("new", reason="EveryProductFailed", message="No product could be imported")


async def test_one_screen_answers_the_first_questions(cli: CliWorld) -> None:
    await busy_world(cli)
    result = await cli.invoke("status")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "Depth: 1"
    assert lines[1] == "Jobs:  1 Queued, 2 Failed (rows of all namespaces)"
    assert lines[3].split(maxsplit=7) == [
        *("POOL", "QUEUE", "DEPTH", "READY", "BUSY", "DESIRED", "MIN–MAX"),
        "LAST DECISION",
    ]
    assert lines[4].split(maxsplit=7) == [
        *("workers", "product-imports", "7", "3", "2", "4", "1–9"),
        "7 jobs need 4 workers",
    ]
    broken, well = lines[7:9]
    assert broken.split(maxsplit=5) == ["broken", "shopify", "acme", "True", "False", "The token is wrong"]
    assert well.split() == ["well", "shopify", "acme", "True", "True", "–"]
    assert lines[11].startswith("new ")
    assert lines[11].endswith("EveryProductFailed  No product could be imported")
    assert lines[12].startswith("failed-first ")


async def test_programs_get_the_same_as_json(cli: CliWorld) -> None:
    await busy_world(cli)
    found = await document(cli)
    assert (found["depth"], found["depthCapped"], found["jobsCountedIn"]) == (1, False, "PostgreSQL")
    assert found["jobs"] == {"Queued": 1, "Running": 0, "Succeeded": 0, "Failed": 2, "Cancelled": 0}
    assert found["pools"] == [
        {
            "name": "workers",
            "queue": "product-imports",
            "depth": 7,
            "ready": 3,
            "busy": 2,
            "desired": 4,
            "minReplicas": 1,
            "maxReplicas": 9,
            "lastDecision": "7 jobs need 4 workers",
        }
    ]
    assert [provider["name"] for provider in found["providers"]] == ["broken", "well"]
    assert found["providers"][1]["message"] is None
    assert [error["jobId"] for error in found["lastErrors"]] == ["new", "old"]
    assert found["lastErrors"][1]["job"] == "failed-first"
    assert found["notes"] == []


async def test_a_terminal_gets_the_same_in_its_width(cli: CliWorld) -> None:
    await busy_world(cli)
    shown = await text_on_terminal(cli, width=100)
    for word in (
        "Depth: 1",
        "2 Failed",
        "workers",
        "1–9",
        "broken",
        "The token is wrong",
        "EveryProductFailed",
    ):
        assert word in shown
    assert "\x1b[1m" in shown


async def test_an_unknown_depth_is_not_zero(cli: CliWorld) -> None:
    await cli.pool("measured", {"queueDepth": 3})
    await cli.pool("unmeasured", {"readyReplicas": 1}, queue="other")
    found = await document(cli, DATABASE_URL=None)
    assert found["depth"] is None
    assert {pool["name"]: pool["depth"] for pool in found["pools"]} == {"measured": 3, "unmeasured": None}
    result = await cli.invoke("status", DATABASE_URL=None)
    assert "Depth: unknown\n" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("unmeasured"))
    assert row.split()[:5] == ["unmeasured", "other", "unknown", "1", "–"]


async def test_pools_of_one_queue_are_not_counted_twice(cli: CliWorld) -> None:
    await cli.pool("one", {"queueDepth": 3})
    await cli.pool("two", {"queueDepth": 4})
    await cli.pool("three")
    await cli.pool("four", {"queueDepth": 10}, queue="other")
    assert (await document(cli, DATABASE_URL=None))["depth"] == 14


async def test_a_depth_beyond_the_count_is_shown_as_such(cli: CliWorld) -> None:
    await cli.pool(status={"queueDepth": 20_001})
    await cli.sql(
        """INSERT INTO "ProductImportJob" (id, "companyId", provider, status, "createdAt", "updatedAt")
        SELECT 'job-' || n, 'acme', 'shop', 'PENDING', now(), now() FROM generate_series(1, 20500) n"""
    )
    found = await document(cli)
    assert (found["depth"], found["depthCapped"]) == (20_001, True)
    for environment in ({}, {"DATABASE_URL": None}):
        result = await cli.invoke("status", **environment)
        assert "Depth: over 20,000\n" in result.stdout
        assert "product-imports  over 20,000" in result.stdout


async def test_without_a_pool_the_waiting_rows_still_count(cli: CliWorld) -> None:
    await cli.row("waits")
    result = await cli.invoke("status")
    assert "Depth: 1\n" in result.stdout
    assert "No WorkerPool: nothing runs jobs." in result.stdout
    assert (await document(cli, DATABASE_URL=None))["depth"] is None


async def test_of_many_providers_those_in_trouble_come_first(cli: CliWorld) -> None:
    for number in range(23):
        await cli.provider(f"a-well-{number:02}")
    await cli.provider("b-unchecked", Ready="Unknown", Reachable="Unknown", CredentialsValid="Unknown")
    await cli.provider("c-refused", Ready="False", message="spec.baseUrl: no such scheme")
    await cli.provider("d-away", Ready="False", Reachable="False", CredentialsValid="Unknown")
    found = await document(cli)
    assert [p["name"] for p in found["providers"]][:4] == ["c-refused", "d-away", "b-unchecked", "a-well-00"]
    assert len(found["providers"]) == 26
    for shown in ((await cli.invoke("status")).stdout, await text_on_terminal(cli)):
        assert "… and 6 more, 0 of them in trouble" in shown
        assert shown.index("c-refused") < shown.index("d-away") < shown.index("b-unchecked")
        assert "spec.baseUrl: no such scheme" in shown
        assert "a-well-16" in shown
        assert "a-well-17" not in shown


async def test_without_a_database_the_objects_are_counted(cli: CliWorld) -> None:
    await cli.pool(status={"queueDepth": 2})
    await cli.job("new")
    await cli.job("queued", {"phase": "Queued"})
    for number in range(7):
        failed = [condition("Failed", "True", reason="InvalidCredentials")]
        completed = f"2026-01-0{number + 1}T00:00:00Z"
        status = {"phase": "Failed", "completedAt": completed, "message": "no", "conditions": failed}
        await cli.job(f"failed-{number}", status)
    found = await document(cli, DATABASE_URL=None)
    assert found["jobs"] == {"Pending": 1, "Queued": 1, "Failed": 7}
    assert (found["jobsCountedIn"], found["depth"]) == ("objects", 2)
    assert [error["job"] for error in found["lastErrors"]] == [f"failed-{n}" for n in (6, 5, 4, 3, 2)]
    assert found["lastErrors"][0]["reason"] == "InvalidCredentials"
    assert found["notes"] == [
        "DATABASE_URL is not set: jobs without an object are not counted, paused queues not known"
    ]
    result = await cli.invoke("status", DATABASE_URL=None)
    assert result.stdout.startswith("Note: DATABASE_URL is not set")
    assert "1 Pending, 1 Queued, 7 Failed (objects of this namespace)" in result.stdout


async def test_a_database_that_is_away_is_noted_and_done_without(
    cli: CliWorld, postgres_server: PostgresServer, database_url: str
) -> None:
    await busy_world(cli)
    async with database_away(postgres_server.url(), database_url):
        result = await cli.invoke("status")
    assert result.exit_code == 0
    assert result.stdout.startswith("Note: PostgreSQL is not available: ")
    assert "not currently accepting connections" in result.stdout.splitlines()[0]
    assert "Depth: 7" in result.stdout
    assert "The token is wrong" in result.stdout


async def test_a_database_of_something_else_is_noted(cli: CliWorld, empty_database_url: str) -> None:
    await cli.pool(status={"queueDepth": 2})
    found = await document(cli, DATABASE_URL=empty_database_url)
    assert found["depth"] == 2
    assert "has not the tables of the import operator" in found["notes"][0]


async def test_an_empty_or_missing_namespace_is_questioned(cli: CliWorld) -> None:
    result = await cli.invoke("status", "-n", "no-such-namespace")
    assert result.exit_code == 0
    assert "Namespace no-such-namespace has no WorkerPool and no ImportProvider" in result.stdout


async def test_what_others_wrote_is_shown_as_it_is(cli: CliWorld) -> None:
    nasty = "[bold]x[/] [/nope] \x1b[2J\x1b[31m\u202egnp.exe\r\nnext"
    await cli.provider("shop", message=nasty, Ready="False")
    await cli.row("[red]id[/red]")
    await cli.finish("[red]id[/red]", reason="[/]", message=nasty)
    shown = (await cli.invoke("status")).stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.count(printable(nasty)) == 2
    assert "[red]id[/red]" in shown
    on_terminal = await text_on_terminal(cli, width=400)
    assert "\x1b[2J" not in on_terminal
    assert on_terminal.count("[bold]x[/] [/nope]") == 2
    assert "[red]id[/red]" in on_terminal


async def test_a_failure_elsewhere_is_named_with_its_namespace(cli: CliWorld) -> None:
    await cli.row("far", "far-job", namespace="elsewhere")
    # The object's namespace is the row's.
    await cli.finish("far", message="no")
    assert "elsewhere/far-job" in (await cli.invoke("status")).stdout


async def test_what_waits_for_a_person_is_shown_first_with_the_command(cli: CliWorld) -> None:
    await cli.pool(queue="express")
    queues, guards = QueueStateStore(cli.database), GuardStore(cli.database)
    await queues.set_paused("express", True, reason="upgrade", changed_by="ada")
    await queues.set_paused("elsewhere", True, reason=None, changed_by="ada")
    await guards.withhold(cli.namespace, cluster_uid="uid", number=37, reason="TooManyAtOnce")
    lines = (await cli.invoke("status")).stdout.splitlines()
    assert lines[0].startswith("Queue express is paused since 20")
    assert lines[0].endswith(f" by ada (upgrade): kubectl imports resume express -n {cli.namespace}")
    assert lines[1].startswith("37 cancellations withheld since 20")
    assert lines[1].endswith(f"gone at once: kubectl imports confirm-cancellations -n {cli.namespace}")
    assert lines[2] == "Depth: 0"
    found = await document(cli)
    assert [(queue["queue"], queue["changedBy"]) for queue in found["pausedQueues"]] == [("express", "ada")]
    assert found["withheldCancellations"]["withheld"] == 37
    await queues.set_paused("express", False, reason=None, changed_by="ada")
    await guards.settle(cli.namespace, cluster_uid="uid")
    found = await document(cli)
    assert (found["pausedQueues"], found["withheldCancellations"]) == ([], None)
