"""What the documented rights allow, and what a database user that may only read is told."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from cli_world import CliWorld
from search_catalogue import Catalogue, product

from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.domain.jobs import DEFAULT_QUEUE, JobState
from import_core.domain.notifications import Endpoint
from import_local.parts.postgres import PostgresServer

PAGE = Path(__file__).parents[3] / "docs/reference/command-line.md"
COMMANDS = {
    "retry": "to run a job without an object again",
    "retry-items": "to run a job without an object again",
    "retry-failed": "to run jobs without an object again",
    "requeue-orphans": "to hand jobs over again",
    "drain": "to pause a queue",
    "resume": "to resume a queue",
    "pause": "to pause imports",
    "stop-intake": "to stop or resume intake",
    "cancel": "to cancel jobs",
    "confirm-cancellations": "to confirm cancellations",
    "open-breaker": "to open a circuit breaker",
    "reset-breaker": "to reset a circuit breaker",
    "review": "to decide on products",
    "dead-letters retry": "to retry dead letters",
    "dead-letters discard": "to discard dead letters",
    "webhooks test": "to send a test message",
    "webhooks enable": "to enable a webhook",
}


def grants() -> tuple[str, str]:
    """The documented statements: to read, and to write."""
    reading, writing = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return reading, writing


@asynccontextmanager
async def user(server: PostgresServer, database_url: str, statements: str) -> AsyncIterator[str]:
    """A database user of its own with the rights that the statements give to `oncall`."""
    role = f"oncall_{database_url.rsplit('/', 1)[1]}"
    parts = urlsplit(database_url)
    async with await server.superuser_connection() as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
        # Its owner takes the rights away again at the end.
        await connection.execute(f"GRANT {role} TO {parts.username}".encode())
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as owner:
        await owner.execute(re.sub(r"\boncall\b", role, statements).encode())
        yield urlunsplit(parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}"))
        await owner.execute(f"DROP OWNED BY {role}".encode())
    async with await server.superuser_connection() as connection:
        await connection.execute(f"DROP ROLE {role}".encode())


async def world_for_all(cli: CliWorld) -> dict[str, tuple[str, ...]]:
    """Something to do for each command; returns how to call them."""
    for job_id in ("again", "items", "failed"):
        await cli.row(job_id)
        await cli.finish(job_id, reason="ProviderUnavailable")
        await cli.item_error(job_id, "1")
    await cli.row("lost")
    await cli.row("waits")
    await cli.sql("""UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() - interval '1 minute'
        WHERE id = 'lost'""")
    await cli.pool("express", queue="express")
    await cli.pool("usual")
    await QueueStateStore(cli.database).set_paused("express", True, reason=None, changed_by="ada")
    await GuardStore(cli.database).withhold(
        cli.namespace, cluster_uid="uid", number=3, reason="TooManyAtOnce"
    )
    for name in ("shop", "left-alone"):
        await cli.provider(name)
    await BreakerStore(cli.database).open_by_hand(cli.namespace, "left-alone", by="ada", reason=None)
    await cli.flagged("doubtful")
    for job_id in ("gave-up", "thrown-away"):
        await cli.row(job_id, provider=job_id)
        await cli.finish(job_id, "COMPLETED")
        await cli.item_error(job_id, "1")
        await cli.sql(
            """INSERT INTO imports.product_step (product_id, step, company_id, job_id, content_hash, state)
            VALUES (%s, 'index-product', 'acme', %s, 'h', 'Dead')""",
            *(f"of-{job_id}", job_id),
        )
    await WebhookStore(cli.database, namespace=cli.namespace).put(
        Endpoint("shop", "uid", "acme", "https://acme.example", "hooks", [])
    )
    arguments = {
        **{"webhooks test": ("shop",), "webhooks enable": ("shop",)},
        **{"open-breaker": ("shop", "--reason", "moves"), "reset-breaker": ("left-alone",)},
        **{"retry": ("again",), "retry-items": ("items",)},
        **{"drain": (DEFAULT_QUEUE,), "resume": ("express",)},
        **{"review": ("approve", "doubtful")},
        **{"dead-letters retry": ("--job", "gave-up"), "dead-letters discard": ("--job", "thrown-away")},
        **{"pause": ("--company", "acme"), "stop-intake": (DEFAULT_QUEUE,), "cancel": ("waits",)},
    }
    return {command: (*command.split(), *arguments.get(command, ())) for command in COMMANDS}


async def test_the_documented_rights_are_enough(
    cli: CliWorld, postgres_server: PostgresServer, database_url: str, redis_url: str
) -> None:
    calls = await world_for_all(cli)
    reading, writing = grants()
    async with user(postgres_server, database_url, reading + writing) as url:
        shown = await cli.invoke("status", DATABASE_URL=url)
        assert shown.stdout.startswith("Queue express is paused")
        for command in calls.values():
            result = await cli.invoke(*command, DATABASE_URL=url, REDIS_URL=redis_url)
            assert result.exit_code == 0, (command, result.output)
    rows = await cli.jobs.read(["again", "items", "failed", "lost"])
    assert {row.state for row in rows.values()} == {JobState.PENDING}


async def test_a_user_that_may_only_read_is_told_so_and_changes_nothing(
    cli: CliWorld, postgres_server: PostgresServer, database_url: str, redis_url: str
) -> None:
    calls = await world_for_all(cli)
    async with user(postgres_server, database_url, grants()[0]) as url:
        assert (await cli.invoke("errors", "failed", DATABASE_URL=url)).exit_code == 0
        assert "Note:" not in (await cli.invoke("top", DATABASE_URL=url)).stdout
        checks = json.loads((await cli.invoke("doctor", "-o", "json", DATABASE_URL=url)).stdout)["checks"]
        stores = [each for each in checks if each["check"].startswith(("postgresql", "platform"))]
        assert {each["verdict"] for each in stores} == {"ok"}, stores
        for name, command in calls.items():
            dry = await cli.invoke(*command, "--dry-run", DATABASE_URL=url, REDIS_URL=redis_url)
            assert dry.exit_code == 0, (name, dry.output)
            result = await cli.invoke(*command, DATABASE_URL=url, REDIS_URL=redis_url)
            assert result.exit_code == 3, (name, result.output)
            assert "PostgreSQL refuses: permission denied for table" in result.stderr
            assert f"a database user that may write is needed {COMMANDS[name]}" in result.stderr
    rows = await cli.jobs.read(["again", "items", "failed"])
    assert {row.state for row in rows.values()} == {JobState.FAILED}
    assert not (await QueueStateStore(cli.database).read([DEFAULT_QUEUE]))[DEFAULT_QUEUE].paused


async def test_a_user_that_may_only_read_may_search(
    cli: CliWorld, postgres_server: PostgresServer, database_url: str
) -> None:
    catalogue = Catalogue(cli.database)
    await catalogue.prepare("acme")
    await catalogue.add(product("id-a", "Red shirt"))
    async with user(postgres_server, database_url, grants()[0]) as url:
        result = await cli.invoke("search", "acme", "shirt", DATABASE_URL=url)
    assert result.exit_code == 0, result.output
    assert "id-a" in result.stdout


@pytest.mark.parametrize("command", ["drain", "confirm-cancellations"])
async def test_a_database_that_can_only_be_read_is_named(
    cli: CliWorld, database_url: str, command: str
) -> None:
    await GuardStore(cli.database).withhold(
        cli.namespace, cluster_uid="uid", number=3, reason="TooManyAtOnce"
    )
    name = database_url.rsplit("/", 1)[1]
    await cli.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    result = await cli.invoke(command)
    assert result.exit_code == 3
    assert result.stderr.startswith("PostgreSQL is read-only here; a database user that may write is needed")
