"""Backpressure through a real operator and API server: intake stops, jobs are held, and all of them complete."""

import asyncio

from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.resources import IMPORT_JOB, WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.domain.jobs import DEFAULT_QUEUE

JOBS = 12
HEALTH = {
    "degradedAbove": 2,
    "criticalAbove": 4,
    "overloadAbove": 6,
    "resumeAfterSeconds": 0,
    "basicDelaySeconds": 0,
}


async def test_held_jobs_say_so_and_all_complete(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    operator = await operators.leading()
    await cluster.provider()
    await cluster.pool(health=HEALTH)

    async def judged_by_the_pool() -> bool:
        healthy = await cluster.condition(WORKER_POOL, "workers", "QueueHealthy", "True")
        return healthy["message"].startswith("At most 2 jobs")

    await eventually(judged_by_the_pool, what="the pool's thresholds")
    names = [f"job-{number:02}" for number in range(JOBS)]
    await asyncio.gather(*map(cluster.job, names))

    async def held() -> list[str]:
        said = [await cluster.status(name) for name in names]
        reasons = [
            condition["reason"]
            for status in said
            for condition in status.get("conditions") or []
            if condition["type"] == "Accepted" and condition["status"] == "False"
        ]
        # They come in batches, and the depth is measured in between: all but those that there is room for
        # are held in the end, and nothing changes that before a worker comes.
        return reasons if reasons == ["Backpressure"] * (JOBS - HEALTH["criticalAbove"]) else []

    await eventually(held, what="held jobs")
    assert (await JobStore(database).depth([DEFAULT_QUEUE]))[DEFAULT_QUEUE].total == HEALTH["criticalAbove"]

    async def told() -> bool:
        return bool(operator.logged("queue.health"))

    # The guard looks by the clock: jobs that are done before its next look have filled no queue for it.
    await eventually(told, what="word of the queue's health")
    # Everything is taken in the end, a few at a time.
    for _ in names:
        await worker.finish(await worker.take())
    for name in names:
        await cluster.phase(name, "Succeeded")


async def test_a_persons_stop_of_intake_is_seen_at_the_pool(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    queues = QueueStateStore(database)
    await queues.set_intake("product-imports", stopped=True, reason="moving", changed_by="ada")
    stopped = await cluster.condition(WORKER_POOL, "workers", "IntakeOpen", "False", reason="StoppedByHand")
    assert "moving" in stopped["message"]
    await cluster.job("waits")
    await cluster.condition(IMPORT_JOB, "waits", "Accepted", "False", reason="Backpressure")
    await queues.set_intake("product-imports", stopped=False, reason=None, changed_by="ada")
    await cluster.condition(WORKER_POOL, "workers", "IntakeOpen", "True")
    await worker.finish(await worker.take())
    await cluster.phase("waits", "Succeeded")
