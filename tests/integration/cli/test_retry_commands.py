"""`kubectl imports retry`, `retry-items` and `retry-failed` against a real API server and PostgreSQL."""

import json
import re
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from cli_world import CliWorld

from import_cli import acting, retry_failed_command
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reports import FAILED_JOBS, FailedFilter, ReportStore
from import_core.domain.jobs import JobState
from import_core.domain.reopening import RETRY_ANNOTATION, RETRY_ITEMS_ANNOTATION


async def failed_object(
    cli: CliWorld, name: str, *, reason: str = "ProviderUnavailable", **values: Any
) -> str:
    """Create a failed job with its object; returns its id."""
    job_id = await cli.job(name)
    await cli.row(job_id, name, **values)
    await cli.finish(job_id, reason=reason)
    await cli.job_status(name, phase="Failed", jobId=job_id)
    return job_id


async def failed_row(
    cli: CliWorld, job_id: str, name: str | None = None, *, reason: str = "ProviderUnavailable", **values: Any
) -> None:
    await cli.row(job_id, name, **values)
    await cli.finish(job_id, reason=reason)


async def annotation(cli: CliWorld, name: str, key: str = RETRY_ANNOTATION) -> str | None:
    body = await cli.kube.get(IMPORT_JOB, cli.namespace, name)
    assert body is not None
    value: str | None = (body["metadata"].get("annotations") or {}).get(key)
    return value


async def state(cli: CliWorld, job_id: str) -> JobState:
    return (await JobStore(cli.database).read([job_id]))[job_id].state


async def retry_failed(cli: CliWorld, *options: str) -> dict[str, Any]:
    result = await cli.invoke("retry-failed", "-o", "json", *options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


async def test_a_dry_run_tells_all_and_changes_nothing(cli: CliWorld) -> None:
    await failed_object(cli, "with-object")
    await failed_row(cli, "row-1")
    await failed_row(cli, "row-2", reason="InvalidCredentials")
    await failed_row(cli, "uid-that-is-gone", "its-object-is-gone")
    result = await cli.invoke("retry-failed", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "Would retry 3 failed jobs: 1 by their ImportJob, 2 without an object",
        "REASON               JOBS  FOR EXAMPLE",
        "ProviderUnavailable  2     with-object, row-1",
        "InvalidCredentials   1     row-2",
        "1 more failed job left out: the ImportJob is gone; apply it again, under any name",
    ]
    found = await retry_failed(cli, "--dry-run")
    assert (found["jobs"], found["annotated"], found["reopened"], found["token"]) == (3, 0, 0, None)
    assert await annotation(cli, "with-object") is None
    assert await state(cli, "row-1") is JobState.FAILED


async def test_objects_get_the_annotation_and_rows_without_one_wait_again(cli: CliWorld) -> None:
    job_id = await failed_object(cli, "with-object")
    await failed_row(cli, "row-1")
    await failed_row(cli, "uid-that-is-gone", "its-object-is-gone")
    await cli.row("waits", None)
    result = await cli.invoke("retry-failed")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Found 2 failed jobs: 1 by their ImportJob, 1 without an object\n")
    assert "Retried 1 by an annotation of their ImportJob, 1 by their row alone" in result.stdout
    # The operator, which is not here, acts on the annotation; the API server's audit has the person's name.
    assert await annotation(cli, "with-object") is not None
    assert await state(cli, job_id) is JobState.FAILED
    assert await state(cli, "row-1") is JobState.PENDING
    assert await state(cli, "uid-that-is-gone") is JobState.FAILED
    body = await cli.kube.get(IMPORT_JOB, cli.namespace, "with-object")
    assert body is not None
    managers = {entry["manager"] for entry in body["metadata"]["managedFields"]}
    assert "kubectl-imports" in managers


async def test_one_call_uses_one_token_and_the_next_another(cli: CliWorld) -> None:
    for name in ("first", "second"):
        await failed_object(cli, name)
    token = (await retry_failed(cli))["token"]
    assert {await annotation(cli, name) for name in ("first", "second")} == {token}
    assert (await retry_failed(cli))["token"] != token


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        (("--company", "acme"), 2),
        (("--provider", "other-shop"), 1),
        (("--reason", "InvalidCredentials"), 1),
        (("--since", "1h"), 2),
        (("--since", "1h", "--company", "bean"), 1),
        (("--company", "nobody"), 0),
        ((), 3),
    ],
)
async def test_options_say_which_are_meant(cli: CliWorld, options: tuple[str, ...], jobs: int) -> None:
    await failed_row(cli, "acme-now", reason="InvalidCredentials")
    await failed_row(cli, "acme-long-ago", provider="other-shop")
    await cli.sql("""UPDATE "ProductImportJob" SET "completedAt" = now() - interval '2 hours'
        WHERE id = 'acme-long-ago'""")
    await failed_row(cli, "bean-now", company_id="bean")
    await failed_row(cli, "other-namespace", namespace="other")
    await cli.row("completed", None)
    await cli.finish("completed", JobState.COMPLETED.value)
    assert (await retry_failed(cli, *options))["reopened"] == jobs
    assert await state(cli, "other-namespace") is JobState.FAILED
    assert await state(cli, "completed") is JobState.COMPLETED


async def test_too_many_need_a_word(cli: CliWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "LIMIT_WITHOUT_YES", 2)
    monkeypatch.setattr(retry_failed_command, "BATCH", 2)
    for number in range(5):
        await failed_row(cli, f"row-{number}")
    result = await cli.invoke("retry-failed")
    assert result.exit_code == 2
    assert (
        "5 jobs would be retried, more than 2 at once: --dry-run shows them, --yes confirms it"
        in result.stderr
    )
    assert await state(cli, "row-0") is JobState.FAILED
    assert (await retry_failed(cli, "--yes"))["reopened"] == 5
    assert result.stdout.startswith("Found 5 failed jobs: 0 by their ImportJob, 5 without an object\n")
    assert (await cli.invoke("retry-failed")).stdout == "No failed job to retry\n"


