"""A whole feed: source page → checked, mapped, upserted by the worker's pipeline, divided by bare COPY + upsert.

The same feed is then imported again, unchanged. Each run is a process of its own; the pages' texts lie in a file, so
no network and no provider's limit is in it. Run with `python -m bench feed`; FEED_PRODUCTS and
FEED_ROUNDS set the size.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import msgspec
import psycopg
import structlog

from bench.feed_pages import FeedProvider, write_feed
from bench.measuring import Clock, Figures, Work, cpu_of_tree, in_process
from bench.places import state_folder
from bench.products import claim_job
from bench.table import median_of, print_table, ratios_of
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.domain.mapping import compile_mapping
from import_core.observability.metrics import WorkerMetrics
from import_local.parts.postgres import SUPERUSER, PostgresServer
from import_worker.pipeline.pages import CatalogueImport, ImageStage, LiveProgress
from import_worker.pipeline.products import ImageOptions, map_page

PRODUCTS = int(os.environ.get("FEED_PRODUCTS", "20000"))
ROUNDS = int(os.environ.get("FEED_ROUNDS", "5"))
FIELDS = {
    "external_id": '"externalId"',
    "title": "title",
    "description": "description",
    "handle": "handle",
    "sku": "sku",
    "barcode": "barcode",
    "price": "price",
    "compare_at_price": '"compareAtPrice"',
    "currency": "currency",
    "vendor": "vendor",
    "product_type": '"productType"',
    "status": "status",
    "tags": "tags",
    "inventory_quantity": '"inventoryQuantity"',
    "variants": "variants",
}
COSTS = ("CPU-ms per 1,000 products", "PostgreSQL's CPU-ms per 1,000", "peak MiB")
OWN = 'id, "companyId", "importSource", "contentHash"'
COLUMNS = f"{OWN}, {', '.join(FIELDS.values())}"
MERGE = f"""
INSERT INTO "Product" ({COLUMNS}) SELECT {COLUMNS} FROM staged
ON CONFLICT ("companyId", "externalId", "importSource") DO UPDATE SET
    {", ".join(f"{column} = excluded.{column}" for column in [*FIELDS.values(), '"contentHash"'])}
"""
# Of all row versions of a company: equal where none was written in between.
VERSIONS = """
SELECT count(*), md5(string_agg(p.xmin::text || p.ctid::text, ',' ORDER BY p.id))
FROM "Product" p WHERE "companyId" = %s
"""


async def import_feed(clock: Clock, url: str, path: Path, company: str) -> str:
    """What a worker does with a job of this company, from the pages' texts to the last checkpoint."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    database = Database(url, application="bench", maximum=2)
    await database.open(wait_seconds=10)
    claim = await claim_job(database, company)
    importing = CatalogueImport(
        claim=claim,
        provider=FeedProvider(path),
        import_source="shopify",
        mapping=compile_mapping("shopify"),
        options=ImageOptions(enabled=False),
        catalogue=CatalogueStore(database),
        images=cast("ImageStage", None),
        metrics=WorkerMetrics(),
        live=(live := LiveProgress()),
        on_commit=lambda: None,
        connection="bench",
        fingerprint="bench",
        max_products=10_000_000,
    )
    clock.start()
    await importing.run()
    clock.stop()
    await database.close()
    return f"{live.current.products_imported} imported, {live.current.products_unchanged} unchanged"


async def copy_feed(clock: Clock, url: str, path: Path, company: str) -> None:
    """The reference: rows that are ready go through COPY into a staging table, and one statement upserts them."""
    mapping, rows = compile_mapping("shopify"), []
    async for page in FeedProvider(path).pages(None):
        for item in (await map_page(page, mapping, ImageOptions(enabled=False))).items:
            assert item.write is not None  # nothing is known as it was at its source
            values = [_column(name, getattr(item.write.product, name)) for name in FIELDS]
            rows.append((str(uuid4()), company, "shopify", item.content_hash, *values))
    async with await psycopg.AsyncConnection.connect(url) as connection:
        clock.start()
        await connection.execute(f'CREATE TEMP TABLE staged AS SELECT {COLUMNS} FROM "Product" LIMIT 0')
        async with connection.cursor().copy(f"COPY staged ({COLUMNS}) FROM STDIN") as copy:
            for row in rows:
                await copy.write_row(row)
        await connection.execute(MERGE)
        await connection.commit()
        clock.stop()


