"""A whole installation with a small pool of workers. It ends with these tests, as it keeps a core busy."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from lightkube.config.kubeconfig import KubeConfig

from e2e.world import World
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import WORKER_POOL
from import_local.control import delete_data
from import_local.demo.manifests import POOL, get_worker_pool
from import_local.installation import Installation
from import_local.part_set import Options


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def installation(servers_folder: Path) -> AsyncIterator[Installation]:
    """Run a whole installation for end-to-end tests: crashed containers start again at once."""
    options = Options(durable=False, kubelet=("--crash-backoff", "0"))
    async with Installation(
        servers_folder / "installation", options=options, holder="the test session"
    ) as running:
        yield running
    await asyncio.to_thread(delete_data, running.state)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
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
