"""`kubectl imports dead-letters` against a real API server and PostgreSQL."""

import json
from typing import Any

from cli_world import CliWorld
from test_retry_commands import annotation

from import_core.domain.reopening import RETRY_ITEMS_ANNOTATION
from import_core.domain.steps import STEPS_IN_ORDER

EMBED, CHECK, INDEX = STEPS_IN_ORDER


async def dead(
    cli: CliWorld, external_id: str, *, company: str = "acme", job: str = "job-1", **values: Any
) -> None:
    """A product whose embedding failed for good."""
    product = f"row-{company}-{external_id}"
    await cli.sql(
        """INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, "createdAt", "updatedAt")
        VALUES (%s, %s, %s, 'shopify', 'Tea', now(), now())""",
        *(product, company, external_id),
    )
    retryable, reason = values.get("retryable", True), values.get("reason", "Timeout")
    await cli.sql(
        """INSERT INTO imports.product_step
            (product_id, step, company_id, job_id, content_hash, state, attempts, retryable, reason, message)
        VALUES (%s, %s, %s, %s, 'h', 'Dead', 4, %s, %s, 'no answer \x1b[2J'),
            (%s, %s, %s, %s, 'h', 'Halted', 0, true, NULL, NULL)""",
        *(product, EMBED.value, company, job, retryable, reason),
        *(product, CHECK.value, company, job),
    )


async def states(cli: CliWorld) -> list[tuple[Any, ...]]:
    async with cli.database.connection() as connection:
        cursor = await connection.execute(
            "SELECT product_id, step, state, attempts FROM imports.product_step ORDER BY product_id, step"
        )
        return await cursor.fetchall()


async def test_they_are_listed_and_chosen(cli: CliWorld) -> None:
    await dead(cli, "1")
    await dead(cli, "2", company="bean", job="job-2", reason="NoImage", retryable=False)
    lines = (await cli.invoke("dead-letters", "list")).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["PRODUCT", "2", "1"]
    assert "\x1b" not in lines[1]
    for option in (("--company", "bean"), ("--job", "job-2"), ("--reason", "NoImage"), ("--product", "2")):
        found = json.loads((await cli.invoke("dead-letters", "list", *option, "-o", "json")).stdout)
        assert [(item["externalId"], item["retryable"]) for item in found["items"]] == [("2", False)], option
    assert (await cli.invoke("dead-letters", "list", "--step", INDEX.value)).stdout == "No dead letter.\n"
    assert "… and more" in (await cli.invoke("dead-letters", "list", "--limit", "1")).stdout
    shown = await cli.invoke("status")
    assert f"Dead letters: 2 {EMBED.value} (kubectl imports dead-letters list)" in shown.stdout


async def test_one_product_is_shown_with_all_its_steps(cli: CliWorld) -> None:
    await dead(cli, "1")
    await dead(cli, "1", company="bean")
    assert (await cli.invoke("dead-letters", "show", "1")).exit_code == 2
    shown = await cli.invoke("dead-letters", "show", "1", "--company", "acme")
    assert shown.stdout.splitlines()[0] == "1: Tea"
    assert f"{EMBED.value}: Timeout (out of 4 tries): no answer" in shown.stdout
    assert "Halted" in shown.stdout
    missing = await cli.invoke("dead-letters", "show", "nobody")
    assert (missing.exit_code, missing.stderr) == (2, "no dead letter of product nobody\n")


async def test_a_retry_makes_them_due_in_a_batch_and_those_behind_them_wait(cli: CliWorld) -> None:
    await dead(cli, "1")
    await dead(cli, "2", reason="NoImage")
    assert (await cli.invoke("dead-letters", "retry")).exit_code == 2
    before = await states(cli)
    dry = await cli.invoke("dead-letters", "retry", "--reason", "Timeout", "--dry-run")
    assert dry.stdout == f"1 {EMBED.value}/Timeout\n1 dead letter would be retried\n"
    assert await states(cli) == before
    done = await cli.invoke("dead-letters", "retry", "--reason", "Timeout")
    assert done.stdout.splitlines()[-1] == "1 dead letter retried"
    assert await states(cli) == [
        ("row-acme-1", EMBED.value, "Due", 0),
        ("row-acme-1", CHECK.value, "Waiting", 0),
        *before[2:],
    ]
    async with cli.database.connection() as connection:
        cursor = await connection.execute(
            """SELECT j.queue, j.status, j."parentId" = j.id FROM imports.product_step s
            JOIN "ProductImportJob" j ON j.id = s.batch_id"""
        )
        assert await cursor.fetchall() == [(EMBED.value, "PENDING", True)]


