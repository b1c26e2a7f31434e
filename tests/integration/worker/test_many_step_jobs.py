"""A thousand jobs of all kinds of steps at once, through the operator's process and a worker's for each kind."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import pyvips
from eventually import eventually

from import_core.adapters.postgres.step_rows import StepWrite, write_rows
from import_core.adapters.postgres.steps import HASHES
from import_core.adapters.redis.limiter import declare_no_recent_calls
from import_core.domain.steps import STEPS_IN_ORDER, KnownStep, StepKind, StepState
from import_local.embedding_model import make_embedding_model
from import_local.ports import free_port
from import_local.processes import base_environment
from import_local.samples.settings import GEMINI_KEY

JOBS = 1_000
COMPANIES = 20
SECONDS = 540
"""Longest time for all of them, on a machine that does much else; a quiet one needs a small part of it."""
IMAGE = "images/shared/tea.jpg"
PRODUCT = """
INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, description, price, currency,
    "contentHash")
SELECT 'p-' || n, 'company-' || n %% %s, n::text, 'shopify', 'Green tea ' || n, 'Leaves of garden ' || n, 9.5, 'EUR',
    'hash ' || n FROM generate_series(0, %s - 1) n
"""
PHOTO = """
INSERT INTO "ProductImage" (id, "productId", "sourceUrl", position, key, "contentType", width, height, bytes)
SELECT 'i-' || id, id, 'https://images.example/' || id, 0, %s, 'image/jpeg', 300, 300, 1 FROM "Product"
"""
BY_STATE = """SELECT status, count(*) FROM "ProductImportJob" WHERE "parentId" IS NOT NULL GROUP BY status"""
BY_STEP = "SELECT step, state, attempts, count(*) FROM imports.product_step GROUP BY step, state, attempts"
OPEN = "SELECT count(*) FROM imports.product_step WHERE state = 'Due'"
# When the jobs of each kind were under way.
SPANS = """
SELECT queue, min("startedAt"), max("completedAt") FROM "ProductImportJob" WHERE "parentId" IS NOT NULL GROUP BY queue
"""
IN_STORES = """
SELECT 'text', count(*) FROM imports.product_embedding WHERE kind = 'text'
UNION ALL SELECT 'image', count(*) FROM imports.product_embedding WHERE kind = 'image'
UNION ALL SELECT 'approved by the model', count(*) FROM imports.quality_decision
    WHERE decision = 'approved' AND decided_by = 'model'
UNION ALL SELECT 'document', count(*) FROM imports.search_document WHERE words IS NOT NULL
"""
StartOperator = Callable[[], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="session")
async def start_operator(stage: Any, tmp_path: Path) -> AsyncIterator[StartOperator]:
    """Start an operator that needs no cluster; it is stopped at the end, and must have had no other."""
    running: list[asyncio.subprocess.Process] = []
    connections = tmp_path / "connections"
    await asyncio.to_thread(connections.mkdir)

    async def start() -> None:
        environment = base_environment(
            KUBECONFIG=os.devnull,
            DATABASE_URL=stage.settings.database_url.get_secret_value(),
            REDIS_URL=stage.settings.redis_url.get_secret_value(),
            PROVIDERS_PATH=str(connections),
            POD_IP="127.0.0.1",
            HEALTH_PORT=str(free_port()),
        )
        with (tmp_path / "operator.log").open("wb") as output:
            running.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "import_operator", "standalone"),
                    stdout=output,
                    stderr=output,
                    env=environment,
                )
            )

    yield start
    for process in running:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def record(stage: Any) -> None:
    """Products with an image each, and a due step of one kind or another with a job of its own."""
    photograph = pyvips.Image.gaussnoise(300, 300, sigma=60).cast("uchar").write_to_buffer(".jpg")
    await stage.store.put(IMAGE, photograph, "image/jpeg")
    await stage.rows(PRODUCT, COMPANIES, JOBS)
    await stage.rows(PHOTO, IMAGE)
    names = [f"p-{number}" for number in range(JOBS)]
    hashes = dict(await stage.rows(HASHES, names))
    due = [
        StepWrite(
            KnownStep(
                name,
                STEPS_IN_ORDER[number % len(STEPS_IN_ORDER)],
                hashes[name],
                StepState.DUE,
                company_id=f"company-{number % COMPANIES}",
            )
        )
        for number, name in enumerate(names)
    ]
    async with stage.database.transaction() as connection:
        made = await write_rows(connection, due, owned=False, sizes=dict.fromkeys(StepKind, 1))
    assert len(made) == JOBS


@pytest.mark.timeout(600)
async def test_a_thousand_step_jobs_of_all_kinds_complete(
    stage: Any, start_process: Any, start_operator: StartOperator, tmp_path: Path
) -> None:
    model = await asyncio.to_thread(make_embedding_model, tmp_path / "model")
    await declare_no_recent_calls(stage.queue._client)
    await record(stage)
    for kind in STEPS_IN_ORDER:
        await start_process(
            IMPORT_QUEUE=kind.value,
            EMBEDDING_MODEL_PATH=str(model),
            GEMINI_API_KEY=GEMINI_KEY,
            GEMINI_BASE_URL=stage.samples.gemini_url,
            GEMINI_CALLS_PER_MINUTE="10000",
        )

    async def all_there() -> bool:
        return bool(await stage.rows("SELECT count(*) FROM imports.worker") == [(len(STEPS_IN_ORDER),)])

    # One that is long in loading its model would begin when the others have nothing left to do.
    await eventually(all_there, seconds=120, what="a worker of each kind")
    await start_operator()

    async def none_due() -> bool:
        return bool(await stage.rows(OPEN) == [(0,)])

    await eventually(none_due, seconds=SECONDS, what="the end of the last job")
    assert await stage.rows(BY_STATE) == [("COMPLETED", JOBS)]
    share = {kind: len(range(place, JOBS, 3)) for place, kind in enumerate(STEPS_IN_ORDER)}
    assert {tuple(row) for row in await stage.rows(BY_STEP)} == {
        (kind.value, "Done", 0, number) for kind, number in share.items()
    }
    assert dict(await stage.rows(IN_STORES)) == {
        "text": share[StepKind.EMBEDDING],
        "image": share[StepKind.EMBEDDING],
        "approved by the model": share[StepKind.QUALITY_CONTROL],
        "document": share[StepKind.INDEX],
    }
    # Each was asked about once, by whichever of the five that ran at the same time.
    assert stage.samples.account("gemini", "empty").counters.api_calls == share[StepKind.QUALITY_CONTROL]
    spans = await stage.rows(SPANS)
    assert len(spans) == len(STEPS_IN_ORDER)
    assert max(begun for _, begun, _ in spans) < min(ended for _, _, ended in spans), "not at the same time"
