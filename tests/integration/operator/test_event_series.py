"""Events of a real API server, posted with the operator's rights: what is told again counts in the one there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from lightkube.config.kubeconfig import KubeConfig
from operator_world import Cluster

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import WORKER_POOL
from import_operator.loops.tell import TellLoop


@pytest_asyncio.fixture(loop_scope="session")
async def tell(cluster: Cluster) -> AsyncIterator[TellLoop]:
    async with KubeClient(KubeConfig.from_file(cluster.operator_kubeconfig)) as kube:
        yield TellLoop(kube, namespace=cluster.namespace, instance="tests")


async def events(cluster: Cluster) -> list[tuple[str, int]]:
    """Notes, and how often each was told of."""
    listed: dict[str, Any] = json.loads(await cluster.kubectl("get", "events.events.k8s.io", "-o", "json"))
    return sorted((item["note"], (item.get("series") or {}).get("count", 1)) for item in listed["items"])


async def test_what_is_told_again_is_one_event_with_a_count(cluster: Cluster, tell: TellLoop) -> None:
    pool, other = await cluster.pool("workers"), await cluster.pool("others")

    def scaled(body: dict[str, Any], note: str) -> None:
        tell.tell(WORKER_POOL, body, reason="Scaled", action="Scale", note=note)

    scaled(pool, "DepthRose")
    await tell.round()
    for _ in range(3):
        scaled(pool, "DepthRose")
    scaled(pool, "DepthFell")
    scaled(other, "DepthRose")
    await tell.round()
    assert await events(cluster) == [("DepthFell", 1), ("DepthRose", 1), ("DepthRose", 4)]
    described = await cluster.kubectl("describe", "workerpool", "workers")
    assert "(x4 over" in described

    # What expired, or was deleted, is told of anew.
    await cluster.kubectl("delete", "events.events.k8s.io", "--all")
    scaled(pool, "DepthRose")
    await tell.round()
    assert await events(cluster) == [("DepthRose", 5)]
