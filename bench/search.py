"""Searches through the gateway in a catalogue of 50,000 products: cold, cached and with embeddings, beside plain SQL.

Over real HTTP to a gateway of this process, with PostgreSQL and Valkey of their own; sign-in is left out, as it is
remembered for 30 s. Cold: each query is asked for the first time. Cached: it was asked before. The reference is the
statement that finds and ranks, alone, on a connection that stands, for the same queries in the same turns. With
embeddings: an index that is not ours to measure answers at once, so the figures show what merging adds. The last two
rows have nothing left out: the gateway as a process, a caller's token, and the stand-in model's vectors of the 50,000
titles in pgvector. Run with `python -m bench search`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.places import state_folder
from bench.search_gateway import embed_titles, start_gateway
from bench.table import percentile, print_table
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.postgres.search_documents import MATCHING, get_values
from import_core.adapters.search.base import TextHit
from import_core.adapters.search.merged import ProductSearch, VectorSearch
from import_core.adapters.vectors.base import ProductVectors, VectorHit
from import_core.domain.search import CANDIDATES, parse_query
from import_gateway.api.operation import Call
from import_gateway.api.search import search_products
from import_gateway.metrics import GatewayMetrics
from import_gateway.searching import opened_search
from import_gateway.services import Services
from import_gateway.serving import AppServer
from import_gateway.settings import GatewaySettings
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer

PRODUCTS = 50_000
OTHER_COMPANIES = 50
OF_EACH_OTHER = 500
VOCABULARY = 4_000
QUERIES = 300
COMPANY = "bench"
DECISIONS = """
CREATE TABLE IF NOT EXISTS imports.quality_decision (
    product_id text PRIMARY KEY, company_id text NOT NULL, content_hash text NOT NULL, decision text NOT NULL,
    decided_by text NOT NULL)
"""
DOCUMENTS = """
INSERT INTO imports.search_document (product_id, company_id, content_hash, product_hash, words)
SELECT id, "companyId", 'state', "contentHash",
    array_to_tsvector(ARRAY['company ' || "companyId"]) || setweight(to_tsvector('simple', title), 'A')
    || setweight(to_tsvector('simple', vendor), 'B') || setweight(to_tsvector('simple', description), 'D')
