"""A namespace, a webhook configuration and a database of the test's own, and gateways that end with it."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
import yaml
from admission_world import World, manifests
from lightkube.config.kubeconfig import KubeConfig

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_local.kubectl import run_kubectl
from import_local.parts.control_plane import ControlPlane
from import_local.ports import free_port


@pytest_asyncio.fixture(loop_scope="session")
async def world(
    control_plane_server: ControlPlane, database_url: str, tmp_path: Path
) -> AsyncIterator[World]:
    admin, namespace, port = control_plane_server.kubeconfig, f"room-{uuid.uuid4().hex[:8]}", free_port()
    documents = manifests(namespace, webhook_url=f"https://127.0.0.1:{port}")
    content = yaml.safe_dump_all(documents).encode()
    await run_kubectl(admin, "create", "namespace", namespace)
    await run_kubectl(admin, "--namespace", namespace, "apply", "-f", "-", stdin=content)
    token = await run_kubectl(admin, "--namespace", namespace, "create", "token", "import-gateway")
    kubeconfig = control_plane_server.kubeconfig_with_token(
        f"{namespace}-gateway", token.strip(), namespace=namespace
    )
    database = Database(database_url, application="tests", maximum=4)
    await database.open(wait_seconds=10)
    async with KubeClient(KubeConfig.from_file(admin)) as kube:
        world = World(namespace, admin, kubeconfig, kube, port, database, database_url, tmp_path)
        yield world
        for gateway in world.gateways:
            await gateway.stop()
    await database.close()
    # All of it: a configuration that is left would have every later test's API server ask a dead address.
    await run_kubectl(admin, "--namespace", namespace, "delete", "--wait=false", "-f", "-", stdin=content)
    await run_kubectl(admin, "delete", "namespace", namespace, "--wait=false")
