"""A scale-in takes idle workers by the drain handshake: the busy one goes on, and its job is not interrupted."""

from __future__ import annotations

import json

import httpx2
from eventually import eventually

from e2e.test_refusals import connect
from e2e.world import NAMESPACE, POOL_LABEL, Json, World, job
from import_core.adapters.kube.resources import POD, WORKER_POOL
from import_core.domain.draining import BUSY_MARKS, DELETION_COST, DO_NOT_DISRUPT, NO_MARKS, Marks
from import_local.demo.manifests import POOL

# Six images at a time, ten seconds each: the job outlasts the longest wait for the scale-in, also on a busy machine.
SHOP = "tiny-100-1-scalein"
IMAGE_SECONDS = 10.0
LABEL = {POOL_LABEL: POOL}


async def shape(world: World, **spec: object) -> None:
    outcome = await world.kubectl(
        *("patch", "workerpool", POOL, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": spec}))
    )
    assert outcome.code == 0, outcome.err


async def ready(world: World, number: int) -> None:
    def is_so(pool: Json) -> bool:
        status = pool.get("status") or {}
        return (status.get("replicas"), status.get("readyReplicas")) == (number, number)

    await world.until(WORKER_POOL, POOL, is_so, seconds=150)


async def slow_images(world: World, seconds: float) -> None:
    async with httpx2.AsyncClient(base_url=world.sample_root, trust_env=False, timeout=30) as client:
        order = {"images": {"latencySeconds": seconds}}
        (await client.put(f"/control/shopify/{SHOP}/faults", json=order)).raise_for_status()


async def pods(world: World) -> dict[str, Json]:
    """Those that have not been told to stop, by name."""
    found = {}
    async for pod in world.kube.list(POD, NAMESPACE, labels=LABEL):
        if "deletionTimestamp" not in pod["metadata"]:
            found[str(pod["metadata"]["name"])] = pod
    return found


async def marks(world: World, name: str) -> Marks:
    annotations = (await pods(world))[name]["metadata"].get("annotations") or {}
    return Marks(annotations.get(DELETION_COST), annotations.get(DO_NOT_DISRUPT))


async def evidence(world: World) -> str:
    """What the operator last did with the number of workers, for a failure that can't be had again."""
    explained = await world.imports("explain-scaling", POOL)
    deployment = await world.kubectl("get", "deployment", f"{POOL}-workers", "-n", NAMESPACE, "-o", "json")
    found = json.loads(deployment.out)
    return f"{explained.out}{found['spec']['replicas']} wanted, {found['status']}"


async def holder(world: World, name: str) -> str | None:
    rows = await world.sql(
        """SELECT w.pod_name FROM imports.claim c JOIN imports.worker w USING (worker_id)
        JOIN "ProductImportJob" j ON j.id = c.job_id WHERE j."objectName" = %s""",
        name,
    )
    return str(rows[0][0]) if rows else None


async def test_from_four_to_one_the_three_idle_ones_go(world: World) -> None:
    await connect(world, "scale-in", shop=SHOP)
    await slow_images(world, IMAGE_SECONDS)
    try:
        await shape(world, replicas=4)
        await ready(world, 4)
        await world.apply(job("scale-in", company="scale-in", provider_name="scale-in"))
        busy = str(await eventually(lambda: holder(world, "scale-in"), seconds=60, what="the job is claimed"))

        async def marked() -> bool:
            return await marks(world, busy) == BUSY_MARKS

        await eventually(marked, what="node consolidation is kept away")

        await shape(world, replicas=None, scaling={"minReplicas": 1})

        async def one_is_left() -> bool:
            assert busy in await pods(world), "the busy worker was stopped"
            return len(await pods(world)) == 1

        await eventually(one_is_left, seconds=90, what="three workers have gone")
        assert await holder(world, "scale-in") == busy, "the job was to outlast the scale-in"
        await slow_images(world, 0)
        status = await world.finished("scale-in", seconds=120)
        assert status["phase"] == "Succeeded"
        rows = await world.sql(
            """SELECT status, attempt, deaths, interrupted, dispatch FROM "ProductImportJob"
            WHERE "objectName" = 'scale-in'"""
        )
        # The second number outdates the message of the first, which was the only hand-over.
        assert rows == [("COMPLETED", 0, 0, None, 2)]
        assert (await pods(world)).keys() == {busy}, await evidence(world)

        async def unmarked() -> bool:
            return await marks(world, busy) == NO_MARKS

        await eventually(unmarked, seconds=60, what="the idle worker is protected no more")
    finally:
        await shape(world, replicas=None, scaling={"minReplicas": 2})
        await ready(world, 2)
