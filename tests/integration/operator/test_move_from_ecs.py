"""The statements of docs/how-to/move-from-ecs.md, as they stand there: every job is requeued exactly once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest_asyncio
from redis.asyncio import Redis

from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.dispatching import UNDISPATCHED
from import_core.adapters.postgres.queue_state import read_states

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "move-from-ecs.md"
OLD_QUEUE = "bull:product-imports"
QUEUE = "product-imports"
WAITING, BEGUN, FAILED_FOR_GOOD, TO_RETRY, DONE = 1_500, 40, 7, 25, 30

# The platform's own table, before anything of ours was in it.
PLATFORM = """
CREATE TABLE "ProductImportJob" (
    id text PRIMARY KEY, "companyId" text NOT NULL, provider text NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'PENDING', "errorMessage" text,
    "createdAt" timestamptz NOT NULL DEFAULT now(), "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "startedAt" timestamptz, "completedAt" timestamptz);
INSERT INTO "ProductImportJob" (id, "companyId", provider, status, "createdAt", "startedAt", "errorMessage")
SELECT kind || '-' || n, 'company-' || n %% 3, CASE n %% 2 WHEN 0 THEN 'SHOPIFY' ELSE 'ROASTIFY' END, status,
    now() - interval '1 hour', CASE WHEN status <> 'PENDING' THEN now() - interval '30 minutes' END,
    CASE WHEN status = 'FAILED' THEN 'connect ETIMEDOUT' END
FROM (VALUES ('waiting', 'PENDING', %(waiting)s), ('begun', 'IN_PROGRESS', %(begun)s),
      ('failed', 'FAILED', %(failed)s), ('retry', 'FAILED', %(retry)s), ('done', 'COMPLETED', %(done)s))
    AS kinds (kind, status, many) CROSS JOIN LATERAL generate_series(1, many) AS n
"""
# Counts what the requeue does to each row, whoever runs it.
AUDIT = """
CREATE TABLE audit (id text NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER note AFTER UPDATE ON "ProductImportJob" FOR EACH ROW EXECUTE FUNCTION note();
"""


def block(language: str, title: str = "") -> str:
    """The page's one code block of this language and title."""
    found = re.findall(
        rf"^ *```{language} ?{title}\n(.*?)^ *```$",
        PAGE.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    assert len(found) == 1, f"{len(found)} blocks {language} {title}"
    return found[0]


def bull_entries() -> list[tuple[str, str, str]]:
    """What the old queue holds: list, its own id, the row's id. Some rows are in it twice, some entries have none."""
    entries = [("wait", f"{n}", f"waiting-{n}") for n in range(1, WAITING - 99)]
    entries += [("paused", f"p{n}", f"waiting-{n}") for n in range(WAITING - 99, WAITING - 9)]
    # The last ten waiting rows never reached Bull.
    entries += [("active", f"a{n}", f"begun-{n}") for n in range(1, BEGUN - 5)]
    entries += [("delayed", f"d{n}", f"retry-{n}") for n in range(1, TO_RETRY + 1)]
    entries += [
        ("wait", "again-1", "waiting-1"),
        ("delayed", "again-2", "begun-1"),
        ("wait", "again-3", "done-1"),
    ]
    return [*entries, ("wait", "x", "gone")]


@pytest_asyncio.fixture(loop_scope="session")
async def old_redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = Redis.from_url(redis_url, decode_responses=True)
    pipeline = redis.pipeline()
    for name, entry, job in bull_entries():
        pipeline.hset(f"{OLD_QUEUE}:{entry}", mapping={"data": json.dumps({"jobId": job}), "attemptsMade": 0})
        if name == "delayed":
            pipeline.zadd(f"{OLD_QUEUE}:{name}", {entry: 1})
        else:
            pipeline.rpush(f"{OLD_QUEUE}:{name}", entry)
    await pipeline.execute()
    yield redis
    await redis.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def platform_url(empty_database_url: str) -> str:
    """A database with the platform's table as the old service left it, migrated as the page says."""
    numbers = {"waiting": WAITING, "begun": BEGUN, "failed": FAILED_FOR_GOOD, "retry": TO_RETRY, "done": DONE}
    async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as connection:
        for statement in PLATFORM.split(";\n"):
            await connection.execute(statement, numbers if "%(" in statement else None)
    await migrate(empty_database_url)
    return empty_database_url


async def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def run_all(url: str, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            await rows(url, statement)


async def requeue_until_nothing_is_left(url: str) -> int:
    """Repeat the page's statement as its reader does; how many rows it requeued."""
    together = 0
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while (count := (await connection.execute(block("sql", "requeue"))).rowcount) > 0:
            assert count <= 1000
            together += count
    return together


async def command(url: str, redis_url: str, kubeconfig: Path, line: str) -> str:
    """Run one of the page's commands in a shell; what it prints."""
    environment = {
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "KUBECONFIG": str(kubeconfig),
    }
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        line,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def write_down(url: str, redis: Redis, *, connections: bool = True) -> None:
    """Steps 1 to 4 of the page."""
    await rows(url, block("sql", "connections"))
    if connections:
        await rows(
            url,
            """INSERT INTO import_move_connection
            SELECT DISTINCT "companyId", provider, "companyId" || '-' || lower(provider) FROM "ProductImportJob" """,
        )
    left = await redis.eval(block("lua"), 1, OLD_QUEUE)
    assert len(left) == len(bull_entries())
    await run_all(url, block("sql", "ledger"))
    async with (
        await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY import_move_bull FROM STDIN CSV") as copy,
    ):
        await copy.write("".join(f"{line}\n" for line in left))
    await rows(url, block("sql", "write down"))


async def test_every_job_that_is_left_is_requeued_exactly_once(platform_url: str, old_redis: Redis) -> None:
    await write_down(platform_url, old_redis)
    assert await rows(platform_url, block("sql", "missing connections")) == []
    assert await rows(platform_url, block("sql", "entries without rows")) == [("gone", "wait")]
    async with await psycopg.AsyncConnection.connect(platform_url, autocommit=True) as connection:
        await connection.execute(AUDIT)
    # Two people at once, and once more afterwards.
    counts = await asyncio.gather(*(requeue_until_nothing_is_left(platform_url) for _ in range(2)))
    assert sum(counts) + await requeue_until_nothing_is_left(platform_url) == WAITING + BEGUN + TO_RETRY
    changed = await rows(
        platform_url, "SELECT split_part(id, '-', 1), count(*), count(DISTINCT id) FROM audit GROUP BY 1"
    )
    assert sorted(changed) == [
        ("begun", BEGUN, BEGUN),
        ("retry", TO_RETRY, TO_RETRY),
        ("waiting", WAITING, WAITING),
    ]
    assert await rows(platform_url, block("sql", "nothing is lost")) == [(0, 0)]
    assert sorted(await rows(platform_url, block("sql", "what became of them"))) == [
        ("FAILED", "PENDING", TO_RETRY),
        ("IN_PROGRESS", "PENDING", BEGUN),
        ("PENDING", "PENDING", WAITING),
    ]
    due = await rows(
        platform_url,
        f"""SELECT count(*), count(*) FILTER (WHERE provider = "companyId" || '-shopify'
            OR provider = "companyId" || '-roastify') FROM "ProductImportJob"
        WHERE {UNDISPATCHED % {"queue": "'product-imports'"}} AND "startedAt" IS NULL""",
    )
    assert due == [(WAITING + BEGUN + TO_RETRY,) * 2], "the dispatcher sees all of them, by their connections"
    untouched = await rows(
        platform_url,
        """SELECT status, count(*) FROM "ProductImportJob" WHERE status <> 'PENDING' GROUP BY 1 ORDER BY 1""",
    )
    assert untouched == [("COMPLETED", DONE), ("FAILED", FAILED_FOR_GOOD)]


async def test_what_changed_meanwhile_is_left_alone(platform_url: str, old_redis: Redis) -> None:
    """A last old worker that finished, a job that was cancelled, one that the new system has."""
    await write_down(platform_url, old_redis)
    await rows(platform_url, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id = 'begun-1'""")
    await rows(platform_url, """UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = 'waiting-1'""")
    await rows(
        platform_url,
        """UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() WHERE id = 'waiting-2'""",
    )
    assert await requeue_until_nothing_is_left(platform_url) == WAITING + BEGUN + TO_RETRY - 3
    states = await rows(
        platform_url,
        """SELECT status, dispatch FROM "ProductImportJob"
        WHERE id IN ('begun-1', 'waiting-1', 'waiting-2') ORDER BY id""",
    )
    assert states == [("COMPLETED", None), ("CANCELLED", None), ("PENDING", 1)]


async def test_the_checks_find_what_is_wrong(platform_url: str, old_redis: Redis) -> None:
    await write_down(platform_url, old_redis, connections=False)
    missing = await rows(platform_url, block("sql", "missing connections"))
    assert ("company-0", "SHOPIFY") in missing
    assert len(missing) == 6
    not_requeued, nobody_has = (await rows(platform_url, block("sql", "nothing is lost")))[0]
    assert (not_requeued, nobody_has) == (WAITING + BEGUN + TO_RETRY, BEGUN)
    await rows(platform_url, """DELETE FROM "ProductImportJob" WHERE id = 'waiting-1'""")
    await requeue_until_nothing_is_left(platform_url)
    assert await rows(platform_url, block("sql", "nothing is lost")) == [(1, 0)]


async def test_the_queue_is_paused_before_any_operator_runs(
    platform_url: str, redis_url: str, control_plane: Path
) -> None:
    """The page's commands: migrating again is harmless, and pausing needs no pool and no operator."""
    text = PAGE.read_text(encoding="utf-8")
    prepare = re.search(r"^   ```sh\n(.*?)^   ```$", text, flags=re.MULTILINE | re.DOTALL)
    assert prepare is not None
    assert "python -m import_operator migrate" in prepare[1]
    await command(platform_url, redis_url, control_plane, prepare[1])
    assert await paused(platform_url)
    resume = re.search(r"^```sh\n(kubectl-imports resume .*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert resume is not None
    await command(platform_url, redis_url, control_plane, resume[1])
    assert not await paused(platform_url)


async def paused(url: str) -> bool:
    database = Database(url, application="tests")
    await database.open(wait_seconds=10)
    try:
        async with database.connection() as connection:
            state = (await read_states(connection, [QUEUE])).get(QUEUE)
    finally:
        await database.close()
    return state is not None and state.paused
