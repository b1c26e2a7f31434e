"""Finished objects are deleted after their time, and never one that is still wanted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from eventually import eventually
from lightkube.config.kubeconfig import KubeConfig
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.errors import ObjectConflictError, ObjectNotFoundError
from import_core.domain.jobs import JobRequest, JobState, ObjectReference
from import_operator.handlers.handle_record_import_job import handle_record_import_job
from import_operator.loops.sweep import SweepLoop
from import_operator.state import OperatorState

RETRY = "imports.avnz.io/retry"
LONG_AGO = "2026-01-01T00:00:00Z"


async def exists(cluster: Cluster, name: str) -> bool:
    return await cluster.kube.get(IMPORT_JOB, cluster.namespace, name) is not None


async def gone(cluster: Cluster, name: str) -> None:
    async def check() -> bool:
        return not await exists(cluster, name)

    await eventually(check, what=f"{name} deleted")


async def next_second(status: dict[str, Any]) -> None:
    """Wait until the second in which the job ended is over."""
    end = datetime.fromisoformat(status["completedAt"]) + timedelta(seconds=1)

    async def over() -> bool:
        return datetime.now(UTC) >= end

    await eventually(over, what="the next second")


async def test_finished_object_goes_and_its_row_stays(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("short", ttlSecondsAfterFinished=0)
    claim = await worker.take()
    await cluster.phase("short", "Running")
    await worker.finish(claim)
    await gone(cluster, "short")
    assert (await JobStore(database).read([claim.job.id]))[claim.job.id].state is JobState.COMPLETED


async def test_time_that_was_over_while_no_operator_ran(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    first = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("short", ttlSecondsAfterFinished=1)
    await cluster.job("long")
    claims = [await worker.take(), await worker.take()]
    await cluster.phase("short", "Running")
    await first.stop()
    for claim in claims:
        await worker.finish(claim)
    await operators.leading()
    await gone(cluster, "short")
    await cluster.phase("long", "Succeeded")


async def test_above_the_number_the_oldest_go(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    await operators.leading(FINISHED_OBJECTS_LIMIT="2")
    await cluster.provider()
    await cluster.pool()
    for name in ("first", "second", "third"):
        await cluster.job(name)
        await worker.finish(await worker.take())
        # Ends have whole seconds: each in its own, so that there is an oldest.
        await next_second(await cluster.phase(name, "Succeeded"))
    await gone(cluster, "first")
    assert await exists(cluster, "second")
    assert await exists(cluster, "third")


class Sweeper:
    """The loop alone, with the operator's own rights."""

    def __init__(self, cluster: Cluster, database: Database, kube: KubeClient) -> None:
        self.cluster = cluster
        self.database = database
        self.state = OperatorState(cluster.namespace)
        self.loop = SweepLoop(
            self.state,
            kube,
            ReopeningStore(database),
            finished_objects_limit=5000,
        )

    async def finished(self, name: str, **metadata: Any) -> str:
        """Make an object and a row that failed long ago, and show the object to the operator's memory."""
        spec = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}, "ttlSecondsAfterFinished": 0}
        created = await self.cluster.create(IMPORT_JOB, name, spec, **metadata)
        uid = created["metadata"]["uid"]
        status = {"phase": "Failed", "completedAt": LONG_AGO}
        body = await self.cluster.kube.patch_status(
            IMPORT_JOB, self.cluster.namespace, name, status, resource_version=None
        )
        origin = ObjectReference(self.cluster.namespace, name, uid)
        await JobStore(self.database).record(
            [JobRequest(uid, "acme", "acme-shopify", self.cluster.namespace, {}, origin, generation=1)]
        )
        async with self.database.connection() as connection:
            await connection.execute(
                """UPDATE "ProductImportJob" SET status = 'FAILED' WHERE id = %s""", (uid,)
            )
        handle_record_import_job(self.state, body)
        return str(uid)


@pytest_asyncio.fixture(loop_scope="session")
async def sweeper(cluster: Cluster, database: Database) -> AsyncIterator[Sweeper]:
    async with KubeClient(KubeConfig.from_file(cluster.operator_kubeconfig)) as kube:
        yield Sweeper(cluster, database, kube)


async def test_object_that_asks_for_another_run_stays(cluster: Cluster, sweeper: Sweeper) -> None:
    await sweeper.finished("plain")
    uid = await sweeper.finished("asks", annotations={RETRY: "1"})
    await sweeper.loop.round()
    assert not await exists(cluster, "plain")
    assert await exists(cluster, "asks")
    assert await ReopeningStore(sweeper.database).retry({uid: "1"}) == [uid]


async def test_object_whose_job_runs_again_stays(cluster: Cluster, sweeper: Sweeper) -> None:
    uid = await sweeper.finished("again")
    await ReopeningStore(sweeper.database).retry({uid: "by hand"})
    await sweeper.loop.round()
    assert await exists(cluster, "again"), "its status does not show it yet"


async def test_object_that_has_changed_since_it_was_seen_stays(cluster: Cluster, sweeper: Sweeper) -> None:
    await sweeper.finished("changed")
    await cluster.kubectl("annotate", IMPORT_JOB.plural, "changed", f"{RETRY}=1")
    await sweeper.loop.round()
    assert await exists(cluster, "changed")


async def test_database_away_deletes_nothing(cluster: Cluster, sweeper: Sweeper) -> None:
    await sweeper.finished("kept")
    away = Database("postgresql://nobody@127.0.0.1:1/none", application="tests")
    async with KubeClient(KubeConfig.from_file(cluster.operator_kubeconfig)) as kube:
        loop = SweepLoop(
            sweeper.state,
            kube,
            ReopeningStore(away),
            finished_objects_limit=1,
        )
        with pytest.raises(Exception, match="PostgreSQL"):
            await loop.round()
    assert await exists(cluster, "kept")


async def test_deletion_names_what_it_means(cluster: Cluster, sweeper: Sweeper) -> None:
    uid = await sweeper.finished("named")
    kube, namespace = cluster.kube, cluster.namespace
    with pytest.raises(ObjectConflictError):
        await kube.delete(IMPORT_JOB, namespace, "named", uid="0" * 8)
    with pytest.raises(ObjectConflictError):
        await kube.delete(IMPORT_JOB, namespace, "named", uid=uid, resource_version="1")
    await kube.delete(IMPORT_JOB, namespace, "named", uid=uid)
    with pytest.raises(ObjectNotFoundError):
        await kube.delete(IMPORT_JOB, namespace, "named", uid=uid)
