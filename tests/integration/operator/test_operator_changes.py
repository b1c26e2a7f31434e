"""Changes while the operator runs, and those that it missed while it did not."""

from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.resources import DEPLOYMENT, IMPORT_JOB, IMPORT_PROVIDER, POD, WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.connections import CheckResult, ConnectionStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications import CONNECTION_CHANNEL, notify
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.domain.jobs import JobState


async def test_suspended_job_stops_and_goes_on(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("held")
    claim = await worker.take()
    await cluster.kubectl(
        "patch", IMPORT_JOB.plural, "held", "--type=merge", "-p", '{"spec": {"suspend": true}}'
    )
    await cluster.condition(IMPORT_JOB, "held", "Suspended", "True")
    row = (await JobStore(database).read([claim.job.id]))[claim.job.id]
    assert (row.state, row.suspended, row.claimed_by) == (JobState.PENDING, True, None)
    assert row.attempt == 0

    await cluster.kubectl(
        "patch", IMPORT_JOB.plural, "held", "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )
    again = await worker.take()
    assert again.job.id == claim.job.id
    await worker.finish(again)
    status = await cluster.phase("held", "Succeeded")
    assert {item["type"]: item["status"] for item in status["conditions"]}["Suspended"] == "False"


async def test_what_happened_while_no_operator_ran_is_made_up_for(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    first = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("deleted")
    claim = await worker.take()
    await cluster.phase("deleted", "Running")
    first.kill()
    await first.process.wait()

    await cluster.kubectl("delete", IMPORT_JOB.plural, "deleted")
    created = await cluster.job("created")
    await operators.leading()
    jobs = JobStore(database)

    async def made_up_for() -> bool:
        rows = await jobs.read([claim.job.id, created["metadata"]["uid"]])
        return [row.state for row in rows.values()].count(JobState.CANCELLED) == 1 and len(rows) == 2

    await eventually(made_up_for, what="the deleted one cancelled, the created one recorded")
    assert (await worker.take()).job.id == created["metadata"]["uid"]


async def test_provider_shows_what_the_worker_found(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await operators.leading()
    await cluster.provider("acme-shopify")
    await cluster.condition(IMPORT_PROVIDER, "acme-shopify", "Ready", "Unknown")
    connections = ConnectionStore(database)
    taken = await eventually(lambda: connections.take_due(cluster.namespace), what="a check that is due")
    result = CheckResult(True, False, "InvalidCredentials", "The provider refused the credentials.")
    await connections.record_result(cluster.namespace, *taken, result)
    await notify(database, CONNECTION_CHANNEL, [f"{cluster.namespace}/acme-shopify"])
    await cluster.condition(IMPORT_PROVIDER, "acme-shopify", "CredentialsValid", "False")
    status = await cluster.status("acme-shopify", IMPORT_PROVIDER)
    assert status["message"] == "The provider refused the credentials."
    assert status["checkedAt"]


async def test_deployment_that_was_deleted_or_changed_comes_back(
    cluster: Cluster, operators: Operators
) -> None:
    await operators.leading()
    await cluster.pool("fast")

    async def image() -> str | None:
        body = await cluster.kube.get(DEPLOYMENT, cluster.namespace, "fast-workers")
        return body["spec"]["template"]["spec"]["containers"][0]["image"] if body else None

    await eventually(image, what="the Deployment")
    before = (await cluster.get(DEPLOYMENT, "fast-workers"))["metadata"]["uid"]
    await cluster.kubectl("delete", DEPLOYMENT.plural, "fast-workers")

    async def new() -> bool:
        body = await cluster.kube.get(DEPLOYMENT, cluster.namespace, "fast-workers")
        return body is not None and body["metadata"]["uid"] != before

    await eventually(new, what="the Deployment made again")
    patch = '{"spec": {"concurrency": 7}}'
    await cluster.kubectl("patch", WORKER_POOL.plural, "fast", "--type=merge", "-p", patch)

    async def updated() -> bool:
        body = await cluster.get(DEPLOYMENT, "fast-workers")
        (container,) = body["spec"]["template"]["spec"]["containers"]
        return {"name": "IMPORT_CONCURRENCY", "value": "7"} in container["env"]

    await eventually(updated, what="the new number of jobs")


async def test_number_held_by_hand(cluster: Cluster, operators: Operators) -> None:
    await operators.leading()
    await cluster.pool("fast")
    await cluster.condition(WORKER_POOL, "fast", "ScalingActive", "True")
    await cluster.kubectl("scale", f"{WORKER_POOL.plural}/fast", "--replicas=3")
    condition = await cluster.condition(WORKER_POOL, "fast", "ScalingActive", "False")
    assert condition["reason"] == "Manual"

    async def held() -> bool:
        return bool((await cluster.get(DEPLOYMENT, "fast-workers"))["spec"]["replicas"] == 3)

    await eventually(held, what="three replicas")
    await cluster.kubectl(
        "patch", WORKER_POOL.plural, "fast", "--type=merge", "-p", '{"spec": {"replicas": null}}'
    )
    await cluster.condition(WORKER_POOL, "fast", "ScalingActive", "True")


async def test_paused_scaling_leaves_the_number_as_it_is(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await operators.leading()
    await cluster.pool(
        "fast", scaling={"minReplicas": 1, "maxReplicas": 9, "targetJobsPerWorker": 1}, paused=True
    )
    condition = await cluster.condition(WORKER_POOL, "fast", "ScalingActive", "False")
    assert condition["reason"] == "Paused"
    before = (await cluster.get(DEPLOYMENT, "fast-workers"))["spec"]["replicas"]
    async with database.connection() as connection:
        await connection.execute(
            """INSERT INTO "ProductImportJob" (id, "companyId", provider)
            SELECT 'row-' || n, 'acme', 'p' FROM generate_series(1, 7) n"""
        )

    async def shown() -> bool:
        return (await cluster.status("fast", WORKER_POOL)).get("queueDepth") == 7

    await eventually(shown, what="the depth")
    assert (await cluster.get(DEPLOYMENT, "fast-workers"))["spec"]["replicas"] == before
    await cluster.kubectl(
        "patch", WORKER_POOL.plural, "fast", "--type=merge", "-p", '{"spec": {"paused": false}}'
    )

    async def grown() -> bool:
        return bool((await cluster.get(DEPLOYMENT, "fast-workers"))["spec"]["replicas"] == 7)

    await eventually(grown, what="seven replicas")


async def test_end_of_a_worker_pod_frees_its_jobs(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    labels = {"imports.avnz.io/pool": "by-hand"}
    spec = {"containers": [{"name": "worker", "image": "import-worker:dev"}], "nodeName": "nowhere"}
    pod = await cluster.create(POD, "worker-pod", spec, labels=labels)
    await WorkerStore(database).register(
        WorkerProcess(
            worker.worker_id,
            "product-imports",
            cluster.namespace,
            "worker-pod",
            pod["metadata"]["uid"],
            5,
        )
    )
    await cluster.job("interrupted")
    claim = await worker.take(lease_seconds=3600)
    await cluster.kubectl("delete", "pod", "worker-pod", "--force", "--grace-period=0")
    again = await worker.take()
    assert (again.job.id, again.job.deaths) == (claim.job.id, 1)
