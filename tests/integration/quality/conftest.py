"""Stores, the stand-in for Gemini, and a world of quality control for each test."""

import uuid
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from quality_world import IMAGE, QualityWorld, photograph
from redis.asyncio import Redis

from import_core.adapters.models.gemini import GeminiModel
from import_core.adapters.postgres import Database
from import_core.adapters.redis.limiter import declare_no_recent_calls
from import_core.adapters.s3.store import ObjectStore
from import_core.observability.metrics import WorkerMetrics
from import_local.parts.objectstore import Bucket
from import_local.samples.app import RunningSamples, serve_samples
from import_local.samples.settings import GEMINI_KEY, SampleSettings
from import_local.samples.state import Account


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def samples() -> AsyncIterator[RunningSamples]:
    async with serve_samples(SampleSettings()) as running:
        yield running


@pytest.fixture
def account(samples: RunningSamples) -> Account:
    """A model's API of the test's own."""
    return samples.account("gemini", f"tiny-1-0-{uuid.uuid4().int % 1_000_000_000}")


@pytest.fixture
def base_url(samples: RunningSamples, account: Account) -> str:
    return f"{samples.base_url}/gemini/{account.name}"


@pytest_asyncio.fixture(loop_scope="session")
async def new_model(base_url: str) -> AsyncIterator[Callable[..., GeminiModel]]:
    made: list[GeminiModel] = []

    def make(**values: object) -> GeminiModel:
        given = {"api_key": GEMINI_KEY, "model": "gemini-3.5-flash-lite", "base_url": base_url, **values}
        made.append(GeminiModel(**given))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for model in made:
        await model.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, application="tests")
    await database.open(wait_seconds=10)
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    await declare_no_recent_calls(client)
    yield client
    await client.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def store(object_store: Bucket, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_access_key)
    store = ObjectStore(object_store.name, endpoint_url=object_store.endpoint_url, region=object_store.region)
    await store.put(IMAGE, photograph(), "image/jpeg")
    return store


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    database: Database, redis: Redis, store: ObjectStore, samples: RunningSamples, account: Account
) -> QualityWorld:
    return QualityWorld(database, redis, store, samples, account, WorkerMetrics())
