"""A seller's page of 100 products, from the applied ImportJob to all of them embedded, checked and indexed.

A whole installation with the pools of its steps, which start from no worker: the page in Chromium at the default limit
of calls, the stand-in of a model, a stand-in for Gemini that answers after a second, pgvector and PostgreSQL's full
text. The bare reference does the same by itself, in one process and without keeping anything safe: it reads the page's
data as JSON, downloads the images, runs the model's graphs, asks the same questions, as many at once, and inserts the
rows.

Run with `python -m bench sync`; BENCH_SYNC_ROUNDS=1 makes it short.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
from lightkube.config.kubeconfig import KubeConfig

from bench.places import state_folder
from bench.table import median_of, print_table, ratios_of
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, WORKER_POOL
from import_core.adapters.models.gemini import GeminiModel
from import_core.adapters.models.inline_images import make_inline
from import_core.adapters.models.siglip import SiglipEmbedder, load_siglip
from import_core.domain.judging import ANSWER_SCHEMA, ask_about
from import_core.domain.steps import StepKind, StepProduct
from import_local.demo.manifests import NAMESPACE, POOL, get_import_job, get_step_pools, get_worker_pool
from import_local.installation import Installation
from import_local.samples.control import FaultOrder
from import_local.samples.faults import FaultSettings
from import_local.samples.settings import GEMINI_KEY, WHATSAPP_NUMBER

PRODUCTS = 100
ROUNDS = int(os.environ.get("BENCH_SYNC_ROUNDS", "3"))
ANSWER_SECONDS = 1.0
AT_ONCE = 8
"""Questions and downloads: what one worker sends of the former."""
LONGEST_SECONDS = 900.0
ALL_STEPS = {"embedding": True, "qualityControl": True, "index": True}
SELECTORS = {
    "item": ".catalogue-item",
    "idAttribute": "data-product-id",
    "link": ".item-link",
    "title": ".item-title",
    "price": ".item-price",
    "description": ".item-text",
    "image": ".item-image",
}
# Of an import and of the batches of its steps, by queue.
SPANS = """
SELECT coalesce(queue, 'product-imports'), extract(epoch FROM max("completedAt") - min("startedAt"))::float8
FROM "ProductImportJob" WHERE "companyId" = %s AND status = 'COMPLETED' GROUP BY 1
"""
HELD = """
SELECT (SELECT count(*) FROM "Product" WHERE "companyId" = %(company)s),
    (SELECT count(*) FROM imports.product_embedding WHERE company_id = %(company)s AND kind = 'text'),
    (SELECT count(*) FROM imports.quality_decision WHERE company_id = %(company)s)
"""
BARE_TABLE = """
CREATE TEMPORARY TABLE bare (id text PRIMARY KEY, title text, price numeric, image bytea, words tsvector,
    answer text, text_vector vector(768), image_vector vector(768))
"""
BARE_ROW = """
INSERT INTO bare VALUES (%s, %s, %s, %s, to_tsvector('simple', %s), %s, %s, %s)
"""


async def main() -> None:
    """Measure in turns and print the tables."""
    bare: list[float] = []
    whole: list[float] = []
    spans: dict[str, list[float]] = {}
    with state_folder() as folder:
        async with Installation(folder) as installation, _prepared(installation) as (kube, connection):
            for number in range(ROUNDS):
                catalogue = f"generated-{PRODUCTS}-1-round{number}"
                await _read(installation, catalogue)  # the sample server draws its images once
                bare.append(await _bare(installation, catalogue, connection))
                whole.append(await _synced(installation, kube, connection, catalogue, spans))
    print_table(
        (f"{PRODUCTS} products with an image, page → Enriched", "seconds", "÷ bare"),
        [
            ("bare: the same calls and rows, one process", median_of(bare), "1"),
            ("the installation", median_of(whole), median_of(ratios_of(whole, bare))),
        ],
    )
    print()
    rows = [(name, _rates(spans[name])) for name in (POOL, *(kind.value for kind in StepKind))]
    print_table(("from the first job's start to the last one's end", "products a minute"), rows)


def _rates(seconds: Sequence[float]) -> str:
    return median_of([60 * PRODUCTS / one for one in seconds])


@asynccontextmanager
async def _prepared(
    installation: Installation,
) -> AsyncIterator[tuple[KubeClient, psycopg.AsyncConnection[Any]]]:
    """The pools, with one ready worker for imports and none for steps; a slow model."""
    order = FaultOrder(api=FaultSettings(latency_seconds=ANSWER_SECONDS))
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.put(
            f"{_samples(installation)}/control/gemini/empty/faults", json=order.model_dump(by_alias=True)
        )
        answer.raise_for_status()
    pools = [
        get_worker_pool(minimum=1, maximum=2, image="import-worker:dev", cooldown_seconds=30),
        *get_step_pools(image="import-worker:dev", maximum=2, cooldown_seconds=30),
    ]
    async with (
        KubeClient(KubeConfig.from_file(installation.kubeconfig)) as kube,
        await psycopg.AsyncConnection.connect(installation.database_url, autocommit=True) as connection,
    ):
        for pool in pools:
            await kube.create(WORKER_POOL, NAMESPACE, pool)
        async with asyncio.timeout(LONGEST_SECONDS):
            async for version in kube.watch_one(WORKER_POOL, NAMESPACE, POOL):
                if version is not None and (version.get("status") or {}).get("readyReplicas"):
                    break
        yield kube, connection


def _samples(installation: Installation) -> str:
    parts = urlsplit(installation.whatsapp_url)
    return f"{parts.scheme}://{parts.netloc}"


async def _synced(
    installation: Installation,
    kube: KubeClient,
    connection: psycopg.AsyncConnection[Any],
    catalogue: str,
    spans: dict[str, list[float]],
) -> float:
    """Seconds from the applied ImportJob to its condition Enriched; adds each queue's own to `spans`."""
    scrape = {"selectors": SELECTORS, "currency": "EUR"}
    page = {
        "apiVersion": "imports.avnz.io/v1alpha1",
        "kind": "ImportProvider",
        "metadata": {"name": catalogue, "namespace": NAMESPACE},
        "spec": {
            "companyId": catalogue,
            "type": "whatsapp",
            "baseUrl": f"{installation.whatsapp_url}/{catalogue}/c/{WHATSAPP_NUMBER}",
            "whatsapp": {"mode": "Scrape", "scrape": scrape},
        },
    }
    await kube.create(IMPORT_PROVIDER, NAMESPACE, page)
    job = get_import_job(name=catalogue, company_id=catalogue, provider=catalogue, enrich=ALL_STEPS)
    began = time.perf_counter()
    await kube.create(IMPORT_JOB, NAMESPACE, job)
    async with asyncio.timeout(LONGEST_SECONDS):
        async for version in kube.watch_one(IMPORT_JOB, NAMESPACE, catalogue):
            if version is not None and _is_enriched(version):
                break
    seconds = time.perf_counter() - began
    held = await (await connection.execute(HELD, {"company": catalogue})).fetchone()
    if held != (PRODUCTS,) * 3:
        raise RuntimeError(f"{held} products, embeddings and decisions instead of {PRODUCTS} each")
    for queue, taken in await (await connection.execute(SPANS, (catalogue,))).fetchall():
        spans.setdefault(queue, []).append(taken)
    return seconds