def _column(name: str, value: Any) -> Any:
    if name == "variants":
        return msgspec.json.encode(value).decode()
    return list(value) if name == "tags" else value


@dataclass(slots=True)
class Counted:
    """CPU seconds, once they are known."""

    cpu_seconds: float = 0.0


class Server:
    """A database for the runs, and what the server took for each."""

    def __init__(self, url: str, superuser_url: str, pid: int) -> None:
        self.url = url
        self._superuser_url = superuser_url
        self._pid = pid

    async def run(self, name: str, work: Work, *arguments: Any) -> Taken:
        """Run one side in a process of its own."""
        with self.counted() as counted:
            figures = await in_process(name, work, self.url, *arguments, on_uvloop=True)
        return Taken(figures, counted.cpu_seconds)

    @contextmanager
    def counted(self) -> Iterator[Counted]:
        """Count what the server takes meanwhile."""
        counted, before = Counted(), cpu_of_tree(self._pid)
        yield counted
        counted.cpu_seconds = cpu_of_tree(self._pid) - before

    async def versions(self, company: str) -> tuple[Any, ...] | None:
        """Equal where no row version of a company's products was written in between."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            return await (await connection.execute(VERSIONS, (company,))).fetchone()

    async def clear(self) -> None:
        """Empty the catalogue, so that no run meets the rows of others or the pages they left to be written."""
        async with await psycopg.AsyncConnection.connect(self._superuser_url, autocommit=True) as connection:
            await connection.execute('TRUNCATE "Product" CASCADE')
            await connection.execute("CHECKPOINT")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run took; the server's CPU seconds beside its own."""

    own: Figures
    server_cpu_seconds: float


@asynccontextmanager
async def with_server() -> AsyncIterator[Server]:
    """PostgreSQL with our tables, durable as in an installation."""
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        server = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
        await server.start()
        try:
            url = await server.create_database("bench")
            await migrate(url)
            yield Server(url, server.url("bench", user=SUPERUSER), server.processes()[0].pid)
        finally:
            await server.stop()


async def main() -> None:
    """Measure in turns, print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feed.jsonl"
        write_feed(path, PRODUCTS)
        async with with_server() as server:
            rounds = [await measure_round(server, path, turn) for turn in range(ROUNDS)]
    report(rounds)


async def measure_round(server: Server, path: Path, turn: int) -> dict[str, Taken]:
    """Each way once; the order is turned round every second time."""
    taken: dict[str, Taken] = {}
    for kind in ("copy", "import")[:: -1 if turn % 2 else 1]:
        await server.clear()
        company = f"{kind}-{turn}"
        work = copy_feed if kind == "copy" else import_feed
        taken[kind] = await server.run(company, work, path, company)
        if kind == "import":
            before = await server.versions(company)
            taken["again"] = await server.run(f"again-{turn}", import_feed, path, company)
            if await server.versions(company) != before:
                raise RuntimeError("the unchanged feed wrote row versions")
    return taken


def report(rounds: Sequence[Mapping[str, Taken]]) -> None:
    """Print medians with ranges over the rounds."""
    print(f"{PRODUCTS:,} products of 15 fields and 3 variants, {ROUNDS} interleaved rounds\n")
    rows = []
    for kind, title, reference in (
        ("copy", "bare COPY + INSERT … ON CONFLICT, one transaction", "copy"),
        ("import", "source page → checked, mapped, upserted", "copy"),
        ("again", "the same feed again, no row version written", "import"),
    ):
        taken = [each[kind] for each in rounds]
        seconds = [one.own.seconds for one in taken]
        rows.append(
            (
                title,
                median_of([PRODUCTS / one for one in seconds]),
                median_of(ratios_of([each[reference].own.seconds for each in rounds], seconds)),
                median_of([1e6 * one.own.cpu_seconds / PRODUCTS for one in taken]),
                median_of([1e6 * one.server_cpu_seconds / PRODUCTS for one in taken]),
                median_of([one.own.peak_mib for one in taken]),
            )
        )
    print_table(
        (
            "feed",
            "products/s",
            "÷ reference (bare COPY; of the last, the first import)",
            *COSTS,
        ),
        rows,
    )
