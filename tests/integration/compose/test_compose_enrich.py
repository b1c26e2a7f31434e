"""The Compose files' processes, without Kubernetes: imports go through all steps, and are found by a search."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from compose_file import EVERYTHING
from compose_world import ComposeWorld, Container, compose_world
from eventually import eventually

from import_core.domain.jobs import JobState
from import_core.domain.steps import StepKind
from import_local.embedding_model import make_embedding_model
from import_local.parts.objectstore import Bucket
from import_local.samples.app import RunningSamples

PRODUCTS = 4
ENRICH = {"embedding": True, "qualityControl": True, "index": True}
DECISIONS = """
SELECT decision, reasons -> 0 ->> 'code', count(*) FROM imports.quality_decision d
JOIN "Product" p ON p.id = d.product_id WHERE p."companyId" = %s GROUP BY 1, 2
"""
ENDS = """SELECT step, state, count(*) FROM imports.product_step GROUP BY 1, 2 ORDER BY 1"""


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path, object_store: Bucket, empty_database_url: str) -> AsyncIterator[ComposeWorld]:
    async with compose_world(tmp_path, object_store, empty_database_url, files=EVERYTHING) as found:
        make_embedding_model(tmp_path / "model")
        yield found


async def submit(world: ComposeWorld, company: str) -> None:
    """Import a company's shop with all steps, over HTTP, to its end."""
    async with world.gateway() as client:
        spec = {"companyId": company, "providerRef": {"name": f"{company}-shop"}, "enrich": ENRICH}
        answer = await client.post("/v1/imports", json={"name": f"{company}-sync", "spec": spec})
        assert answer.status_code == 201, answer.text
    done = await world.finished(f"{company}-sync")
    assert (done.state, done.progress.products_imported) == (JobState.COMPLETED, PRODUCTS)


async def search(world: ComposeWorld, company: str) -> dict[str, Any] | None:
    """The answer to a search for a word of every product; None: nothing was indexed for the company."""
    async with world.gateway() as client:
        answer = await client.get("/v1/search", params={"companyId": company, "q": "washable"})
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    # The cache is given up after a quarter of a second, as soon as a busy machine may need.
    assert set(body["degraded"]) <= {"cache"}, "both indexes answer"
    return body


async def live(world: ComposeWorld, company: str) -> None:
    """Wait until all products are found, by their words and by their meaning, and the cache answers, too."""

    async def all_found() -> bool:
        answer = await search(world, company)
        if answer is None or answer["degraded"]:
            return False
        # A search that began before they went live may have read their words before, and their meaning after.
        items = answer["items"]
        both = [item for item in items if (item["textScore"] or 0) > 0 and item["similarity"] is not None]
        return len(both) == PRODUCTS

    await eventually(all_found, seconds=60, what=f"the products of {company} are found by both")


async def decided(world: ComposeWorld, company: str) -> list[tuple[Any, ...]]:
    async def all_decided() -> list[tuple[Any, ...]] | None:
        rows = await world.rows(DECISIONS, company)
        return rows if sum(row[2] for row in rows) == PRODUCTS else None

    rows: list[tuple[Any, ...]] = await eventually(all_decided, seconds=120, what="all are decided on")
    return rows


async def start_everything(world: ComposeWorld, *, provider: str, marker: Path) -> dict[str, Container]:
    """All services, as their files say; the worker of embeddings dies after its first batch."""
    await world.start("redis")
    assert await world.ended("migrate") == 0
    special = {
        # A busy machine has time for its answers.
        "gateway": {"DRAIN_SECONDS": "0", "SEARCH_SECONDS": "14"},
        "worker": {"IMAGE_ALLOW": provider, "PROVIDER_ALLOW": provider},
        # Sample images are small on purpose.
        "quality-control": {"QUALITY_MIN_IMAGE": "16"},
        "generate-embedding": {
            "IMPORT_FAIL_POINT": "step.taken",
            "IMPORT_FAIL_POINT_MARKER": str(marker),
        },
    }
    names = [name for name in world.services if name not in ("redis", "postgres", "migrate")]
    started = {name: await world.start(name, **special.get(name, {})) for name in names}
    await world.ready(*started.values())
    return started


async def test_an_import_goes_live_and_is_found(
    world: ComposeWorld, samples: RunningSamples, tmp_path: Path
) -> None:
    for company in ("acme", "bolt"):
        world.connect(
            f"{company}-shop", f"{samples.roastify_url}/tiny-{PRODUCTS}-1-{company}/v1", company=company
        )
    provider = samples.base_url.removeprefix("http://")
    started = await start_everything(world, provider=provider, marker=tmp_path / "died")
    embedding = started["generate-embedding"]

    await submit(world, "acme")
    await embedding.process.wait()
    # As the container is: its host name tells the operator that the batch is free.
    started["generate-embedding"] = await world.restart(embedding)
    # Without a key of Gemini's, a person decides on all that no rule objects to.
    assert await decided(world, "acme") == [("flagged", "NotJudged", PRODUCTS)]
    assert ((await search(world, "acme")) or {"items": []})["items"] == []
    said = await world.imports("review", "approve", "--company", "acme", "--yes")
    assert f"Approved {PRODUCTS} products" in said
    await live(world, "acme")

    # Or nobody does: QUALITY_APPROVE_ALONE.
    await world.stop(started["quality-control"])
    started["quality-control"] = await world.start(
        "quality-control", QUALITY_MIN_IMAGE="16", QUALITY_APPROVE_ALONE="true"
    )
    await submit(world, "bolt")
    assert await decided(world, "bolt") == [("approved", None, PRODUCTS)]
    await live(world, "bolt")

    # The rest of what the page promises of the command line without Kubernetes.
    assert await world.imports("review", "list") == "No product waits for a person\n"
    assert await world.imports("dead-letters", "list") == "No dead letter.\n"
    assert "names a webhook" in await world.imports("webhooks", "list")
    assert "PRODUCT" in await world.imports("search", "acme", "washable")
    assert "Paused imports of company bolt" in await world.imports("pause", "--company", "bolt")
    assert "Resumed imports of company bolt" in await world.imports("resume", "--company", "bolt")

    assert await world.rows(ENDS) == [(kind.value, "Done", 2 * PRODUCTS) for kind in sorted(StepKind)]
    async with world.gateway() as client:
        report = (await client.get("/health/queue")).json()
    assert {queue["queue"] for queue in report["queues"]} == {"product-imports", *StepKind}
    assert await world.stop(*started.values()) == [0] * len(started)
