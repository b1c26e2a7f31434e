"""A seller's page goes live: scraped, embedded, checked, indexed and found; each product once, whatever dies."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from chromium import require_chromium
from eventually import eventually
from faults.world import FaultWorld

from e2e.catalogue_stores import (
    APPROVED_IDS,
    PRODUCT_IDS,
    differences,
    ids_of,
    in_full_text,
    in_milvus,
    in_opensearch,
    in_pgvector,
    rows_held,
)
from e2e.world import KUBECTL_IMPORTS, NAMESPACE, Json, World, condition_of, job, provider, secret
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.search.opensearch import FIRST, connect
from import_core.domain.steps import StepKind
from import_local.demo.manifests import get_step_pools
from import_local.samples.catalogue.expected import Provider
from import_local.samples.settings import SHOPIFY_TOKEN, WHATSAPP_NUMBER

# The waits of a test have limits of their own, which together are longer than the project's for a test.
pytestmark = pytest.mark.timeout(900)

PRODUCTS = 200
CATALOGUE = f"tiny-{PRODUCTS}-1-live"
EVERYTHING = (PRODUCTS, PRODUCTS)
ENRICH = {"embedding": True, "qualityControl": True, "index": True}
LEFT = """SELECT id FROM "ProductImportJob" WHERE "companyId" = %s AND status IN ('PENDING', 'IN_PROGRESS')"""
# The page is read in pieces, so a worker that holds the job and has committed some of them stands in its middle.
READING = """
SELECT w.pod_name FROM imports.claim k JOIN imports.worker w USING (worker_id)
JOIN imports.checkpoint c USING (job_id) JOIN "ProductImportJob" j ON j.id = k.job_id
WHERE j."companyId" = %s AND j."parentId" IS NULL AND c.cursor IS NOT NULL
"""
OPENSEARCH = os.environ.get("TEST_OPENSEARCH_URL", "")
SEARCHER = "catalogue-searcher"
AUDIENCE = "import-gateway"
Words = Callable[[World, str], Awaitable[list[str]]]
"""Reads the ids of a company's products in an index of words, sorted."""


def seller_page(world: World, company: str) -> Json:
    """The seller's page, which a browser reads."""
    return {
        "apiVersion": "imports.avnz.io/v1alpha1",
        "kind": "ImportProvider",
        "metadata": {"name": company, "namespace": NAMESPACE},
        "spec": {
            "companyId": company,
            "type": "whatsapp",
            "baseUrl": f"{world.installation.whatsapp_url}/{CATALOGUE}/c/{WHATSAPP_NUMBER}",
            "whatsapp": {
                "mode": "Scrape",
                "scrape": {
                    "selectors": {
                        "item": ".catalogue-item",
                        "idAttribute": "data-product-id",
                        "link": ".item-link",
                        "title": ".item-title",
                        "price": ".item-price",
                        "description": ".item-text",
                        "image": ".item-image",
                        "empty": ".empty-catalogue",
                    },
                    "currency": "EUR",
                },
            },
        },
    }


def mortal_pools(markers: Path, *, maximum: int = 2, **settings: str) -> list[Json]:
    """The steps' pools; one worker of each dies when it has taken its first batch through, and told nobody."""
    pools = get_step_pools(image="import-worker:dev", maximum=maximum, cooldown_seconds=5)
    for pool in pools:
        pool["spec"]["template"]["spec"]["containers"][0]["env"] = [
            # Sample images are small on purpose.
            {"name": "QUALITY_MIN_IMAGE", "value": "16"},
            {"name": "IMPORT_FAIL_POINT", "value": "step.taken"},
            {"name": "IMPORT_FAIL_POINT_MARKER", "value": str(markers / pool["metadata"]["name"])},
            *({"name": name, "value": value} for name, value in settings.items()),
        ]
    return pools


def deaths(markers: Path) -> set[str]:
    """Queues of which a worker has died."""
    return {marker.name for marker in markers.iterdir()}


async def kill_the_reading_worker(world: World, company: str) -> None:
    """Kill the worker that scrapes the company's page, in the middle of it."""
    faults = FaultWorld(world.installation, world.kube, seed=0)

    async def kill() -> bool:
        pods = {row[0] for row in await world.sql(READING, company)}
        for worker in faults.workers():
            if worker.pod in pods:
                await faults.killed(worker, "worker")
                return True
        return False

    await eventually(kill, seconds=90, what="a worker in the middle of the page")


async def live(world: World, name: str) -> None:
    """Wait until an import has ended, and all steps of its products are done."""
    status = await world.finished(name)
    assert status["phase"] == "Succeeded", status
    version = await world.until(
        IMPORT_JOB,
        name,
        lambda item: condition_of(item["status"], "Enriched").get("status") == "True",
        seconds=240,
    )
    assert version["status"]["steps"], version["status"]


async def is_everywhere_once(
    world: World, company: str, markers: Path, words: Words, *, catalogue: str, kind: Provider
) -> None:
    """Each product is in every store once, that of vectors aside; `words` reads the index of words."""
    assert deaths(markers) == set(StepKind)
    assert await world.sql(LEFT, company) == []
    assert await differences(world, company, catalogue=catalogue, kind=kind) == []
    stores = await rows_held(world, company)
    assert {stores[name] for name in ("product", "photo", "decision")} == {EVERYTHING}, stores
    assert stores["document"] == stores["approved"], stores
    assert stores["approved"][0] >= PRODUCTS * 0.9, stores
    assert await words(world, company) == await ids_of(world, APPROVED_IDS, company)


