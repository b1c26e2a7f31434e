"""Many jobs that lost their objects at once are not cancelled before a person has said so."""

import json
from typing import Any

import pytest
from eventually import eventually
from operator_world import Cluster, Operator, Operators

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.jobs import JobRequest, JobState, ObjectReference
from import_core.domain.vanished import Guard

MANY = 12


async def record_without_objects(cluster: Cluster, database: Database, number: int = MANY) -> list[str]:
    """Rows as of objects that were deleted while no operator ran."""
    ids = [f"gone-{index:02}" for index in range(number)]
    origins = [ObjectReference(cluster.namespace, job_id, job_id) for job_id in ids]
    await JobStore(database).record(
        [
            JobRequest(origin.uid, "acme", "acme-shopify", cluster.namespace, {}, origin, generation=1)
            for origin in origins
        ]
    )
    return ids


async def states(database: Database, ids: list[str]) -> dict[JobState, int]:
    rows = (await JobStore(database).read(ids)).values()
    return {state: sum(row.state is state for row in rows) for state in {row.state for row in rows}}


async def withheld(cluster: Cluster, database: Database) -> Guard:
    async def check() -> Guard | None:
        guard = await GuardStore(database).read(cluster.namespace)
        return guard if guard is not None and guard.withheld else None

    return await eventually(check, what="cancellations withheld")  # type: ignore[no-any-return]


async def settled(cluster: Cluster, database: Database) -> Guard:
    async def check() -> Guard | None:
        guard = await GuardStore(database).read(cluster.namespace)
        return guard if guard is not None and not guard.withheld else None

    return await eventually(check, what="a guard that has settled")  # type: ignore[no-any-return]


async def notes(cluster: Cluster, reason: str) -> list[str]:
    listed = json.loads(await cluster.kubectl("get", "events.events.k8s.io", "-o", "json"))
    return [item["note"] for item in listed["items"] if item["reason"] == reason]


async def namespace_uid(cluster: Cluster) -> str:
    return (
        await cluster.kubectl("get", "namespace", cluster.namespace, "-o", "jsonpath={.metadata.uid}")
    ).strip()


def repaired(operator: Operator, kind: str) -> list[dict[str, Any]]:
    return [entry for line in operator.logged("job.repaired") if (entry := json.loads(line))["kind"] == kind]


