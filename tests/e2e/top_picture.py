"""Makes docs/pictures/top.svg of a real, busy installation: `PYTHONPATH=tests python -m e2e.top_picture`."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from lightkube.config.kubeconfig import KubeConfig

from e2e.world import World, job, provider, secret
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_PROVIDER, WORKER_POOL
from import_local.control import delete_data
from import_local.demo.manifests import POOL, get_worker_pool
from import_local.installation import Installation
from import_local.part_set import Options
from import_local.samples.settings import SHOPIFY_TOKEN

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "top.svg"
COMPANIES = ("acme", "bolt", "cafe-nord", "dune", "echo", "fjord", "gable", "harbor")
SEASONS = ("autumn", "winter", "spring", "outlet")
PRODUCTS = (60, 240, 420, 700, 50, 310, 180, 40)
ENDED = 5
LONGEST_SECONDS = 360.0


async def fill(world: World) -> None:
    """Shops, some of them in trouble, and more jobs than there is room for."""
    for company, products in zip(COMPANIES, PRODUCTS, strict=True):
        name = f"{company}-shopify"
        url = f"{world.installation.shopify_url}/tiny-{products}-2"
        await world.apply(
            secret(name, accessToken="shpat_mistyped" if company == "echo" else SHOPIFY_TOKEN),
            provider(name, company=company, kind="shopify", url=url),
        )
    await world.until(
        IMPORT_PROVIDER,
        "echo-shopify",
        lambda found: bool((found.get("status") or {}).get("message")),
        seconds=120,
    )
    await world.imports("open-breaker", "gable-shopify", "--reason", "the shop moves to another plan")
    await world.apply(
        *(
            job(f"{company}-{season}", company=company, provider_name=f"{company}-shopify")
            for season in SEASONS
            for company in COMPANIES
        )
    )


async def draw(world: World) -> None:
    """Draw once some jobs ended and others are well under way."""
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            outcome = await world.imports("top", "-o", "json")
            assert outcome.code == 0, outcome.err
            report = json.loads(outcome.out)
            (pace,) = report["paces"]
            moving = [each for each in report["runningJobs"] if each["done"] and each["toGoSeconds"]]
            if pace["completed"] >= ENDED and len(moving) >= ENDED:
                break
            await asyncio.sleep(1)
    outcome = await world.imports("top", "--svg", str(PICTURE))
    assert outcome.code == 0, outcome.err


async def main(folder: Path) -> None:
    """Start an installation in a folder, draw, and leave nothing behind."""
    installation = Installation(folder, options=Options(durable=False), holder="the picture")
    async with installation as running, KubeClient(KubeConfig.from_file(running.kubeconfig)) as kube:
        world = World(running, kube)
        await world.apply(
            get_worker_pool(minimum=2, maximum=3, image="import-worker:dev", cooldown_seconds=5)
        )
        await world.until(
            *(WORKER_POOL, POOL),
            lambda pool: (pool.get("status") or {}).get("readyReplicas") == 2,
            seconds=120,
        )
        await fill(world)
        await draw(world)
    await asyncio.to_thread(delete_data, installation.state)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="import-operator-picture-") as made:
        # PostgreSQL's user has to pass through it.
        Path(made).chmod(0o711)
        asyncio.run(main(Path(made) / "installation"))
