"""A seller's page goes live: scraped, embedded, checked, indexed and found; each product once, whatever dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest_asyncio
from chromium import require_chromium
from eventually import eventually
from faults.world import FaultWorld

from e2e.catalogue_stores import (
    differences,
    in_milvus,
    rows_held,
)
from e2e.world import NAMESPACE, Json, World, condition_of, job, provider, secret
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.steps import StepKind
from import_local.demo.manifests import get_step_pools
from import_local.samples.settings import SHOPIFY_TOKEN, WHATSAPP_NUMBER

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
SEARCHER = "catalogue-searcher"
AUDIENCE = "import-gateway"


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


async def sync(world: World, company: str, pools: list[Json], markers: Path) -> dict[str, tuple[int, int]]:
    """Take the seller's page through all steps while a worker of each kind dies; rows and products of each store."""
    await world.apply(
        *pools,
        seller_page(world, company),
        job(company, company=company, provider_name=company, enrich=ENRICH),
    )
    await kill_the_reading_worker(world, company)
    status = await world.finished(company)
    assert status["phase"] == "Succeeded", status
    version = await world.until(
        IMPORT_JOB,
        company,
        lambda item: condition_of(item["status"], "Enriched").get("status") == "True",
        seconds=240,
    )
    assert version["status"]["steps"], version["status"]
    assert deaths(markers) == set(StepKind)
    assert await world.sql(LEFT, company) == []
    assert await differences(world, company, catalogue=CATALOGUE, kind="whatsapp") == []
    stores = await rows_held(world, company)
    assert {stores[name] for name in ("product", "photo", "decision")} == {EVERYTHING}, stores
    assert stores["document"] == stores["approved"], stores
    assert stores["approved"][0] >= PRODUCTS * 0.9, stores
    return stores


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
    stores = await sync(world, company, mortal_pools(tmp_path), tmp_path)
    assert (stores["text"], stores["image"]) == (EVERYTHING, EVERYTHING), "pgvector"

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


async def test_milvus_has_each_product_once(world: World, tmp_path: Path) -> None:
    products, company, file = 40, "milvus-seller", tmp_path / "vectors.db"
    markers = tmp_path / "markers"
    await asyncio.to_thread(markers.mkdir)
    pool = mortal_pools(markers, maximum=1, VECTOR_INDEX="milvus", MILVUS_ADDRESS=str(file))[0]
    await world.apply(
        pool,
        secret("milvus-shop", accessToken=SHOPIFY_TOKEN),
        provider(
            "milvus-shop",
            company=company,
            kind="shopify",
            url=f"{world.installation.shopify_url}/tiny-{products}-1-milvus",
        ),
        job("milvus-sync", company=company, provider_name="milvus-shop", enrich={"embedding": True}),
    )
    await world.until(
        IMPORT_JOB,
        "milvus-sync",
        lambda item: condition_of(item.get("status") or {}, "Enriched").get("status") == "True",
        seconds=150,
    )
    assert deaths(markers) == {StepKind.EMBEDDING.value}
    outcome = await world.kubectl(
        "delete", "workerpool", StepKind.EMBEDDING.value, "-n", NAMESPACE, "--cascade=foreground"
    )
    assert outcome.code == 0, outcome.err
    rows = await asyncio.to_thread(in_milvus, file)
    ids = [row[0] for row in await world.sql('SELECT id FROM "Product" WHERE "companyId" = %s', company)]
    assert len(ids) == products
    assert rows == sorted((product_id, kind) for product_id in ids for kind in ("image", "text"))
