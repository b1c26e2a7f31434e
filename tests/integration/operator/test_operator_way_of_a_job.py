"""A job's way through the operator: recorded, handed to Redis, shown, and workers scaled by the backlog."""

import re

from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.resources import DEPLOYMENT, IMPORT_JOB, WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.jobs import JobState


async def test_job_is_recorded_run_and_shown(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    job = await cluster.job("autumn")

    claim = await worker.take()
    assert claim.job.id == job["metadata"]["uid"]
    running = await cluster.phase("autumn", "Running")
    assert running["jobId"] == claim.job.id
    assert running["attempts"] == 1

    await worker.finish(claim)
    done = await cluster.phase("autumn", "Succeeded")
    assert done["completedAt"]
    conditions = {item["type"]: item["status"] for item in done["conditions"]}
    assert conditions == {
        "Accepted": "True",
        "Queued": "False",
        "Complete": "True",
    }
    row = (await JobStore(database).read([claim.job.id]))[claim.job.id]
    assert (row.state, row.company_id, row.provider) == (JobState.COMPLETED, "acme", "acme-shopify")
    assert row.origin is not None
    assert row.origin.name == "autumn"


async def test_workers_follow_the_backlog(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    scaling = {
        "minReplicas": 1,
        "maxReplicas": 4,
        "targetJobsPerWorker": 2,
        "scaleOutCooldownSeconds": 1,
        "scaleInCooldownSeconds": 1,
    }
    await operators.leading()
    await cluster.provider()
    await cluster.pool("importers", scaling=scaling)

    async def replicas() -> int | None:
        body = await cluster.kube.get(DEPLOYMENT, cluster.namespace, "importers-workers")
        return int(body["spec"]["replicas"]) if body else None

    await eventually(lambda: _is(replicas, 1), what="the minimum")
    for number in range(6):
        await cluster.job(f"job-{number}")
    await eventually(lambda: _is(replicas, 3), what="three workers for six jobs")
    status = await cluster.condition(WORKER_POOL, "importers", "ScalingActive", "True")
    assert status["reason"]
    for _ in range(6):
        await worker.finish(await worker.take())
    await eventually(lambda: _is(replicas, 1), what="the minimum again")

    async def shown() -> bool:
        status = await cluster.status("importers", WORKER_POOL)
        # In one step or in two, as the jobs happened to end: one worker is enough for the last two of them.
        fell = re.match(r"DepthFell: [23] to 1 \(depth [012],", status["lastScaleReason"])
        return fell is not None and status["queueDepth"] == 0

    await eventually(shown, what="the scale-in in the status")
    for number in range(6):
        await cluster.phase(f"job-{number}", "Succeeded")


async def test_deleted_job_stops(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("autumn")
    claim = await worker.take()
    await cluster.kubectl("delete", IMPORT_JOB.plural, "autumn")

    async def cancelled() -> bool:
        row = (await JobStore(database).read([claim.job.id]))[claim.job.id]
        return row.state is JobState.CANCELLED and row.claimed_by is None

    await eventually(cancelled, what="the row cancelled and the claim gone")


async def _is(measure: object, wanted: int) -> bool:
    return bool(await measure() == wanted)  # type: ignore[operator]
