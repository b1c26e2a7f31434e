"""pgvector alone: its plan on many rows, the transaction it writes in, and a server without the extension."""

import re
import uuid
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from vector_rows import Kept, Vector, vector, vectors

from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.vector_table import EXACT_ROWS
from import_core.adapters.vectors.opening import open_vector_index
from import_core.adapters.vectors.pgvector import NEAREST, PgVectorIndex
from import_core.adapters.vectors.settings import VectorSettings
from import_core.domain.errors import VectorIndexUnavailableError
from import_local.parts.postgres import PostgresServer

SOUGHT = vector("sought")
LARGE, SMALL = 5200, 300
"""Rows of two companies; the first is above what is searched without the index."""
# Random numbers are cheap to draw in the server and slow to send there.
FILL = """
INSERT INTO imports.product_embedding (product_id, kind, company_id, content_hash, model_checksum, embedding)
SELECT %(company)s || n, 'text', %(company)s, 'state-1', 'model-1',
    (SELECT array_agg(random() - 0.5 + 0 * (n + m))::real[]::vector FROM generate_series(1, 768) AS m)
FROM generate_series(1, %(rows)s) AS n
"""
EXPLAIN = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET client_min_messages = log;
"""


@pytest.fixture
def kept_here(database: Database) -> Kept:
    return Kept(PgVectorIndex(database), database)


@pytest_asyncio.fixture(loop_scope="session")
async def filled(database: Database) -> AsyncIterator[Database]:
    """Many rows; the index is built after them, which is faster."""
    async with await database.dedicated(purpose="filling") as connection:
        (name, definition) = await one(
            connection,
            "SELECT indexname, indexdef FROM pg_indexes WHERE indexname = 'product_embedding_nearest'",
        )
        await connection.execute(f"DROP INDEX imports.{name}")
        for company, rows in (("large", LARGE), ("small", SMALL), ("other", 700)):
            await connection.execute(FILL, {"company": company, "rows": rows})
        await connection.execute("SET maintenance_work_mem = '128MB'")
        await connection.execute(definition)
        await connection.execute("ANALYZE imports.product_embedding")
    yield database


async def one(connection: psycopg.AsyncConnection[tuple[object, ...]], query: str) -> tuple[str, ...]:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return tuple(str(value) for value in row)


async def plans(url: str, company: str, near: Vector, wanted: int) -> list[str]:
    """The plans of all statements that a search runs, from the server's own log."""
    seen: list[str] = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(EXPLAIN)
        connection.add_notice_handler(lambda notice: seen.append(notice.message_primary or ""))
        literal = "[" + ",".join(map(str, near)) + "]"
        await connection.execute(NEAREST, (company, literal, 2 * wanted, None, wanted))
    return [plan for plan in seen if "product_embedding" in plan]


async def exact(database: Database, company: str, near: Vector, limit: int) -> list[str]:
    async with database.connection() as connection:
        cursor = await connection.execute(
            """SELECT product_id FROM imports.product_embedding WHERE company_id = %s
            ORDER BY (embedding <=> %s::vector) + 0 LIMIT %s""",
            (company, "[" + ",".join(map(str, near)) + "]", limit),
        )
        return [row[0] for row in await cursor.fetchall()]