async def vectors_of(world: World, company: str) -> list[tuple[str, str]]:
    """Product and kind of each vector that the company is to have, sorted."""
    ids = await ids_of(world, PRODUCT_IDS, company)
    return [(product_id, kind) for product_id in ids for kind in ("image", "text")]


async def sync_page(world: World, company: str, markers: Path, words: Words, **settings: str) -> None:
    """Take the seller's page through all steps while a worker of each kind dies, and look into the stores."""
    await world.apply(
        *mortal_pools(markers, **settings),
        seller_page(world, company),
        job(company, company=company, provider_name=company, enrich=ENRICH),
    )
    await kill_the_reading_worker(world, company)
    await live(world, company)
    await is_everywhere_once(world, company, markers, words, catalogue=CATALOGUE, kind="whatsapp")
    assert await in_pgvector(world, company) == await vectors_of(world, company)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def no_pools_stay(world: World) -> AsyncIterator[None]:
    """Other tests know of one pool."""
    yield
    await delete_pools(world, *(kind.value for kind in StepKind))


async def delete_pools(world: World, *names: str) -> None:
    outcome = await world.kubectl(
        "delete", "workerpool", *names, "-n", NAMESPACE, "--cascade=foreground", "--ignore-not-found"
    )
    assert outcome.code == 0, outcome.err


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    """The gateway, asked by a caller who may search and nothing else."""
    account = {"name": SEARCHER, "namespace": NAMESPACE}
    await world.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": account,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "imports-searcher",
            },
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    )
    token = await world.kubectl("create", "token", SEARCHER, "-n", NAMESPACE, f"--audience={AUDIENCE}")
    assert token.code == 0, token.err
    headers = {"Authorization": f"Bearer {token.out.strip()}"}
    async with httpx2.AsyncClient(
        base_url=world.installation.gateway_url, headers=headers, timeout=30, trust_env=False
    ) as client:
        yield client


async def search(gateway: httpx2.AsyncClient, company: str, text: str) -> list[Json]:
    """What the gateway finds once every index answers in time, which on a busy machine one may not."""

    async def ask() -> Json | None:
        answer = await gateway.get("/v1/search", params={"companyId": company, "q": text, "limit": 100})
        if answer.status_code == 503:
            return None
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body if body["degraded"] == [] else None

    body: Json = await eventually(ask, seconds=60, what="an answer of every index")
    return list(body["items"])


async def test_a_sellers_catalogue_goes_live_and_each_product_is_everywhere_once(
    world: World, gateway: httpx2.AsyncClient, tmp_path: Path
) -> None:
    require_chromium()
    company = "seller"
    await sync_page(world, company, tmp_path, in_full_text)

    lanterns = await search(gateway, company, "lantern")
    assert all(item["similarity"] is not None for item in lanterns), lanterns
    best = lanterns[0]
    assert "lantern" in best["title"].lower()
    assert best["textScore"] > 0
    assert best["imageKey"]
    outcome = await world.imports("review", "reject", best["id"], "--yes")
    assert outcome.code == 0, outcome.err
    assert best["id"] not in [item["id"] for item in await search(gateway, company, "lantern")]
    outcome = await world.imports("review", "approve", best["id"], "--yes")
    assert outcome.code == 0, outcome.err


@pytest.mark.skipif(not OPENSEARCH, reason="TEST_OPENSEARCH_URL is not set")
async def test_opensearch_has_each_product_of_a_page_once(world: World, tmp_path: Path) -> None:
    require_chromium()
    company, index = "opensearch-seller", f"test-{uuid.uuid4().hex}"
    settings = {"SEARCH_INDEX": "opensearch", "OPENSEARCH_URL": OPENSEARCH, "OPENSEARCH_INDEX": index}

    async def words(_world: World, of: str) -> list[str]:
        return await in_opensearch(OPENSEARCH, index, of)

    try:
        await sync_page(world, company, tmp_path, words, **settings)
        found = await world.run(KUBECTL_IMPORTS, "search", company, "lantern", environment=settings)
        assert found.code == 0, found.err
        assert "lantern" in found.out.lower()
    finally:
        client = connect(OPENSEARCH)
        await client.indices.delete(index=index + FIRST, params={"ignore": 404})
        await client.close()


async def test_milvus_has_each_product_once(world: World, tmp_path: Path) -> None:
    """The same steps after an import that needs no browser: what is new here is the other index of vectors."""
    company, file, markers = "milvus-seller", tmp_path / "vectors.db", tmp_path / "markers"
    catalogue = f"tiny-{PRODUCTS}-1-milvus"
    await asyncio.to_thread(markers.mkdir)
    # A file is open in one process at a time.
    pools = mortal_pools(markers, maximum=1, VECTOR_INDEX="milvus", MILVUS_ADDRESS=str(file))
    await world.apply(
        *pools,
        secret("milvus-shop", accessToken=SHOPIFY_TOKEN),
        provider(
            "milvus-shop",
            company=company,
            kind="shopify",
            url=f"{world.installation.shopify_url}/{catalogue}",
        ),
        job("milvus-sync", company=company, provider_name="milvus-shop", enrich=ENRICH),
    )
    await live(world, "milvus-sync")
    await is_everywhere_once(world, company, markers, in_full_text, catalogue=catalogue, kind="shopify")
    assert await in_pgvector(world, company) == []
    await delete_pools(world, StepKind.EMBEDDING.value)
    assert await asyncio.to_thread(in_milvus, file) == await vectors_of(world, company)
