"""`kubectl imports errors` against a real API server and PostgreSQL."""

import json

import pytest
from cli_world import CliWorld, database_away

from import_cli import errors_command
from import_local.parts.postgres import PostgresServer

IMAGE_URL = "https://cdn.example/grinder.jpg?v=1"


async def failed_job(cli: CliWorld, name: str = "acme-autumn") -> str:
    """Create a finished job with two kinds of failed items; returns its id."""
    job_id = await cli.job(name)
    await cli.row(job_id, name)
    await cli.item_error(job_id, "p-1", document=json.dumps({"id": "p-1", "price": "free"}))
    await cli.item_error(job_id, "p-2", stage="download", url=IMAGE_URL, reason="NotAnImage", message="HTML")
    await cli.item_error(job_id, "p-3", message="price: [bold]-1[/] \x1b[2J")
    await cli.sql(
        "INSERT INTO imports.checkpoint (job_id, version, progress, pages) VALUES (%s, 1, %s, 1)",
        job_id,
        json.dumps({"products_total": 3, "products_imported": 1, "products_failed": 2, "images_failed": 1}),
    )
    await cli.finish(job_id, "COMPLETED")
    await cli.job_status(name, phase="Running", jobId=job_id, message="The object may be behind")
    return job_id


async def test_every_failed_item_is_a_line_with_its_reason(cli: CliWorld) -> None:
    await failed_job(cli)
    result = await cli.invoke("errors", "acme-autumn")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert (
        lines[0]
        == "acme-autumn: Succeeded. 1 product imported, 0 unchanged, 0 images; failed: 2 products, 1 image"
    )
    assert lines[1] == "2 map/InvalidPrice, 1 download/NotAnImage"
    assert lines[2].split() == ["PRODUCT", "STAGE", "REASON", "IMAGE", "MESSAGE"]
    assert lines[3].split(maxsplit=4) == ["p-1", "map", "InvalidPrice", "–", "price: no number"]
    assert lines[4].split() == ["p-2", "download", "NotAnImage", IMAGE_URL, "HTML"]
    assert lines[5].endswith("price: [bold]-1[/] \ufffd[2J")
    assert lines[6:] == ["-o json shows what the source gave for each of them"]
    assert "free" not in result.stdout


async def test_programs_get_them_as_json(cli: CliWorld) -> None:
    job_id = await failed_job(cli)
    result = await cli.invoke("errors", "acme-autumn", "-o", "json", "--limit", "2")
    found = json.loads(result.stdout)
    assert (found["job"], found["jobId"], found["phase"]) == ("acme-autumn", job_id, "Succeeded")
    assert found["total"] == 3
    assert found["reasons"][0] == {"stage": "map", "reason": "InvalidPrice", "count": 2}
    assert [item["externalId"] for item in found["items"]] == ["p-1", "p-2"]
    assert [item["url"] for item in found["items"]] == [None, IMAGE_URL]
    assert found["items"][0]["at"].endswith("+00:00")
    assert [item["document"] for item in found["items"]] == [{"id": "p-1", "price": "free"}, None]


async def test_a_terminal_gets_them_in_its_width(cli: CliWorld) -> None:
    await failed_job(cli)
    shown = await cli.on_terminal(
        lambda sources, console: errors_command.run(
            sources, console, job="acme-autumn", limit=100, as_json=False
        )
    )
    assert "\x1b[2J" not in shown
    for text in ("p-1", "price: no number", IMAGE_URL, "price: [bold]-1[/]"):
        assert text in shown


async def test_the_limit_says_what_it_hides(cli: CliWorld) -> None:
    await failed_job(cli)
    result = await cli.invoke("errors", "acme-autumn", "--limit", "1")
    assert "p-1" in result.stdout
    assert "p-2" not in result.stdout
    assert "… and 2 more: --limit 3\n" in result.stdout


async def test_many_reasons_are_counted_in_full(cli: CliWorld) -> None:
    job_id = await failed_job(cli)
    for number in range(60):
        await cli.item_error(job_id, f"q-{number:02}", reason=f"Reason{number}")
    result = await cli.invoke("errors", "acme-autumn", "--limit", "3")
    assert "… and 60 more: --limit 63\n" in result.stdout


async def test_a_row_without_an_object_is_found_by_its_id(cli: CliWorld) -> None:
    await cli.row("Row/1 [b]")
    await cli.finish("Row/1 [b]", reason="InvalidCredentials", message="The shop refuses the token")
    result = await cli.invoke("errors", "Row/1 [b]")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "Row/1 [b]: Failed. The shop refuses the token",
        "No product and no image failed.",
    ]


async def test_a_deleted_job_is_still_found_by_its_name(cli: CliWorld) -> None:
    job_id = await failed_job(cli)
    await cli.row("older", "acme-autumn")
    await cli.finish("older")
    await cli.sql("""UPDATE "ProductImportJob" SET "createdAt" = '2020-01-01' WHERE id = 'older'""")
    await cli.delete_job("acme-autumn")
    found = json.loads((await cli.invoke("errors", "acme-autumn", "-o", "json")).stdout)
    assert (found["jobId"], found["total"]) == (job_id, 3)
    other = await cli.invoke("errors", "acme-autumn", "-n", "elsewhere")
    assert other.exit_code == 2


async def test_a_job_that_was_refused_tells_why(cli: CliWorld) -> None:
    await cli.job("refused", {"phase": "Pending", "message": "companyId: not the provider's"})
    result = await cli.invoke("errors", "refused")
    assert result.exit_code == 0
    assert result.stdout.startswith("refused: Pending. companyId: not the provider's\n")


@pytest.mark.parametrize("name", ["no-such-job", "[red]x[/red]", "../../secrets", "x" * 300])
async def test_a_job_that_is_nowhere_is_named(cli: CliWorld, name: str) -> None:
    result = await cli.invoke("errors", name)
    assert result.exit_code == 2
    said = result.stderr.replace("\n", "")
    assert f"There is no ImportJob {name} in namespace {cli.namespace}, and no row with that id" in said
    assert result.stdout == ""


async def test_without_a_database_it_says_what_to_set(cli: CliWorld) -> None:
    await failed_job(cli)
    result = await cli.invoke("errors", "acme-autumn", DATABASE_URL=None)
    assert result.exit_code == 2
    assert result.stderr == "Failed items are kept in PostgreSQL: set DATABASE_URL\n"


async def test_a_database_that_is_away_ends_it(
    cli: CliWorld, postgres_server: PostgresServer, database_url: str
) -> None:
    await failed_job(cli)
    async with database_away(postgres_server.url(), database_url):
        result = await cli.invoke("errors", "acme-autumn")
    assert result.exit_code == 3
    assert result.stderr.startswith("PostgreSQL is not available: ")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
