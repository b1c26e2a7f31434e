"""Finished jobs run again where an annotation asks for it, also one that came while no operator ran."""

import json
from typing import Any

import pytest
from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.connections import ConnectionStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.jobs import JobRow, JobState

RETRY = "imports.avnz.io/retry"
RETRY_ITEMS = "imports.avnz.io/retry-items"
CONFIRM = "imports.avnz.io/confirm-removals"


async def annotate(cluster: Cluster, name: str, **values: str) -> None:
    names = {"retry": RETRY, "items": RETRY_ITEMS, "confirm": CONFIRM}
    words = [f"{names[key]}={value}" for key, value in values.items()]
    await cluster.kubectl("annotate", IMPORT_JOB.plural, name, "--overwrite", *words)


async def failed(cluster: Cluster, worker: TakingWorker, name: str = "autumn", **result: Any) -> str:
    """Have a job fail; returns its id."""
    await cluster.provider()
    await cluster.pool()
    await cluster.job(name)
    claim = await worker.take()
    await worker.finish(claim, JobState.FAILED, **result)
    await cluster.phase(name, "Failed")
    return claim.job.id


async def row(database: Database, job_id: str) -> JobRow:
    return (await JobStore(database).read([job_id]))[job_id]


def statuses(status: dict[str, Any]) -> dict[str, str]:
    return {item["type"]: item["status"] for item in status["conditions"]}


async def notes(cluster: Cluster, reason: str) -> list[str]:
    """Notes of the Events of a reason."""
    listed = json.loads(await cluster.kubectl("get", "events.events.k8s.io", "-o", "json"))
    return [item["note"] for item in listed["items"] if item["reason"] == reason]


async def test_job_runs_again_once_for_each_value(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    job_id = await failed(cluster, worker, reason="Timeout", message="too slow")
    await annotate(cluster, "autumn", retry="first")
    again = await worker.take()
    assert (again.job.id, again.job.attempt, again.checkpoint) == (job_id, 0, None)
    running = await cluster.phase("autumn", "Running")
    assert statuses(running)["Failed"] == "False"
    assert "completedAt" not in running
    await worker.finish(again)
    done = await cluster.phase("autumn", "Succeeded")
    assert (statuses(done)["Complete"], statuses(done)["Failed"]) == ("True", "False")
    assert await eventually(lambda: notes(cluster, "Retry"), what="an Event that tells of it")

    await annotate(cluster, "autumn", retry="first")
    other = await cluster.job("other")
    assert (await worker.take()).job.id == other["metadata"]["uid"], "the same value is no new request"
    assert (await row(database, job_id)).state is JobState.COMPLETED
    await annotate(cluster, "autumn", retry="second")
    assert (await worker.take()).job.id == job_id


async def test_request_that_came_while_no_operator_ran(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    first = await operators.leading()
    job_id = await failed(cluster, worker)
    await first.stop()
    await annotate(cluster, "autumn", retry="1")
    second = await operators.leading()
    claim = await worker.take()
    assert claim.job.id == job_id
    await worker.finish(claim)
    await cluster.phase("autumn", "Succeeded")
    await second.stop()

    await operators.leading()
    other = await cluster.job("other")
    assert (await worker.take()).job.id == other["metadata"]["uid"], "it was honoured before"


async def test_run_that_began_behind_the_back_of_its_object_is_shown(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    first = await operators.leading()
    job_id = await failed(cluster, worker)
    await first.stop()
    # As if the operator had died between its commit and the patch of the object.
    assert await ReopeningStore(database).retry({job_id: "1"}) == [job_id]
    await operators.leading()
    claim = await worker.take()
    assert claim.job.id == job_id
    assert statuses(await cluster.phase("autumn", "Running"))["Failed"] == "False"


async def test_changed_spec_counts_for_the_run_that_is_asked_for(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    await operators.leading()
    await failed(cluster, worker)
    patch = {"spec": {"images": {"enabled": False}}, "metadata": {"annotations": {RETRY: "1"}}}
    await cluster.kubectl("patch", IMPORT_JOB.plural, "autumn", "--type=merge", "-p", json.dumps(patch))
    claim = await worker.take()
    assert (claim.job.generation, claim.job.spec["images"]["enabled"]) == (2, False)


async def test_request_given_during_a_run_is_honoured_after_it(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await cluster.job("autumn")
    claim = await worker.take()
    await annotate(cluster, "autumn", retry="1")
    await worker.finish(claim)
    again = await worker.take()
    assert again.job.id == claim.job.id
    await worker.finish(again)
    await cluster.phase("autumn", "Succeeded")


async def test_failed_items_alone(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    job_id = await failed(cluster, worker)
    await annotate(cluster, "autumn", items="1")
    told = await eventually(lambda: notes(cluster, "AnnotationUnusable"), what="an Event")
    assert told == [f"{RETRY_ITEMS}: the job has no failed items"]
    async with database.connection() as connection:
        await connection.execute(
            """INSERT INTO imports.item_error (job_id, external_id, stage, reason, message)
            VALUES (%s, 'p-1', 'map', 'Invalid', 'no title')""",
            (job_id,),
        )
    await annotate(cluster, "autumn", items="2")
    claim = await worker.take()
    assert (claim.job.id, claim.job.items_only) == (job_id, True)


async def test_removals_are_confirmed(cluster: Cluster, operators: Operators, worker: TakingWorker) -> None:
    await operators.leading()
    job_id = await failed(cluster, worker, reason="RemovalsNotConfirmed", message="30 of 100 are gone")
    await annotate(cluster, "autumn", confirm="2")
    told = await eventually(lambda: notes(cluster, "AnnotationUnusable"), what="an Event")
    assert told == [f"{CONFIRM}: 2 is not the job's generation, which is 1"]
    await annotate(cluster, "autumn", confirm="1")
    claim = await worker.take()
    assert (claim.job.id, claim.job.confirmed_removals) == (job_id, 1)


@pytest.mark.parametrize(
    "case",
    [("retry", "x" * 129, "1 to 128 printable characters"), ("confirm", "yes", "'yes' is not a number")],
)
async def test_unusable_value_is_named(
    cluster: Cluster,
    operators: Operators,
    worker: TakingWorker,
    database: Database,
    case: tuple[str, str, str],
) -> None:
    key, value, says = case
    await operators.leading()
    job_id = await failed(cluster, worker)
    await annotate(cluster, "autumn", **{key: value})
    told = await eventually(lambda: notes(cluster, "AnnotationUnusable"), what="an Event")
    assert told[0].startswith(RETRY if key == "retry" else CONFIRM)
    assert says in told[0]
    assert (await row(database, job_id)).state is JobState.FAILED


async def test_job_that_would_be_refused_now_is_not_run_again(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    job_id = await failed(cluster, worker)
    connections = ConnectionStore(database)

    async def known(wanted: bool) -> bool:
        return bool(await connections.read(cluster.namespace, ["acme-shopify"])) is wanted

    await eventually(lambda: known(True), what="the provider seen")
    await cluster.kubectl("delete", "importproviders", "acme-shopify")
    # Objects of two kinds are watched apart: the job's change could be seen before the provider's end.
    await eventually(lambda: known(False), what="the provider's end seen")
    await annotate(cluster, "autumn", retry="1")
    told = await eventually(lambda: notes(cluster, "AnnotationUnusable"), what="an Event")
    assert "there is no ImportProvider acme-shopify" in told[0]
    assert (await row(database, job_id)).state is JobState.FAILED
