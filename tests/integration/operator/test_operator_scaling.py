"""Pools by their policy, against a real database and control plane: work, providers' limits, schedules, reasons."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from eventually import eventually
from operator_world import Cluster, Operators

from import_cli.explain_command import replay
from import_core.adapters.kube.resources import DEPLOYMENT, IMPORT_SCHEDULE, WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.decisions import DecisionStore, RecordedDecision

SCALING = {"policy": "DrainTime", "minReplicas": 1, "maxReplicas": 40, "drainTimeSeconds": 60}
# Each copied 400 products and images in 40 s.
FINISHED = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, namespace, status, dispatch, "startedAt", "completedAt")
SELECT 'done-' || n, 'acme', 'acme-shopify', %s, 'COMPLETED', 2, now() - interval '100 seconds',
    now() - interval '60 seconds'
FROM generate_series(1, 5) n
"""
CHECKPOINTS = """
INSERT INTO imports.checkpoint (job_id, version, progress, pages)
SELECT 'done-' || n, 1, %s, 2 FROM generate_series(1, 5) n
"""
COUNTERS = {"products_total": 100, "products_imported": 100, "images_total": 300, "images_imported": 300}
# They wait: nothing can be handed over to nobody.
WAITING = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, namespace)
SELECT 'waits-' || n, 'acme', 'acme-shopify', %s FROM generate_series(1, 75) n
"""


async def sql(database: Database, statement: str, *values: Any) -> None:
    async with database.connection() as connection:
        await connection.execute(statement, values)


async def replicas(cluster: Cluster, name: str, wanted: int, *, seconds: float = 30.0) -> None:
    async def there() -> bool:
        body = await cluster.kube.get(DEPLOYMENT, cluster.namespace, f"{name}-workers")
        return body is not None and body["spec"].get("replicas") == wanted

    await eventually(there, seconds=seconds, what=f"{wanted} workers")


async def limited(cluster: Cluster, name: str) -> None:
    async def said() -> bool:
        conditions = (await cluster.status(name, WORKER_POOL)).get("conditions") or []
        return "ProviderLimited" in {condition["reason"] for condition in conditions}

    await eventually(said, what=f"{name} ProviderLimited")


async def kept(cluster: Cluster, database: Database, pool: str, reason: str) -> list[RecordedDecision]:
    """The pool's decisions, once there is one of that reason."""
    store = DecisionStore(database)

    async def read() -> list[RecordedDecision] | None:
        found = await store.read(cluster.namespace, pool, since=None, limit=100)
        return found if reason in {each.reason for each in found} else None

    return list(await eventually(read, what=f"a decision {reason}"))


async def test_drain_time_counts_work_and_starts_none_that_a_provider_would_not_let_work(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await sql(database, FINISHED, cluster.namespace)
    await sql(database, CHECKPOINTS, json.dumps(COUNTERS))
    await cluster.provider("acme-shopify", rateLimit={"requests": 100_000, "perSeconds": 1})
    await operators.leading()
    await cluster.pool("fast", scaling=SCALING)
    await cluster.condition(WORKER_POOL, "fast", "ScalingActive", "True")
    await sql(database, WAITING, cluster.namespace)
    # 75 jobs of 400 units are 30,000, at 10 a second 50 places for 60 s, 5 in a worker; by the depth it were 8.
    await replicas(cluster, "fast", 10)

    breakers = BreakerStore(database)
    await breakers.open_by_hand(cluster.namespace, "acme-shopify", by="ann", reason="the shop moves")
    await limited(cluster, "fast")
    await cluster.pool("late", scaling=SCALING)
    await limited(cluster, "late")
    assert (await cluster.get(DEPLOYMENT, "late-workers"))["spec"]["replicas"] == 1

    decisions = await kept(cluster, database, "fast", "WorkRose")
    decisions += await kept(cluster, database, "late", "ProviderLimited")
    for decision in decisions:
        assert replay(decision).same, decision
    grown = next(each for each in decisions if each.reason == "WorkRose")
    assert (grown.before, grown.replicas, grown.need) == (1, 10, 10)


async def test_queue_depth_starts_no_workers_for_what_an_open_breaker_holds(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await cluster.provider("acme-shopify")
    breakers = BreakerStore(database)
    await breakers.open_by_hand(cluster.namespace, "acme-shopify", by="ann", reason="the shop moves")
    await sql(database, WAITING, cluster.namespace)
    await operators.leading()
    await cluster.pool("fast", scaling={"minReplicas": 1, "maxReplicas": 40})
    await limited(cluster, "fast")
    assert (await cluster.get(DEPLOYMENT, "fast-workers"))["spec"]["replicas"] == 1
    status = await cluster.status("fast", WORKER_POOL)
    assert status["queueDepth"] == 75, "held jobs are accepted work all the same"

    await breakers.reset(cluster.namespace, "acme-shopify")
    await replicas(cluster, "fast", 8)
    for decision in await kept(cluster, database, "fast", "DepthRose"):
        assert replay(decision).same, decision


async def test_a_pool_grows_ahead_of_the_runs_of_schedules(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await cluster.provider()
    await operators.leading()
    await cluster.pool("fast", scaling={"minReplicas": 1, "maxReplicas": 9, "targetJobsPerWorker": 1})
    await replicas(cluster, "fast", 1)
    # In half a minute at the soonest, which this does not take; workers are started a minute ahead.
    coming = datetime.now(UTC) + timedelta(seconds=90)
    for number in range(4):
        job = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}
        await cluster.create(
            IMPORT_SCHEDULE,
            f"nightly-{number}",
            {"schedule": f"{coming.minute} * * * *", "jitterSeconds": 0, "jobTemplate": {"spec": job}},
        )
    await replicas(cluster, "fast", 4, seconds=90)
    status = await cluster.status("fast", WORKER_POOL)
    assert status["queueDepth"] == 0, "before any of their jobs"

    async def all_kept() -> list[RecordedDecision] | None:
        found = await kept(cluster, database, "fast", "KnownWave")
        return found if found[-1].replicas == 4 else None

    # In one step or more, as the operator happened to see the schedules.
    found = await eventually(all_kept, what="the decision for four")
    waves = [each for each in found if each.reason == "KnownWave"]
    assert (waves[0].before, waves[-1].replicas) == (1, 4)
    assert all(replay(decision).same for decision in waves)
