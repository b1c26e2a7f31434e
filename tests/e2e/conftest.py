"""A whole installation with a small pool of workers, for the session."""

from collections.abc import AsyncIterator

import pytest_asyncio
from lightkube.config.kubeconfig import KubeConfig

from e2e.world import World
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import WORKER_POOL
from import_local.demo.manifests import POOL, get_worker_pool
from import_local.installation import Installation


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(installation: Installation) -> AsyncIterator[World]:
    """The installation with a pool of 2 to 4 workers that are ready."""
    async with KubeClient(KubeConfig.from_file(installation.kubeconfig)) as kube:
        world = World(installation, kube)
        await world.apply(
            get_worker_pool(minimum=2, maximum=4, image="import-worker:dev", cooldown_seconds=5)
        )
        await world.until(
            WORKER_POOL, POOL, lambda pool: (pool.get("status") or {}).get("readyReplicas") == 2, seconds=120
        )
        yield world