async def test_too_many_at_once_wait_for_a_word(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    ids = await record_without_objects(cluster, database)
    operator = await operators.leading()
    guard = await withheld(cluster, database)
    assert (guard.withheld, guard.reason, guard.confirmed_at) == (MANY, "TooManyAtOnce", None)
    assert guard.cluster_uid == await namespace_uid(cluster)
    assert await states(database, ids) == {JobState.PENDING: MANY}
    told = await eventually(lambda: notes(cluster, "CancellationsWithheld"), what="an Event")
    assert f"{MANY} of {MANY}" in told[0]

    assert await GuardStore(database).confirm(cluster.namespace, number=100, confirmed_by="me") == MANY

    async def cancelled() -> bool:
        return await states(database, ids) == {JobState.CANCELLED: MANY}

    await eventually(cancelled, what="the jobs cancelled at once")
    await settled(cluster, database)
    entries = repaired(operator, "row-without-object")
    assert sorted(entry["jobId"] for entry in entries) == ids
    assert all("confirmed by me" in entry["reason"] for entry in entries)


async def test_no_more_than_were_confirmed(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    ids = await record_without_objects(cluster, database, 30)
    await operators.leading()
    await withheld(cluster, database)
    assert await GuardStore(database).confirm(cluster.namespace, number=15, confirmed_by="me") == 15

    async def asks_again() -> bool:
        guard = await GuardStore(database).read(cluster.namespace)
        return guard is not None and guard.withheld == 15 and guard.confirmed_at is None

    await eventually(asks_again, what="the rest withheld")
    assert await states(database, ids) == {JobState.CANCELLED: 15, JobState.PENDING: 15}


async def test_another_cluster_cancels_nothing(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    ids = await record_without_objects(cluster, database, 1)
    await GuardStore(database).settle(cluster.namespace, cluster_uid="the uid that it had")
    await operators.leading()
    guard = await withheld(cluster, database)
    assert (guard.withheld, guard.reason, guard.cluster_uid) == (1, "ClusterChanged", "the uid that it had")
    assert await states(database, ids) == {JobState.PENDING: 1}
    await GuardStore(database).confirm(cluster.namespace, number=1, confirmed_by="me")
    guard = await settled(cluster, database)
    assert guard.cluster_uid == await namespace_uid(cluster)
    assert await states(database, ids) == {JobState.CANCELLED: 1}


async def test_new_cluster_without_anything_missing_is_believed(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await GuardStore(database).settle(cluster.namespace, cluster_uid="the uid that it had")
    await operators.leading()
    uid = await namespace_uid(cluster)

    async def known() -> bool:
        guard = await GuardStore(database).read(cluster.namespace)
        return guard is not None and guard.cluster_uid == uid

    await eventually(known, what="the new uid")


async def test_few_go_and_rows_without_object_never(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    ids = await record_without_objects(cluster, database, 3)
    await JobStore(database).record(
        [JobRequest(f"own-{number}", "acme", "acme-shopify", cluster.namespace, {}) for number in range(3)]
    )
    other = ObjectReference("elsewhere", "x", "elsewhere")
    await JobStore(database).record([JobRequest("elsewhere", "acme", "p", "elsewhere", {}, other)])
    await operators.leading()

    async def cancelled() -> bool:
        return await states(database, ids) == {JobState.CANCELLED: 3}

    await eventually(cancelled, what="the few cancelled")
    assert await states(database, ["own-0", "own-1", "own-2", "elsewhere"]) == {JobState.PENDING: 4}


async def test_live_object_that_lost_its_row_gets_a_new_one(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    first = await operators.leading()
    await cluster.provider()
    created = await cluster.job("autumn")
    job_id = created["metadata"]["uid"]
    await cluster.phase("autumn", "Queued")
    await first.stop()
    async with database.connection() as connection:
        await connection.execute('DELETE FROM "ProductImportJob" WHERE id = %s', (job_id,))
    second = await operators.leading()

    async def recorded() -> bool:
        return job_id in await JobStore(database).read([job_id])

    await eventually(recorded, what="a row")

    async def told() -> list[dict[str, Any]]:
        return repaired(second, "object-without-row")

    entries = await eventually(told, what="the repair in the log")
    assert [entry["jobId"] for entry in entries] == [job_id]


async def test_deletions_that_are_seen_are_not_guarded(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    created = [await cluster.job(f"job-{number:02}") for number in range(MANY)]
    ids = [body["metadata"]["uid"] for body in created]

    async def recorded() -> bool:
        return len(await JobStore(database).read(ids)) == MANY

    # One that is deleted before it is recorded never gets a row.
    await eventually(recorded, what="all recorded")
    await cluster.kubectl("delete", IMPORT_JOB.plural, "--all", "--wait=false")

    async def cancelled() -> bool:
        return await states(database, ids) == {JobState.CANCELLED: MANY}

    await eventually(cancelled, what="all cancelled")


@pytest.mark.parametrize("number", [0, -1])
async def test_confirming_nothing_confirms_nothing(database: Database, number: int) -> None:
    store = GuardStore(database)
    assert await store.confirm("imports", number=5, confirmed_by="me") == 0
    await store.withhold("imports", cluster_uid="here", number=30, reason="TooManyAtOnce")
    assert await store.confirm("imports", number=number, confirmed_by="me") == 0


async def test_a_word_that_was_given_is_not_overwritten(database: Database) -> None:
    store = GuardStore(database)
    await store.withhold("imports", cluster_uid="here", number=30, reason="TooManyAtOnce")
    assert await store.confirm("imports", number=30, confirmed_by="me") == 30
    await store.withhold("imports", cluster_uid="here", number=80, reason="TooManyAtOnce")
    guard = await store.read("imports")
    assert guard is not None
    assert (guard.withheld, guard.confirmed_by, guard.is_confirmed) == (30, "me", True)
