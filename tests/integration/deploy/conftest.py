"""A cluster, databases and sample stores without operator and gateway: what the overlays are applied to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from import_local.control import delete_data
from import_local.installation import Installation
from import_local.kubectl import run_kubectl
from import_local.part_set import Options

MONITORING = Path(__file__).with_name("monitoring_definitions.yaml")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installation(servers_folder: Path) -> AsyncIterator[Installation]:
    """A control plane of their own: these tests exchange its definitions, and its node runs what they apply.

    Of each file, as this folder is no package: it would run until the session's end, beside all other tests.
    """
    options = Options(durable=False, operator=False, kubelet=("--crash-backoff", "0"))
    async with Installation(
        servers_folder / "deploy", options=options, holder="the tests of deploy"
    ) as running:
        await run_kubectl(running.kubeconfig, "apply", "--server-side", "-f", MONITORING)
        await run_kubectl(
            running.kubeconfig, "wait", "--for=condition=Established", "--timeout=30s", "-f", MONITORING
        )
        yield running
    await asyncio.to_thread(delete_data, running.state)