async def test_large_companies_are_searched_by_the_index_and_small_ones_completely(
    filled: Database, postgres_server: PostgresServer
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(filled.url)["dbname"]
    superuser = postgres_server.url(str(name), user="postgres")
    assert LARGE > EXACT_ROWS > SMALL
    large = "\n".join(await plans(superuser, "large", SOUGHT, 10))
    assert "product_embedding_nearest" in large
    small = "\n".join(await plans(superuser, "small", SOUGHT, 10))
    assert "product_embedding_nearest" not in small
    assert re.search(r"Index.*product_embedding_company", small)
    assert "Seq Scan" not in large + small

    index = PgVectorIndex(filled)
    hits = [hit.product_id for hit in await index.nearest("small", SOUGHT, limit=50)]
    assert hits == await exact(filled, "small", SOUGHT, 50), "nothing is lost behind the larger company"
    hits = [hit.product_id for hit in await index.nearest("large", SOUGHT, limit=50)]
    assert len(set(hits)) == 50
    # Numbers without any structure are the hardest case of an approximate index.
    assert len(set(hits) & set(await exact(filled, "large", SOUGHT, 50))) >= 25


@pytest.mark.parametrize("iterative_scan", ["relaxed_order", "off"])
async def test_company_that_hides_behind_nearer_ones_loses_nothing(
    kept_here: Kept, iterative_scan: str
) -> None:
    """All that is nearest belongs to others: a scan that stops after its first candidates finds nothing.

    "off" stands for a scan that gives up, as it does after many rows.
    """
    async with kept_here.database.connection() as connection:
        await connection.execute(FILL, {"company": "far", "rows": 40})
    await kept_here.keep(
        *(vectors(f"n-{at}", company="near", text=vector(at, near=SOUGHT, distance=0.2)) for at in range(200))
    )
    async with kept_here.database.transaction() as connection:
        # As if the company were a large one, and the planner had the choice of a large table.
        (body,) = await one(connection, "SELECT pg_get_functiondef('imports.nearest_embeddings'::regproc)")
        assert f"<= {EXACT_ROWS}" in body
        await connection.execute(body.replace(f"<= {EXACT_ROWS}", "<= 0"))
        for setting, value in (("enable_sort", "off"), ("hnsw.iterative_scan", iterative_scan)):
            await connection.execute(f"ALTER FUNCTION imports.nearest_embeddings SET {setting} = '{value}'")
    found = await kept_here.found("far", SOUGHT, limit=20)
    assert found == await exact(kept_here.database, "far", SOUGHT, 20)


async def test_nothing_is_kept_when_the_transaction_fails(kept_here: Kept) -> None:
    async def lose_the_claim() -> None:
        async with kept_here.database.transaction() as connection:
            await kept_here.index.write(connection, [vectors("p-1")])
            raise RuntimeError("the claim is lost")

    with pytest.raises(RuntimeError, match="claim"):
        await lose_the_claim()
    assert await kept_here.found("acme", SOUGHT) == []


async def test_put_alone_keeps_nothing(kept_here: Kept) -> None:
    await kept_here.index.put([vectors("p-1")])
    assert await kept_here.found("acme", SOUGHT) == []


async def test_server_without_the_extension_migrates_and_says_what_is_missing(
    postgres_server: PostgresServer,
) -> None:
    name = f"test_{uuid.uuid4().hex}"
    url = await postgres_server.create_database(name, with_vector=False)
    database = Database(url, application="tests")
    try:
        await migrate(url)
        await database.open(wait_seconds=10)
        index = open_vector_index(VectorSettings(), database)
        await index.put([vectors("p-1")])

        async def write() -> None:
            async with database.transaction() as connection:
                await index.write(connection, [vectors("p-1")])

        async def forget() -> None:
            async with database.transaction() as connection:
                await index.forget(connection, ["p-1"])

        for attempt in (
            index.check,
            lambda: index.nearest("acme", SOUGHT, limit=3),
            lambda: index.current({"p-1": "state-1"}, model_checksum="model-1"),
            forget,
            write,
        ):
            with pytest.raises(VectorIndexUnavailableError, match="lacks the extension vector"):
                await attempt()

        # Once it is there, the next run of the migrations is enough.
        async with await postgres_server.superuser_connection(name) as connection:
            await connection.execute("CREATE EXTENSION vector")
        await migrate(url)
        await index.check()
        await write()
        assert await Kept(index, database).found("acme", SOUGHT) == ["p-1"]
    finally:
        await database.close()
        await postgres_server.drop_database(name)