FROM "Product"
"""


def words(numbers: random.Random, count: int) -> str:
    """Words as languages use them: few are frequent, most are rare."""
    return " ".join(f"word{int(VOCABULARY ** numbers.random())}" for _ in range(count))


async def fill(connection: Connection) -> None:
    """COPY the products of one large company and of many small ones, then index all of them."""
    numbers = random.Random(7)
    columns = (
        'id, "companyId", "externalId", "importSource", title, description, vendor, price, "contentHash"'
    )
    companies = [COMPANY] * PRODUCTS + [
        f"other-{number}" for number in range(OTHER_COMPANIES) for _ in range(OF_EACH_OTHER)
    ]
    async with connection.cursor() as cursor:
        async with cursor.copy(f'COPY "Product" ({columns}) FROM STDIN') as copy:
            for number, company in enumerate(companies):
                title, description = words(numbers, 5), words(numbers, 40)
                vendor = f"vendor{number % 50}"
                row = (f"p{number}", company, str(number), "shopify", title, description, vendor, 19.9, "h")
                await copy.write_row(row)
        async with cursor.copy(
            'COPY "ProductImage" (id, "productId", "sourceUrl", position, key, "contentType", width, height, bytes,'
            " thumbnails) FROM STDIN"
        ) as copy:
            for number in range(len(companies)):
                await copy.write_row(
                    (
                        f"i{number}",
                        f"p{number}",
                        "u",
                        0,
                        f"images/{number}",
                        "image/webp",
                        800,
                        600,
                        9,
                        '{"256": "k"}',
                    )
                )
        await cursor.execute(DECISIONS)
        await cursor.execute(DOCUMENTS)
        await cursor.execute(
            """INSERT INTO imports.quality_decision (product_id, company_id, content_hash, decision, decided_by)
            SELECT id, "companyId", 'h', 'approved', 'rules' FROM "Product" WHERE "companyId" = %s""",
            (COMPANY,),
        )
        await cursor.execute(
            "INSERT INTO imports.catalogue_version (company_id, version, namespaces) VALUES (%s, 1, '{imports}')",
            (COMPANY,),
        )
        await cursor.execute("VACUUM ANALYZE")


def queries() -> list[str]:
    """Different ones: of one, two and three words, frequent and rare, unfinished and finished."""
    numbers = random.Random(11)
    found: dict[str, None] = {}
    while len(found) < QUERIES:
        asked = words(numbers, numbers.choice((1, 1, 2, 2, 2, 3)))
        found[asked if numbers.random() < 0.5 else f"{asked}."] = None
    return list(found)


class NearAnything:
    """An embedding model and an index of embeddings that take no time."""

    checksum = "bench"
    name = "bench"

    async def embed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    async def embed_images(self, images: Sequence[bytes]) -> list[list[float] | None]:
        return [None for _ in images]

    async def nearest(
        self, company_id: str, vector: Sequence[float], *, limit: int, model_checksum: str | None = None
    ) -> list[VectorHit]:
        return [VectorHit(f"p{number}", 1 - number / PRODUCTS) for number in range(limit)]

    async def put(self, vectors: Sequence[ProductVectors]) -> None: ...

    async def write(self, connection: Connection, vectors: Sequence[ProductVectors]) -> None: ...

    async def remove(self, versions: Mapping[str, int]) -> None: ...

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None: ...

    async def current(self, states: Mapping[str, str], *, model_checksum: str) -> frozenset[str]:
        return frozenset(states)

    async def check(self) -> None: ...

    async def aclose(self) -> None: ...


async def main() -> None:
    """Start the servers, fill them, ask in turns, print."""
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
        valkey = ValkeyServer(folder / "valkey", log_path=folder / "valkey.log")
        async with AsyncExitStack() as stack:
            await postgres.start()
            stack.push_async_callback(postgres.stop)
            await valkey.start()
            stack.push_async_callback(valkey.stop)
            url = await postgres.create_database("bench")
            await migrate(url)
            database = Database(url, application="bench")
            await database.open(wait_seconds=10)
            stack.push_async_callback(database.close)
            filling = await database.dedicated(purpose="fill")
            async with filling:
                await fill(filling)
                await embed_titles(filling, COMPANY, folder / "model")
            await _measure(stack, folder, database, url, valkey.url)


async def _measure(stack: AsyncExitStack, folder: Path, database: Database, url: str, redis_url: str) -> None:
    settings = GatewaySettings(database_url=url, redis_url=redis_url, http_port=0, search_seconds=30)
    near = NearAnything()
    plain = await stack.enter_async_context(opened_search(settings, database))
    with_vectors = await stack.enter_async_context(
        opened_search(settings, database, vectors=VectorSearch(embedder=near, index=near))
    )
    ask = await stack.enter_async_context(
        _Client({"words": plain, "words and meaning": with_vectors}, settings)
    )
    process = await start_gateway(stack, folder, database_url=url, model=folder / "model", company=COMPANY)
    taken: dict[str, list[float]] = {}
    bare = await database.dedicated(purpose="reference")
    stack.push_async_callback(bare.close)
    ways: dict[str, Callable[[str], Awaitable[object]]] = {
        "plain SQL alone: find and rank": lambda query: _plain(bare, query),
        "SELECT 1, on the same connection": lambda _: bare.execute("SELECT 1"),
        "HTTP alone: an answer of nothing": lambda _: ask("nothing", ""),
        "words, cold": lambda query: ask("words", query),
        "words, cached": lambda query: ask("words", query),
        "words and meaning, cold": lambda query: ask("words and meaning", query),
        "words and meaning, cached": lambda query: ask("words and meaning", query),
        "the gateway's process with a token, pgvector and a model, cold": process,
        "the same, cached": process,
    }
    asked = queries()
    # The first one opens everything.
    await _plain(bare, asked[0])
    await process("something else")
    for query in asked:
        for name, way in ways.items():
            started = time.perf_counter()
            await way(query)
            taken.setdefault(name, []).append((time.perf_counter() - started) * 1000)
    _report(taken)


async def _plain(connection: Connection, query: str) -> list[TextHit]:
    values = get_values(COMPANY, parse_query(query), ranked=5_000, limit=CANDIDATES)
    return [TextHit(*row) for row in await (await connection.execute(MATCHING, values)).fetchall()]


class _Client:
    """The search's own handler behind real HTTP, without sign-in."""

    def __init__(self, searches: dict[str, ProductSearch], settings: GatewaySettings) -> None:
        self._searches, self._settings = searches, settings
        self._stack = AsyncExitStack()
        self._client = httpx2.AsyncClient(trust_env=False, timeout=60)

    async def __aenter__(self) -> Callable[[str, str], Awaitable[None]]:
        routes = [
            Route(f"/{number}", self._route(search)) for number, search in enumerate(self._searches.values())
        ]
        routes.append(Route("/nothing", _answer_nothing))
        server = AppServer(Starlette(routes=routes), "127.0.0.1", 0, close_seconds=1)
        running = asyncio.create_task(server.run())
        paths = {
            name: f"http://127.0.0.1:{server.port}/{number}" for number, name in enumerate(self._searches)
        }
        paths["nothing"] = f"http://127.0.0.1:{server.port}/nothing"

        async def end() -> None:
            await self._client.aclose()
            server.stop()
            await running

        self._stack.push_async_callback(end)

        async def ask(name: str, query: str) -> None:
            answer = await self._client.get(paths[name], params={"companyId": COMPANY, "q": query})
            if answer.status_code != 200 or (query and answer.json()["degraded"]):
                raise RuntimeError(answer.text)

        return ask

    async def __aexit__(self, *_details: object) -> None:
        await self._stack.aclose()

    def _route(self, search: ProductSearch) -> Callable[[Request], Awaitable[Response]]:
        services = cast(
            "Services", SimpleNamespace(settings=self._settings, search=search, metrics=GatewayMetrics())
        )

        async def answer(request: Request) -> Response:
            return await search_products(Call(services, request, None, check=_nothing))

        return answer


async def _answer_nothing(_request: Request) -> Response:
    return Response()


async def _nothing() -> None: ...


def _report(taken: dict[str, list[float]]) -> None:
    others = OTHER_COMPANIES * OF_EACH_OTHER
    print(
        f"{PRODUCTS:,} products of one company, {others:,} of {OTHER_COMPANIES} others, {QUERIES} queries\n"
    )
    reference = taken["plain SQL alone: find and rank"]
    rows = [
        (
            name,
            *(f"{percentile(values, share):.1f}" for share in (0.5, 0.95, 1.0)),
            f"{percentile(values, 0.95) / percentile(reference, 0.95):.2f}",
        )
        for name, values in taken.items()
    ]
    print_table(("milliseconds", "p50", "p95", "max", "p95 ÷ plain SQL"), rows)