async def test_what_is_discarded_is_no_dead_letter_any_more(cli: CliWorld) -> None:
    await dead(cli, "1")
    done = await cli.invoke("dead-letters", "discard", "--all", "-o", "json")
    assert json.loads(done.stdout) == {
        "found": 1,
        "reasons": {f"{EMBED.value}/Timeout": 1},
        "discarded": 1,
        "skipped": 0,
        "dryRun": False,
    }
    line = json.loads(done.stderr)
    assert (line["event"], line["changed"], line["companyIds"]) == ("dead_letters.discarded", 1, ["acme"])
    assert line["caller"]
    async with cli.database.connection() as connection:
        cursor = await connection.execute(
            "SELECT message FROM imports.product_step WHERE state = 'Discarded'"
        )
        ((message,),) = await cursor.fetchall()
    assert message.endswith(f"(discarded by {line['caller']})")
    assert [row[2] for row in await states(cli)] == ["Discarded", "Halted"]
    assert (await cli.invoke("dead-letters", "list")).stdout == "No dead letter.\n"


async def given_up(cli: CliWorld) -> str:
    """An import with an object, and one without, that gave up three products; returns the first one's id."""
    job_id = await cli.job("acme-autumn")
    await cli.row(job_id, "acme-autumn")
    await cli.row("my-id", provider="other")
    for job, external_id in ((job_id, "1"), (job_id, "2"), ("my-id", "3")):
        await cli.item_error(job, external_id)
    for job in (job_id, "my-id"):
        await cli.finish(job, "COMPLETED")
    return job_id


async def test_what_imports_gave_up_is_listed_beside_dead_steps(cli: CliWorld) -> None:
    await dead(cli, "9")
    await given_up(cli)
    lines = (await cli.invoke("dead-letters", "list")).stdout.splitlines()[1:]
    assert [line.split()[:3] for line in lines] == [
        ["9", "acme", EMBED.value],
        ["3", "acme", "import"],
        ["1", "acme", "import"],
        ["2", "acme", "import"],
    ]
    of_job = await cli.invoke(
        "dead-letters", "list", "--job", "acme-autumn", "--step", "import", "-o", "json"
    )
    items = json.loads(of_job.stdout)["items"]
    assert [(item["externalId"], item["productId"], item["reason"]) for item in items] == [
        ("1", None, "InvalidPrice"),
        ("2", None, "InvalidPrice"),
    ]
    shown = (await cli.invoke("dead-letters", "show", "1")).stdout
    assert shown == "1: never imported\nimport: InvalidPrice (invalid): price: no number\n"


async def test_a_retry_of_what_imports_gave_up_has_each_import_its_failed_items_again(cli: CliWorld) -> None:
    job_id = await given_up(cli)
    done = await cli.invoke("dead-letters", "retry", "--step", "import")
    assert done.stdout.splitlines() == ["3 import/InvalidPrice", "3 dead letters retried"], done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["jobIds"], line["changed"]) for line in lines] == [
        ("dead_letters.retried", ["my-id"], 1),
        ("dead_letters.retried", [job_id], 2),
    ]
    assert await annotation(cli, "acme-autumn", RETRY_ITEMS_ANNOTATION)
    async with cli.database.connection() as connection:
        cursor = await connection.execute("""SELECT id FROM "ProductImportJob" WHERE "itemsOnly" """)
        assert await cursor.fetchall() == [("my-id",)]
    # Until the operator has seen the annotation they are still there.
    again = await cli.invoke("dead-letters", "retry", "--product", "1")
    assert again.stdout.splitlines()[1:] == [
        "1 dead letter left as they are: acme-autumn was asked to import its failed items again already, and is"
        " about to",
        "0 dead letters retried",
    ]


async def test_what_imports_gave_up_is_discarded_with_a_line_that_says_by_whom(cli: CliWorld) -> None:
    job_id = await given_up(cli)
    dry = await cli.invoke("dead-letters", "discard", "--product", "2", "--dry-run")
    assert dry.stdout == "1 import/InvalidPrice\n1 dead letter would be discarded\n"
    done = await cli.invoke("dead-letters", "discard", "--product", "2")
    assert done.stdout.splitlines()[-1] == "1 dead letter discarded"
    line = json.loads(done.stderr)
    assert (line["jobIds"], line["steps"], line["changed"]) == ([job_id], ["import"], 1)
    errors = (await cli.invoke("errors", "acme-autumn")).stdout
    assert f"price: no number (discarded by {line['caller']})" in errors
    listed = (await cli.invoke("dead-letters", "list")).stdout.splitlines()[1:]
    assert [row.split()[0] for row in listed] == ["3", "1"]
    assert "1 failed item again" in (await cli.invoke("retry-items", "acme-autumn", "--dry-run")).stdout


async def test_one_whose_object_is_gone_can_only_be_discarded(cli: CliWorld) -> None:
    await cli.row("gone", "acme-spring")
    await cli.item_error("gone", "1")
    await cli.finish("gone", "COMPLETED")
    done = await cli.invoke("dead-letters", "retry", "--all", "-o", "json")
    assert (json.loads(done.stdout)["retried"], json.loads(done.stdout)["skipped"]) == (0, 1)
    assert (
        "The ImportJob of acme-spring is gone" in (await cli.invoke("dead-letters", "retry", "--all")).stdout
    )
    assert (await cli.invoke("dead-letters", "discard", "--all")).stdout.endswith("1 dead letter discarded\n")
