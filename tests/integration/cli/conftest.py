"""A world for each test of the commands: its environment names the test's own cluster and database."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cli_world import CliWorld, Wire
from lightkube.config.kubeconfig import KubeConfig

from import_cli import following, queue_commands, watch_command
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_local.kubectl import run_kubectl


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between looks, not the time limits."""
    monkeypatch.setattr(watch_command, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(queue_commands, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(following, "RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(following, "REREAD_SECONDS", 0.2)


@pytest_asyncio.fixture(loop_scope="session")
async def cli(
    control_plane: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CliWorld]:
    namespace = f"cli-{uuid.uuid4().hex[:8]}"
    await run_kubectl(control_plane, "create", "namespace", namespace)
    monkeypatch.setenv("KUBECONFIG", str(control_plane))
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.delenv("IMPORTS_NAMESPACE", raising=False)
    database = Database(database_url, application="tests", maximum=2)
    await database.open(wait_seconds=10)
    async with KubeClient(KubeConfig.from_file(control_plane)) as kube:
        yield CliWorld(namespace, kube, control_plane, database)
    await database.close()
    await run_kubectl(control_plane, "delete", "namespace", namespace, "--wait=false")


@pytest_asyncio.fixture(loop_scope="session")
async def wire(cli: CliWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    """Return a wire that the commands use from now on."""
    wire = Wire(cli.kubeconfig, tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(await wire.open()))
    yield wire
    await wire.cut()
