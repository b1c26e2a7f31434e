"""Products checked per minute against the local stand-in for Gemini, beside bare calls of it with the same images.

The step runs as in a worker: images from a real S3 server are made small, the question is asked within the budgets in
Valkey and PostgreSQL, the decisions are committed. The stand-in answers after LATENCY seconds, as a model would. Run
with `python -m bench quality`.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

from redis.asyncio import Redis

from bench.images import photographs
from bench.places import state_folder
from bench.table import median_of, print_table
from import_core.adapters.models.gemini import GeminiModel
from import_core.adapters.models.inline_images import make_inline
from import_core.adapters.postgres import Database, migrate
from import_core.adapters.redis.limiter import declare_no_recent_calls
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.judging import ANSWER_SCHEMA, ask_about
from import_core.domain.steps import StepImage, StepProduct
from import_core.observability.metrics import WorkerMetrics
from import_local.parts.objectstore import ObjectStoreServer
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer
from import_local.samples.app import RunningSamples, serve_samples
from import_local.samples.faults import FaultSettings
from import_local.samples.settings import GEMINI_KEY, SampleSettings
from import_worker.breakers import Breakers
from import_worker.steps.quality_control import QualityControl, open_quality_control
from import_worker.steps.quality_settings import QualitySettings

ROUNDS = 3
PRODUCTS = 60
LATENCY = 1.0
AT_ONCE = 8
IMAGES = 2


def products(round_number: int) -> list[StepProduct]:
    """Products that no rule objects to, with texts of the round's own."""
    return [
        StepProduct(
            product_id=f"p{number}",
            company_id="acme",
            content_hash=f"{round_number}-{number}",
            title=f"Stoneware mug {number}",
            description=f"Glazed by hand, number {number} of round {round_number}. " * 10,
            price=Decimal("19.90"),
            currency="EUR",
            images=tuple(StepImage(f"images/{k}.jpg", "image/jpeg", 1600, 1067) for k in range(IMAGES)),
        )
        for number in range(PRODUCTS)
    ]


async def checked(step: QualityControl, database: Database, batch_of: list[StepProduct]) -> float:
    """Products per minute through the step and its commit."""
    began = time.perf_counter()
    batch = await step.run(batch_of)
    assert batch.write is not None
    async with database.transaction() as connection:
        await batch.write(connection)
    return 60 * len(batch_of) / (time.perf_counter() - began)


async def bare(model: GeminiModel, batch_of: list[StepProduct], small: list[bytes]) -> float:
    """Products per minute where the same questions are asked and nothing else is done."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(product: StepProduct) -> None:
        async with slots:
            await model.ask(ask_about(product, small, word="0123456789abcdef"), ANSWER_SCHEMA)

    began = time.perf_counter()
    await asyncio.gather(*(one(product) for product in batch_of))
    return 60 * len(batch_of) / (time.perf_counter() - began)


async def main() -> None:
    """Measure and print the table."""
    with state_folder() as folder:
        folder.mkdir()
        folder.chmod(0o711)
        async with AsyncExitStack() as stack:
            await _measure(stack, folder)


async def _measure(stack: AsyncExitStack, folder: Path) -> None:
    postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log")
    valkey = ValkeyServer(folder / "valkey", log_path=folder / "valkey.log")
    objects = ObjectStoreServer(folder / "objects", log_path=folder / "objects.log")
    for part in (postgres, valkey, objects):
        await part.start()
        stack.push_async_callback(part.stop)
    samples: RunningSamples = await stack.enter_async_context(serve_samples(SampleSettings()))
    samples.account("gemini", "empty").api_faults.set(FaultSettings(latency_seconds=LATENCY))
    url = await postgres.create_database("bench")
    await migrate(url)
    database = Database(url, application="bench")
    await database.open(wait_seconds=10)
    stack.push_async_callback(database.close)
    redis = Redis.from_url(valkey.url)
    stack.push_async_callback(redis.aclose)
    await declare_no_recent_calls(redis)
    bucket = await objects.create_bucket("bench")
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = (
        bucket.access_key_id,
        bucket.secret_access_key,
    )
    store = ObjectStore(bucket.name, endpoint_url=bucket.endpoint_url, region=bucket.region)
    content = photographs()[:IMAGES]
    for number, each in enumerate(content):
        await store.put(f"images/{number}.jpg", each, "image/jpeg")
    small = [image for each in content if (image := make_inline(each)) is not None]
    metrics = WorkerMetrics()

    def step(**settings: object) -> QualityControl:
        given = {
            "GEMINI_API_KEY": GEMINI_KEY,
            "GEMINI_BASE_URL": samples.gemini_url,
            "GEMINI_CALLS_PER_MINUTE": 10_000,
            "GEMINI_CONCURRENCY": AT_ONCE,
            **settings,
        }
        return open_quality_control(
            QualitySettings.model_validate(given),
            database=database,
            redis=redis,
            store=store,
            breakers=Breakers(database, metrics),
            metrics=metrics,
            namespace="imports",
            wait_seconds=15.0,
        )

    asking, alone = step(), step(GEMINI_API_KEY=None)
    model = GeminiModel(api_key=GEMINI_KEY, model="gemini-3.5-flash-lite", base_url=samples.gemini_url)
    for opened in (asking, alone, model):
        stack.push_async_callback(opened.aclose)
    rates: dict[str, list[float]] = {"model": [], "bare": [], "kept": [], "rules": []}
    for number in range(ROUNDS):
        rates["bare"].append(await bare(model, products(number), small))
        rates["model"].append(await checked(asking, database, products(number)))
        rates["kept"].append(await checked(asking, database, products(number)))
        rates["rules"].append(await checked(alone, database, products(number)))
    ratios = [one / other for one, other in zip(rates["model"], rates["bare"], strict=True)]
    print(
        f"{PRODUCTS} products of {IMAGES} images; the stand-in takes {LATENCY:g} s, {AT_ONCE} calls at once"
    )
    print_table(
        ("products checked per minute", "rate", "of bare calls"),
        [
            ("by the model", median_of(rates["model"]), median_of(ratios)),
            ("bare calls of the model", median_of(rates["bare"]), "1"),
            ("by the model's kept decisions", median_of(rates["kept"]), ""),
            ("by the rules alone", median_of(rates["rules"]), ""),
        ],
    )