def _is_enriched(version: dict[str, Any]) -> bool:
    status = version.get("status") or {}
    if status.get("phase") == "Failed":
        raise RuntimeError(f"the import failed: {status}")
    return any(
        one["type"] == "Enriched" and one["status"] == "True" for one in status.get("conditions") or []
    )


async def _read(installation: Installation, catalogue: str) -> list[tuple[dict[str, Any], bytes]]:
    """The page's items as JSON, and the first image of each; nothing where an item has none."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:

        async def with_image(item: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
            async with slots:
                return item, (await client.get(item["images"][0])).content if item["images"] else b""

        items: list[dict[str, Any]] = []
        more = True
        while more:
            url = f"{installation.whatsapp_url}/{catalogue}/items?offset={len(items)}"
            body = (await client.get(url)).json()
            items, more = [*items, *body["items"]], body["more"]
        return list(await asyncio.gather(*map(with_image, items)))


async def _bare(
    installation: Installation, catalogue: str, connection: psycopg.AsyncConnection[Any]
) -> float:
    """Seconds of the reference, without what it holds open."""
    embedder = await asyncio.to_thread(load_siglip, installation.embedding_model)
    model = GeminiModel(api_key=GEMINI_KEY, model="gemini-3.5-flash-lite", base_url=installation.gemini_url)
    await connection.execute("DROP TABLE IF EXISTS bare")
    await connection.execute(BARE_TABLE)
    began = time.perf_counter()
    read = await _read(installation, catalogue)
    texts = [f"{item['title']} {item['description']}" for item, _ in read]
    vectors = await embedder.embed_texts(texts)
    of_images = await _embed_images(embedder, [content for _, content in read])
    answers = await _ask_all(model, read)
    rows = zip(read, texts, answers, vectors, of_images, strict=True)
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(
            BARE_ROW,
            [
                (
                    item["id"],
                    item["title"],
                    Decimal("9.5"),
                    content,
                    text,
                    answer,
                    str(one),
                    other and str(other),
                )
                for (item, content), text, answer, one, other in rows
            ],
        )
    seconds = time.perf_counter() - began
    await model.aclose()
    await embedder.aclose()
    return seconds


async def _embed_images(embedder: SiglipEmbedder, contents: Sequence[bytes]) -> list[list[float] | None]:
    found = iter(await embedder.embed_images([content for content in contents if content]))
    return [next(found) if content else None for content in contents]


async def _ask_all(model: GeminiModel, read: Sequence[tuple[dict[str, Any], bytes]]) -> list[str | None]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(item: dict[str, Any], content: bytes) -> str | None:
        if not content:
            return None  # a rule rejects it, without a question
        product = StepProduct(
            item["id"], "bare", "h", title=item["title"], description=item["description"], currency="EUR"
        )
        async with slots:
            small = await asyncio.to_thread(make_inline, content)
            question = ask_about(product, [small] if small else [], word="0123456789abcdef")
            return str(await model.ask(question, ANSWER_SCHEMA))

    return list(await asyncio.gather(*(ask(*one) for one in read)))