async def test_pages_meet_each_job_once_also_one_that_fails_again_meanwhile(cli: CliWorld) -> None:
    for number in range(7):
        await failed_row(cli, f"row-{number}")
    # All of one moment: the key has to tell them apart.
    await cli.sql("""UPDATE "ProductImportJob" SET "createdAt" = '2026-01-01Z'""")
    reports = ReportStore(cli.database)
    wanted = FailedFilter(cli.namespace, await reports.now())
    met: list[str] = []
    async for page in reports.failed_jobs(wanted, page_size=2):
        met += [job.job_id for job in page]
        await cli.finish("row-6")
    assert met == [f"row-{number}" for number in range(6)]
    later = FailedFilter(cli.namespace, await reports.now())
    assert sum([len(page) async for page in reports.failed_jobs(later, page_size=3)]) == 7
    old = FailedFilter(cli.namespace, wanted.before - timedelta(days=1))
    assert [page async for page in reports.failed_jobs(old, page_size=2)] == []


async def test_a_page_reads_no_more_rows_than_it_holds(cli: CliWorld) -> None:
    await cli.sql("""INSERT INTO "ProductImportJob" (id, "companyId", provider, status, "createdAt")
        SELECT 'job-' || n, 'c', 'p', CASE WHEN n % 4 = 0 THEN 'FAILED' ELSE 'COMPLETED' END, now() - n * interval '1 s'
        FROM generate_series(1, 20000) n""")
    await cli.sql('ANALYZE "ProductImportJob"')
    reports = ReportStore(cli.database)
    wanted = asdict(FailedFilter(cli.namespace, await reports.now(), company="of-nobody"))
    position = {"after": wanted["before"] - timedelta(hours=3), "after_id": "", "limit": 200}
    async with cli.database.connection() as connection:
        cursor = await connection.execute(
            f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) {FAILED_JOBS}", {**wanted, **position}
        )
        plan = "\n".join(row[0] for row in await cursor.fetchall())
    (scan,) = re.findall(r"Scan.* on \"ProductImportJob\".*rows=([0-9]+)", plan)
    assert "import_job_shown" in plan, plan
    assert float(scan) <= 201, plan
    # Those that do not match were read, and nothing was read to be thrown away.
    assert "Removed by Filter" not in plan.split("Nested Loop", maxsplit=1)[0], plan


async def test_one_finished_job_runs_again(cli: CliWorld) -> None:
    await failed_object(cli, "acme-autumn")
    dry = await cli.invoke("retry", "acme-autumn", "--dry-run")
    assert dry.stdout == "acme-autumn would run again from the start (by an annotation of its ImportJob)\n"
    assert await annotation(cli, "acme-autumn") is None
    result = await cli.invoke("retry", "acme-autumn", DATABASE_URL=None)
    assert result.exit_code == 0, result.output
    assert f"kubectl imports watch acme-autumn -n {cli.namespace}" in result.stdout
    assert await annotation(cli, "acme-autumn") is not None
    await failed_row(cli, "my-id")
    assert (await cli.invoke("retry", "my-id")).stdout == (
        "my-id runs again from the start (by its row, it has no object)\n"
    )
    assert await state(cli, "my-id") is JobState.PENDING


async def test_only_the_failed_items_run_again(cli: CliWorld) -> None:
    job_id = await failed_object(cli, "acme-autumn")
    assert (await cli.invoke("retry-items", "acme-autumn")).stdout == (
        "acme-autumn has no failed items: nothing to do\n"
    )
    await cli.item_error(job_id, "1")
    await cli.item_error(job_id, "2")
    result = await cli.invoke("retry-items", "acme-autumn", "-o", "json")
    found = json.loads(result.stdout)
    assert (found["by"], found["failedItems"], found["jobId"]) == ("annotation", 2, job_id)
    assert await annotation(cli, "acme-autumn", RETRY_ITEMS_ANNOTATION) == found["token"]
    assert await annotation(cli, "acme-autumn") is None
    await failed_row(cli, "my-id")
    await cli.item_error("my-id", "1")
    assert "imports 1 failed item again (by its row" in (await cli.invoke("retry-items", "my-id")).stdout
    row = (await JobStore(cli.database).read(["my-id"]))["my-id"]
    assert (row.state, row.items_only) == (JobState.PENDING, True)


async def test_what_can_not_run_again_is_told(cli: CliWorld) -> None:
    await cli.row(await cli.job("waits"), "waits")
    await cli.row("cancelled", None)
    await cli.finish("cancelled", JobState.CANCELLED.value)
    await failed_row(cli, "uid-that-is-gone", "its-object-is-gone")
    for command in ("retry", "retry-items"):
        for job, words in {
            "waits": "waits is Queued: only a finished job can run again",
            "cancelled": "cancelled was cancelled, and is not run again",
            "its-object-is-gone": "The ImportJob of its-object-is-gone is gone",
            "nothing": f"There is no ImportJob nothing in namespace {cli.namespace}, and no row with that id",
        }.items():
            result = await cli.invoke(command, job)
            assert (result.exit_code, result.stdout) == (2, "")
            assert words in result.stderr
    assert await annotation(cli, "waits") is None
    missing = await cli.invoke("retry-failed", DATABASE_URL=None)
    assert missing.exit_code == 2
    assert missing.stderr == "Failed jobs are kept in PostgreSQL: set DATABASE_URL\n"
