"""`kubectl imports dead-letters` against a real API server and PostgreSQL."""

import json
from typing import Any

from cli_world import CliWorld

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
    assert dry.stdout == f"1 {EMBED.value}/Timeout\n1 step would be retried\n"
    assert await states(cli) == before
    done = await cli.invoke("dead-letters", "retry", "--reason", "Timeout")
    assert done.stdout.splitlines()[-1] == "1 step retried"
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
        "dryRun": False,
    }
    assert [row[2] for row in await states(cli)] == ["Discarded", "Halted"]
    assert (await cli.invoke("dead-letters", "list")).stdout == "No dead letter.\n"
