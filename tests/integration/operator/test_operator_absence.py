"""What people do while no operator runs counts when one is back: delete, suspend, resume, cancel."""

from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.jobs import JobRow, JobState, Progress


async def suspend(cluster: Cluster, name: str, value: bool) -> None:
    patch = f'{{"spec": {{"suspend": {str(value).lower()}}}}}'
    await cluster.kubectl("patch", IMPORT_JOB.plural, name, "--type=merge", "-p", patch)


async def row(database: Database, job_id: str) -> JobRow:
    return (await JobStore(database).read([job_id]))[job_id]


async def test_running_job_that_was_deleted_meanwhile_is_stopped(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    first = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("autumn")
    claim = await worker.take()
    await cluster.phase("autumn", "Running")
    await first.stop()
    await cluster.kubectl("delete", IMPORT_JOB.plural, "autumn")
    await operators.leading()

    async def stopped() -> bool:
        return (await row(database, claim.job.id)).state is JobState.CANCELLED

    await eventually(stopped, what="the job cancelled")
    renewal = await worker.claims.renew([(claim.job.id, claim.claim_id, Progress())])
    assert renewal.confirmed == frozenset(), "its worker finds the claim gone"


async def test_job_that_ended_before_its_object_was_deleted_keeps_its_end(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    first = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("autumn")
    claim = await worker.take()
    await first.stop()
    await worker.finish(claim)
    await cluster.kubectl("delete", IMPORT_JOB.plural, "autumn")
    await operators.leading()
    await cluster.job("other")
    await worker.take()
    assert (await row(database, claim.job.id)).state is JobState.COMPLETED


async def test_suspended_and_resumed_meanwhile(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    first = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("autumn")
    claim = await worker.take()
    await cluster.phase("autumn", "Running")
    await first.stop()
    await suspend(cluster, "autumn", True)
    second = await operators.leading()
    await cluster.condition(IMPORT_JOB, "autumn", "Suspended", "True")
    held = await row(database, claim.job.id)
    assert (held.state, held.suspended, held.claimed_by) == (JobState.PENDING, True, None)

    await second.stop()
    await suspend(cluster, "autumn", False)
    await operators.leading()
    again = await worker.take()
    assert again.job.id == claim.job.id
    await worker.finish(again)
    await cluster.phase("autumn", "Succeeded")


async def test_end_that_came_meanwhile_is_shown(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    first = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("autumn")
    claim = await worker.take()
    await cluster.phase("autumn", "Running")
    await first.stop()
    await worker.finish(claim, JobState.FAILED, reason="Timeout", message="too slow")
    await operators.leading()
    assert (await cluster.phase("autumn", "Failed"))["message"] == "too slow"


async def test_platform_cancels_its_own_job_while_a_worker_has_it(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading(ORPHAN_SCAN_SECONDS="1")
    await cluster.provider()
    await cluster.pool()
    async with database.connection() as connection:
        await connection.execute(
            """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('own', 'acme', 'acme-shopify')"""
        )
    claim = await worker.take()
    assert claim.job.id == "own"
    async with database.connection() as connection:
        await connection.execute("""UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = 'own'""")

    async def stopped() -> bool:
        renewal = await worker.claims.renew([(claim.job.id, claim.claim_id, Progress())])
        return not renewal.confirmed and not renewal.busy

    await eventually(stopped, what="the worker's claim ended")
    assert (await row(database, "own")).state is JobState.CANCELLED


async def test_object_of_a_row_that_the_platform_cancelled_shows_it(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    first = await operators.leading()
    await cluster.provider()
    created = await cluster.job("autumn", ttlSecondsAfterFinished=3600)
    await cluster.phase("autumn", "Queued")
    await first.stop()
    async with database.connection() as connection:
        await connection.execute(
            """UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = %s""",
            (created["metadata"]["uid"],),
        )
    await operators.leading()
    await cluster.phase("autumn", "Cancelled")
